"""The results pages say what was measured: each is made anew of the numbers that are kept beside it."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from xenoglot.config import read_config, recipes
from xenoglot.evaluations.by_position import in_log_bins
from xenoglot.languages import MetaLMv1
from xenoglot.model_sizes import parameters_of
from xenoglot.predictors import NoisyRepeats

RESULTS = Path(__file__).parents[1] / "docs" / "results"


RECIPES = ["metalm_v1", "random_laws"]
"""Scripts that make runs of recipes."""


@pytest.fixture(params=RECIPES)
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(RESULTS)
    return importlib.import_module(request.param)


def kept(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def runs(found: Any) -> list[Any]:
    if isinstance(found, dict):
        return [run for part in found.values() for run in runs(part)]
    return list(found)


@pytest.mark.parametrize("name", [*RECIPES, "law"])
def test_a_page_is_made_of_what_was_measured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(RESULTS)
    page = (RESULTS / f"{name}.md").read_text()
    assert page == importlib.import_module(name).written(kept(name))


def test_a_run_is_of_the_recipe_that_is_shipped(script: ModuleType) -> None:
    """A recipe that is changed after its result was published makes another run."""
    for run in runs(kept(script.__name__)):
        config = read_config(recipes.path(run["run"].partition("_")[0]))  # behind it, a control and the seed
        assert (run["steps"], run["length"]) == (config.training.max_steps, config.model.max_seq_len)
        assert config.languages is not None
        model = dataclasses.replace(config.model, vocab_size=config.languages.n_tokens)
        assert run["parameters"] == parameters_of(model)


def test_what_a_run_says_of_itself_agrees(script: ModuleType) -> None:
    for run in runs(kept(script.__name__)):
        for who, (mean, half) in run["last_quarter"].items():
            assert half > 0
            if who != "model":
                model = run["last_quarter"]["model"][0]
                assert run["excess"][who][0] == pytest.approx(model - mean)
                ratio, low, high = run["ratio"][who]
                assert ratio == pytest.approx(model / mean)
                assert low < ratio < high
        assert run["excess"]["floor"][0] > 0  # nobody is below the floor on average


def test_the_curves_of_floor_and_learner_are_those_of_the_languages() -> None:
    """Drawn and measured here again, with other rows."""
    for run in runs(kept("metalm_v1")["fresh"]):
        family = read_config(recipes.path(run["run"].partition("_seed")[0])).languages
        assert isinstance(family, MetaLMv1)
        batch = family.batch(64, run["length"], seed=77, floor=True)
        learner_NT = NoisyRepeats(family=family).nats(batch.inputs, batch.targets)
        for who, nats_NT in (("floor", batch.floor_nats), ("unknown-elements", learner_NT)):
            assert nats_NT is not None
            binned = in_log_bins(nats_NT.astype(np.float64))[1].mean(axis=0)
            np.testing.assert_allclose(binned[-12:], run["curves"][who][-12:], atol=0.06, rtol=0.15)


def test_the_law_s_control_differs_in_nothing_else() -> None:
    by_words, by_law = (kept("law")["runs"][way] for way in ("words", "law"))
    assert [run["seed"] for run in by_words] == [run["seed"] for run in by_law] == [0, 1, 2]
    for one, other in zip(by_words, by_law, strict=True):
        same = ("parameters", "steps", "tokens", "flops", "rows", "length", "threads", "precision")
        assert [one[name] for name in same] == [other[name] for name in same]
        assert one["last_quarter"]["unknown-elements"] == other["last_quarter"]["unknown-elements"]
