"""The page few_shot.md, of what few_shot.py kept: nothing is measured here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xenoglot.evaluations.few_shot import Curves, curve_rows
from xenoglot.evaluations.task_means import mean_interval, paired_difference
from xenoglot.figures_adapting import draw_few_shot

BASE = "autoregressive only"
RANDOM = "random initialisation"
ALL_WEIGHTS = "all weights"
STEPS = (0, 1, 5, 10, 50)
FINE_TUNING_STEPS = (1, 5, 10, 20)
CHANCE = 0.2


class Measured:
    """What is known of one text: facts and arrays by way and seed."""

    def __init__(self, folder: Path, ways: Sequence[str], seeds: Sequence[int]) -> None:
        self.name = folder.name
        self.folder = folder
        self.places = {
            way: [place for seed in seeds if (place := folder / f"{file_name(way)}_{seed}.json").exists()]
            for way in (*ways, RANDOM)
        }
        self.places = {way: places for way, places in self.places.items() if places}

    def facts(self, way: str) -> list[Mapping[str, float]]:
        """Return what was written down about each seed's model."""
        return [json.loads(place.read_text(encoding="utf-8")) for place in self.places[way]]

    def array(self, way: str, name: str) -> NDArray[np.float64]:
        """Return a measurement of each seed's model: [seeds, tasks, steps]."""
        return np.stack([np.load(place.with_suffix(".npz"))[name] for place in self.places[way]])

    def seeds(self, way: str) -> list[str]:
        """Return which seeds are known."""
        return [place.stem.rpartition("_")[2] for place in self.places[way]]


def file_name(way: str) -> str:
    """Return what files about a way of training are called."""
    return "random" if way == RANDOM else way.replace(", ", "-").replace(" ", "-")


def fine_tuning_place(work: Path, way: str) -> Path:
    """Return where files about the fine-tuning of a way's model stand, but for their ending."""
    return work / f"fine-tuning_{file_name(way)}"


def write_page(
    work: Path, target: Path, ways: Sequence[str], seeds: Sequence[int], settings: Mapping[str, Any]
) -> None:
    """Write the page, and a picture for each text beside it."""
    folders = sorted(path for path in work.iterdir() if path.is_dir() and path.name != "tokens")
    texts = [measured for folder in folders if len((measured := Measured(folder, ways, seeds)).places) > 1]
    parts = [INTRODUCTION.format(**settings)]
    for measured in texts:
        draw_few_shot(
            {way: _rows(measured, way, "linear") for way in measured.places},
            target.with_name(f"few_shot_{measured.name}.png"),
            title=f"{measured.name}: a linear head on features of each model",
        )
        parts += _of_text(measured)
    target.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _of_text(measured: Measured) -> Iterator[str]:
    yield f"## {measured.name}"
    yield f"![Accuracy and loss by gradient steps](few_shot_{measured.name}.png)"
    yield "Held-out autoregressive loss, and what each model was trained on:"
    yield _table(["training", "seeds", "steps", "tasks", "tokens", "held-out loss, nats a token"], _training(measured))
    yield "Accuracy of a linear head after gradient steps, and of closed-form heads, on the same frozen features:"
    yield _table(["training", *(f"{n} steps" for n in STEPS), "ridge", "prototype"], _accuracies(measured))
    yield f"Difference to *{BASE}*, task by task (same seeds, same tasks):"
    yield _table(["training", "linear, 50 steps", "ridge", "prototype"], _differences(measured))
    yield "Controls: support labels permuted (linear head, 50 steps), and no step at all; chance is 0.200."
    yield _table(["training", "permuted labels", "no step, head of zeros"], _controls(measured))
    fine_tuned = {
        way: np.load(place)
        for way in measured.places
        if (place := fine_tuning_place(measured.folder, way).with_suffix(".npz")).exists()
    }
    if fine_tuned:
        n_tasks = min(len(arrays[f"{ALL_WEIGHTS}/accuracy"]) for arrays in fine_tuned.values())
        yield (
            f"All weights fine-tuned from the same head of zeros, gradients clipped to norm 1: seed 0, the first "
            f"{n_tasks} of the tasks. Differences are task by task."
        )
        of_seed = "the head alone, 20 steps"
        headings = [
            "training",
            *(f"{n} steps" for n in FINE_TUNING_STEPS),
            of_seed,
            "less the head alone",
            f"less {BASE}",
        ]
        yield _table(headings, _fine_tuned(measured, fine_tuned, n_tasks))
    else:
        yield "Fine-tuning of all weights, the slowest part, has not been measured on this text."
    if (measured.folder / "costs.json").exists():
        yield "Cost of a step on one task, one thread of a shared machine (operations are exact, times rough):"
        yield _table(["step", "MFLOP", "times", "ms", "times"], _costs(measured.folder / "costs.json"))


def _training(measured: Measured) -> Iterator[list[str]]:
    for way in measured.places:
        facts = measured.facts(way)
        losses = [fact["loss_nats"] for fact in facts if "loss_nats" in fact]
        loss = f"{np.mean(losses):.3f} ({min(losses):.3f} to {max(losses):.3f})" if losses else "–"
        counts = [_range(facts, name) for name in ("n_steps", "n_tasks", "n_autoregressive_tokens")]
        yield [way, ", ".join(measured.seeds(way)), *counts, loss]


def _range(facts: Sequence[Mapping[str, float]], name: str) -> str:
    values = sorted({int(fact.get(name, 0)) for fact in facts})
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


def _rows(measured: Measured, way: str, head: str) -> Any:
    accuracy, loss = measured.array(way, f"{head}/accuracy"), measured.array(way, f"{head}/loss_nats")
    n_steps = tuple(np.load(measured.places[way][0].with_suffix(".npz"))[f"{head}/n_steps"].tolist())
    curves = [
        Curves(n_steps=n_steps, accuracy_EK=of_seed, loss_nats_EK=losses, chance_accuracy=CHANCE)
        for of_seed, losses in zip(accuracy, loss, strict=True)
    ]
    return curve_rows(curves, {"method": head})


def _accuracies(measured: Measured) -> Iterator[list[str]]:
    for way in measured.places:
        linear = {row.slices["adaptation_steps"]: row.metrics for row in _rows(measured, way, "linear")}
        closed = [_rows(measured, way, head)[-1].metrics for head in ("ridge", "prototype")]
        yield [way, *(_written(metrics, "accuracy") for metrics in [*(linear[n] for n in STEPS), *closed])]


def _differences(measured: Measured) -> Iterator[list[str]]:
    for way in measured.places:
        if way != BASE and measured.seeds(way) == measured.seeds(BASE)[: len(measured.seeds(way))]:
            cells = []
            for head in ("linear", "ridge", "prototype"):
                own = measured.array(way, f"{head}/accuracy")[:, :, -1]
                base = measured.array(BASE, f"{head}/accuracy")[: len(own), :, -1]
                cells.append(_written(paired_difference("accuracy", own, base), "accuracy_difference", sign="+"))
            yield [way, *cells]


def _controls(measured: Measured) -> Iterator[list[str]]:
    for way in measured.places:
        permuted = measured.array(way, "permuted labels/accuracy")[:, :, -1]
        nothing = measured.array(way, "linear/accuracy")[:, :, 0]
        yield [way, *(_written(mean_interval("accuracy", values), "accuracy") for values in (permuted, nothing))]


def _fine_tuned(measured: Measured, arrays: Mapping[str, Any], n_tasks: int) -> Iterator[list[str]]:
    """Write what fine-tuning reaches, beside the linear head of the same model on the same tasks."""
    last = FINE_TUNING_STEPS[-1]
    for way, of_way in arrays.items():
        places = [of_way[f"{ALL_WEIGHTS}/n_steps"].tolist().index(n) for n in FINE_TUNING_STEPS]
        accuracy_EK = of_way[f"{ALL_WEIGHTS}/accuracy"][:n_tasks]
        cells = [_mean(accuracy_EK[:, place]) for place in places]
        head = np.load(measured.places[way][0].with_suffix(".npz"))
        head_E = head["linear/accuracy"][:n_tasks, head["linear/n_steps"].tolist().index(last)]
        cells += [_mean(head_E), _difference(accuracy_EK[:, places[-1]], head_E)]
        if way == BASE or BASE not in arrays:
            yield [way, *cells, "–"]
        else:
            base_E = arrays[BASE][f"{ALL_WEIGHTS}/accuracy"][:n_tasks, places[-1]]
            yield [way, *cells, _difference(accuracy_EK[:, places[-1]], base_E)]


def _mean(values_E: NDArray[np.float64]) -> str:
    return _written(mean_interval("accuracy", values_E[None]), "accuracy")


def _difference(first_E: NDArray[np.float64], second_E: NDArray[np.float64]) -> str:
    return _written(paired_difference("accuracy", first_E[None], second_E[None]), "accuracy_difference", sign="+")


def _costs(path: Path) -> Iterator[list[str]]:
    for row in json.loads(path.read_text(encoding="utf-8")):
        metrics = row["metrics"]
        megaflops, milliseconds = metrics["flops"] / 1e6, 1000 * metrics["seconds"]
        yield [
            row["slices"]["step"],
            f"{megaflops:,.0f}",
            f"{metrics['flops_ratio']:.2f}",
            f"{milliseconds:,.0f}",
            f"{metrics['seconds_ratio']:.2f}",
        ]


def _written(metrics: Mapping[str, float], name: str, sign: str = "") -> str:
    return f"{metrics[name]:{sign}.3f} ± {metrics[f'{name}_high'] - metrics[name]:.3f}".replace("-", "−")


def _table(headings: Sequence[str], lines: Iterator[list[str]]) -> str:
    rows = [list(headings), ["---"] * len(headings), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


INTRODUCTION = """\
# Few-shot learning after prediction, after SMLMT, and after both in turn

Made by `python docs/results/few_shot.py wikitext2-valid.txt tinyshakespeare.txt`, one thread; nothing here is written
by hand but these sentences.

Decoders of 4 layers and width 128, BPE of 1,024 ids trained on each text, rows and sentences of at most 64 tokens.
Every way of training has the operations of {budget_steps} steps of next-token prediction on 1,536 tokens, counted by
torch: far too little to learn a language, and enough to compare. A task is 5 words, 4 sentences each to adapt to and 2
to be judged by; in training a linear head of zeros takes 10 gradient steps at rate 0.1 on features of the final token.

Measured on the same 600 tasks of the test split, whose words and sentences are in no task of training. (Next-token
prediction reads the whole training part of the text, the sentences of test tasks included, without labels; SMLMT alone
never does.) The rate of the linear head is chosen for each model on 50 validation tasks. ± is the 95 % interval over
tasks and seeds of `xenoglot.evaluations.task_means`, which errs on the wide side: with three seeds Student's quantile
is 4.3. *{random}* is the same decoder before any step.

## What came out

{conclusion}"""
