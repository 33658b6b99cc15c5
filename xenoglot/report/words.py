"""A run in words and tables: what came of it, how it was set, and where it ran."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from xenoglot.report.charts import short
from xenoglot.report.reading import Evaluated, RunRecord, number

__all__ = ["Tile", "changed_options", "differing_options", "final_figures", "result_in_words", "spelled", "tiles"]

NAME = "checkpointing.run_name"
"""Differs between any two runs, and heads their columns."""


class Tile(NamedTuple):
    """One figure that sums up something.

    Attributes:
        label: What it is.
        value: The number, written.
        unit: Of what.
    """

    label: str
    value: str
    unit: str


def result_in_words(record: RunRecord) -> list[str]:
    """Say what came of a run; nothing if it was never evaluated."""
    last, whole = record.final.one(part="last quarter"), record.final.one(part="whole")
    if "loss_nats" not in last or "loss_nats" not in whole:
        return []
    after = f"After {max(record.evaluations):,} steps the model"
    if "floor_nats" not in last:
        sentence = f"{after} loses {_with_interval(whole, 'loss_nats')} nats a token on what was held out"
        bits = f", {_with_interval(whole, 'bits_per_byte')} bits a byte" if "bits_per_byte" in whole else ""
        return [f"{sentence}{bits}. {_guessing(whole)}", *_score(record.final)]
    sentences = [
        f"{after} loses {_with_interval(last, 'loss_nats')} nats a token over the last quarter of languages that it "
        f"has never read before. {_guessing(last)}",
        f"One who knows the language loses {last['floor_nats']:.3f}{_best_learner(record)}.",
    ]
    return [*sentences, *_nearness(record), *_score(record.final)]


def tiles(record: RunRecord) -> list[Tile]:
    """Return the few figures that sum up a run."""
    last, whole, summary = (
        record.final.one(part="last quarter"),
        record.final.one(part="whole"),
        record.final.one(summary="learning in context"),
    )
    found = []
    if "excess_nats" in last:
        found.append(Tile("loss, last quarter", f"{last['loss_nats']:.3f}", "nats a token"))
        found.append(Tile("above the floor", f"{last['excess_nats']:.3f}", "nats a token"))
    elif "loss_nats" in whole:
        found.append(Tile("held-out loss", f"{whole['loss_nats']:.3f}", "nats a token"))
    if "bits_per_byte" in whole:
        found.append(Tile("held-out text", f"{whole['bits_per_byte']:.3f}", "bits a byte"))
    if "epsilon_nats" in summary:
        needed = summary.get("tokens_to_epsilon")
        value, unit = ("never", "in this context") if needed is None else (f"{needed:,.0f}", "tokens read")
        found.append(Tile(f"within {summary['epsilon_nats']:g} nats of the floor", value, unit))
    if "in_context_score_nats" in summary:
        found.append(Tile("in-context score", _signed(summary["in_context_score_nats"]), "nats, late minus early"))
    speeds = [speed for line in record.metrics if (speed := number(line.get("tokens_per_second"))) is not None]
    if speeds:
        found.append(Tile("speed", short(statistics.median(speeds)), "tokens a second"))
    return found


def final_figures(records: Sequence[RunRecord]) -> tuple[list[str], list[list[str]]]:
    """Return a table of all runs' figures: its headings, and a line for each run after its name."""
    by_run = [{f"{tile.label}, {tile.unit}": tile.value for tile in tiles(record)} for record in records]
    never = {name for figures in by_run for name, value in figures.items() if value == "never"}
    by_run = [
        {
            name.replace("in this context", "tokens read") if name in never else name: value
            for name, value in run.items()
        }
        for run in by_run
    ]
    headings = list(dict.fromkeys(name for figures in by_run for name in figures))
    lines = [
        [f"{record.last_step:,}", *(figures.get(name, "–") for name in headings)]
        for record, figures in zip(records, by_run, strict=True)
    ]
    return ["steps", *headings], lines


def changed_options(record: RunRecord) -> list[tuple[str, str, str]]:
    """List what was set otherwise than by default: path, value, default."""
    return [
        (path, spelled(value), spelled(record.defaults[path]) if path in record.defaults else "–")
        for path, value in record.config.items()
        if record.defaults and (path not in record.defaults or record.defaults[path] != value)
    ]


def differing_options(records: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """List the options that are not the same in all runs, with the value in each."""
    paths = [path for path in dict.fromkeys(path for record in records for path in record.config) if path != NAME]
    table = [
        (path, [spelled(record.config[path]) if path in record.config else "–" for record in records]) for path in paths
    ]
    return [(path, values) for path, values in table if len(set(values)) > 1]


def spelled(value: Any) -> str:
    """Write a value as configuration files do.

    Example:
        >>> [spelled(value) for value in (None, True, 0.01, [1, 2], "book.txt")]
        ['none', 'true', '0.01', '1, 2', 'book.txt']
    """
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return (" / " if any(isinstance(each, dict) for each in value) else ", ").join(map(spelled, value)) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{name}: {spelled(each)}" for name, each in value.items()) or "none"
    return str(value)


def _guessing(metrics: Mapping[str, float]) -> str:
    return f"Guessing costs {metrics['uniform_nats']:.3f}." if "uniform_nats" in metrics else ""


def _best_learner(record: RunRecord) -> str:
    """Say what the best learner loses, or the best of the simple ones where none suits the family."""
    found = record.references.by("predictor", exactness="near-exact", part="last quarter")
    found += record.references.by("predictor", exactness="exact", part="last quarter")
    if found:
        predictor, metrics = min(found, key=lambda each: each[1]["loss_nats"])
        return f", the best learner who does not know it {metrics['loss_nats']:.3f} ({predictor})"
    bounds = record.references.by("predictor", exactness="bound", part="last quarter")
    if bounds:
        predictor, metrics = min(bounds, key=lambda each: each[1]["loss_nats"])
        return f", a simple learner who does not know it {metrics['loss_nats']:.3f} ({predictor})"
    return ""


def _nearness(record: RunRecord) -> Iterator[str]:
    summary = record.final.one(summary="learning in context")
    if "epsilon_nats" not in summary:
        return
    epsilon = f"{summary['epsilon_nats']:g} nats"
    if "tokens_to_epsilon" in summary:
        low, high = (summary.get(f"tokens_to_epsilon_{end}") for end in ("low", "high"))
        ends = "" if low is None else f" ({low:,.0f} to {'never' if high is None else format(high, ',.0f')})"
        yield (
            f"It comes within {epsilon} of the floor, and stays there, after {summary['tokens_to_epsilon']:,.0f}"
            f"{ends} tokens."
        )
    else:
        yield f"It does not come within {epsilon} of the floor and stay there."
    for exactness in ("near-exact", "exact"):
        for predictor, metrics in record.references.by("predictor", exactness=exactness, summary="learning in context"):
            if "tokens_to_epsilon" in metrics:
                yield f"The best learner ({predictor}) needs {metrics['tokens_to_epsilon']:,.0f} tokens."


def _score(rows: Evaluated) -> Iterator[str]:
    summary = rows.one(summary="learning in context")
    if "in_context_score_nats" in summary:
        score = _signed(summary["in_context_score_nats"])
        low, high = (summary.get(f"in_context_score_nats_{end}", 0.0) for end in ("low", "high"))
        says = "Reading on helps" if high < 0 else "Reading on does harm" if low > 0 else "Reading on hardly matters"
        ends = f" ({_signed(low)} to {_signed(high)})" if low < high else ""
        yield f"{says}: the in-context score, late loss minus early loss, is {score}{ends} nats."


def _with_interval(metrics: Mapping[str, float], name: str) -> str:
    """Write a mean with its 95 % interval, as far as it is known."""
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    return f"{metrics[name]:.3f}" + ("" if low is None or high is None else f" ({low:.3f} to {high:.3f})")


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
