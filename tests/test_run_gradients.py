"""Gradients at a checkpoint against whole backward passes, for runs that predict and runs that learn to adapt."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from configurations import TINY

from xenoglot import measures, run
from xenoglot.adaptation import MetaLearner
from xenoglot.analysis import AnalysisConfig, analyze
from xenoglot.analysis.config import GradientsConfig, InductionConfig
from xenoglot.analysis.tables import grids
from xenoglot.checkpoint import Checkpoint
from xenoglot.checkpoint_folders import checkpoint_folder
from xenoglot.config import default_config, with_overrides
from xenoglot.decoder import Decoder
from xenoglot.errors import DataError, OptionError
from xenoglot.rng import generator
from xenoglot.run_gradients import GradientRows, gradient_statistics

SMALL = TINY | {"data.dataloader.batch_size": 4, "model.n_layers": 2, "evaluation.reference_predictors": False}
ADAPTING = {"smlmt.enabled": True, "smlmt.inner_steps": 2, "smlmt.tasks_per_step": 1, "smlmt.k_shot": 2}
LEARNED_RATES = {"smlmt.adapts": "all", "smlmt.learn_inner_lr": "per-step", "smlmt.hybrid_ratio": 1.0}
SENTENCES = [f"the {a} {b} a {c} near {d}." for a in ("red", "blue", "old") for b in ("cat saw", "dog heard")
             for c in ("bird", "fish", "horse") for d in ("town", "home", "water", "trees")]  # fmt: skip
OF_TEXT = {"smlmt.n_way": 2, "smlmt.q_query": 2, "smlmt.classifier_head.hidden_dim": 8, "training.max_steps": 3}


def made(folder: Path, name: str, **given: object) -> Path:
    text = given.pop("text", None)
    options = SMALL | {"checkpointing.runs_dir": str(folder), "checkpointing.run_name": name} | given
    config = default_config() if text is None else default_config(text=text)
    return run.start(with_overrides(config, options)).folder


@pytest.fixture(scope="module")
def predicting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("runs"), "predicting", **{"checkpointing.save_every_n_steps": 2})


@pytest.fixture(scope="module")
def adapting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("runs"), "adapting", **ADAPTING, **LEARNED_RATES)


@pytest.fixture(scope="module")
def on_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    (folder / "text.txt").write_text("\n".join(SENTENCES) + "\n")
    changed = {"model.max_seq_len": 48, "data.tokenizer.name": "bytes"}
    return made(folder, "text", text=str(folder / "text.txt"), **(ADAPTING | OF_TEXT | changed))


def gradients(loss: torch.Tensor, model: Decoder) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {
        name.removesuffix(".weight"): torch.zeros_like(each) if each.grad is None else each.grad.clone()
        for name, each in model.named_parameters()
    }


def of_rows(model: Decoder, rows: GradientRows) -> list[dict[str, torch.Tensor]]:
    """The gradient of each part, by the plain logits."""
    losses: Iterator[torch.Tensor] = (
        torch.nn.functional.cross_entropy(model(part.inputs_BT).transpose(1, 2), part.targets_BT) for part in rows.parts
    )
    return [gradients(loss, model) for loss in losses]


def of_tasks(model: Decoder, rows: GradientRows, learner: MetaLearner) -> list[dict[str, torch.Tensor]]:
    return [
        gradients(learner(model, batch.tasks[0], generator(batch.seeds[0], "adaptation")).loss, model)
        for batch in rows.tasks
    ]


def flat(parts: list[dict[str, torch.Tensor]], names: list[str]) -> torch.Tensor:
    return torch.stack([torch.cat([part[name].flatten() for name in names]) for part in parts])


def check(numbers, parts_PD: torch.Tensor, tasks_PD: torch.Tensor | None, rows_per_part: int) -> None:
    noise_scale, cosine = measures.get("gradient_noise_scale"), measures.get("gradient_cosine")
    expected = [float(parts_PD.mean(dim=0).norm()), rows_per_part * noise_scale(parts_PD)]
    if tasks_PD is None:
        expected += [math.nan] * 3
    else:
        between = cosine(parts_PD.mean(dim=0), tasks_PD.mean(dim=0))
        expected += [float(tasks_PD.mean(dim=0).norm()), noise_scale(tasks_PD), between]
    assert list(dataclasses.astuple(numbers)) == pytest.approx(expected, rel=2e-3, abs=1e-6, nan_ok=True)


def test_prediction_by_itself(predicting):
    rows = GradientRows.of_run(predicting, n_parts=5, rows_per_part=3)
    found = gradient_statistics(checkpoint_folder(predicting, 2), rows)
    model = Decoder.from_pretrained(checkpoint_folder(predicting, 2))
    parts = of_rows(model, rows)
    assert found.step == 2
    assert len(rows.parts) == 5
    assert all(part.inputs_BT.shape == (3, 16) for part in rows.parts)
    check(found.whole, flat(parts, list(parts[0])), None, 3)
    assert list(found.layers) == list(parts[0])
    for name, numbers in found.layers.items():
        check(numbers, flat(parts, [name]), None, 3)


def test_learning_to_adapt_to_languages(adapting):
    rows = GradientRows.of_run(adapting, n_parts=4, n_tasks=3)
    found = gradient_statistics(checkpoint_folder(adapting, 4), rows)
    checkpoint = Checkpoint(folder=checkpoint_folder(adapting, 4), step=4)
    model = Decoder.from_pretrained(checkpoint.folder)
    learner = MetaLearner(rows.config.smlmt, None, model)
    learned = {name: value for name, value in checkpoint.read()[1].tensors.items() if "log_rates" in name}
    [rates] = [value for name, value in learned.items() if name.startswith("objective:")]
    assert not torch.equal(rates, learner.rates.log_rates["everything"].detach())  # the run has changed them
    with torch.no_grad():
        learner.rates.log_rates["everything"].copy_(rates)
    parts, tasks = of_rows(model, rows), of_tasks(model, rows, learner)
    assert abs(found.whole.cosine) > 1e-3
    check(found.whole, flat(parts, list(parts[0])), flat(tasks, list(parts[0])), 2)
    for name, numbers in found.layers.items():
        check(numbers, flat(parts, [name]), flat(tasks, [name]), 2)


def test_learning_to_adapt_to_sentences(on_text):
    rows = GradientRows.of_run(on_text, n_parts=3, rows_per_part=1, n_tasks=2)
    found = gradient_statistics(checkpoint_folder(on_text, 3), rows)
    assert math.isfinite(found.whole.cosine)
    assert math.isnan(found.layers["lm_head"].cosine)  # tasks of sentences do not read it
    assert found.layers["lm_head"].meta_norm == 0
    assert found.layers["model.norm"].meta_norm > 0


def test_rows_are_drawn_anew_and_the_same_every_time(predicting):
    first, second = (GradientRows.of_run(predicting, n_parts=3) for _ in range(2))
    for one, other in zip(first.parts, second.parts, strict=True):
        assert torch.equal(one.inputs_BT, other.inputs_BT)
    stacked = torch.cat([part.inputs_BT for part in first.parts])
    assert len(stacked.unique(dim=0)) == 6


def test_the_same_numbers_without_rows(predicting):
    folder = checkpoint_folder(predicting, 4)
    again = gradient_statistics(str(folder), GradientRows.of_run(predicting))
    assert repr(gradient_statistics(folder)) == repr(again)  # equal as text: nan is not equal to itself


@pytest.mark.parametrize("sizes", [{"n_parts": 1}, {"n_tasks": 1}, {"rows_per_part": 5}, {"rows_per_part": 0}])
def test_too_few_or_too_many_are_said(predicting, sizes):
    with pytest.raises(OptionError, match=f"^{next(iter(sizes))}: got {next(iter(sizes.values()))}; allowed: "):
        GradientRows.of_run(predicting, **sizes)


def test_what_is_no_whole_checkpoint_of_a_run_is_said(predicting, tmp_path):
    with pytest.raises(DataError, match=r"no config\.yaml"):
        GradientRows.of_run(tmp_path)
    with pytest.raises(DataError, match="allowed: a whole checkpoint"):
        gradient_statistics(predicting)
    with pytest.raises(DataError, match="allowed: a whole checkpoint"):
        gradient_statistics(tmp_path / "step_3")


def test_an_analysis_follows_them_over_steps(adapting):
    config = AnalysisConfig(
        induction=InductionConfig(enabled=False),
        gradients=GradientsConfig(n_parts=4, rows_per_part=1, n_tasks=2, layer_suffixes=("attention.v_proj",)),
    )
    rows = GradientRows.of_run(adapting, n_parts=4, rows_per_part=1, n_tasks=2)
    [analysis] = analyze([adapting], config)
    steps = sorted({each.step for each in analysis.findings})
    assert steps
    for step in steps:
        expected = gradient_statistics(checkpoint_folder(adapting, step), rows)
        found = {(each.metric, each.layer): each.value for each in analysis.findings if each.step == step}
        layers = [f"model.layers.{block}.self_attn.v_proj" for block in range(2)]
        assert {layer for _, layer in found} == {"all weights", *layers}
        for layer, numbers in [("all weights", expected.whole), *((name, expected.layers[name]) for name in layers)]:
            assert found["gradient_norm", layer] == numbers.norm
            assert found["meta_gradient_norm", layer] == numbers.meta_norm
            assert found["meta_gradient_cosine", layer] == pytest.approx(numbers.cosine, nan_ok=True)
    titles = {grid.title for grid in grids(analysis.findings)}
    assert "Cosine between the gradients of prediction and of learning to adapt" in titles


def test_an_analysis_goes_on_where_the_data_is_gone(on_text, tmp_path):
    moved = shutil.copytree(on_text, tmp_path / "moved")
    text = moved / "config.yaml"
    text.write_text(text.read_text().replace("text.txt", "gone.txt"))
    [analysis] = analyze([moved], AnalysisConfig(induction=InductionConfig(enabled=False)))
    assert analysis.findings == []
    assert any("gone.txt" in note for note in analysis.notes)
