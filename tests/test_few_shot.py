"""Few-shot evaluation: against a plain optimizer, its controls, its intervals, and what it leaves behind."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from synthetic_tasks import decoder, episode
from torch import nn

from xenoglot.adaptation import AdaptationConfig, ClassifierHeadConfig, MetaLearner
from xenoglot.episodes import Episode, EpisodeSource
from xenoglot.errors import OptionError
from xenoglot.evaluations.base import Row, headline
from xenoglot.evaluations.costs import backward_flops, meta_step_costs
from xenoglot.evaluations.few_shot import FewShot
from xenoglot.evaluations.task_means import mean_interval, paired_difference
from xenoglot.report.few_shot import few_shot_charts
from xenoglot.report.reading import Evaluated, RunRecord
from xenoglot.rng import generator

N_WAY = 3


class Synthetic(EpisodeSource):
    """Tasks that a token tells, other ones in each split; it remembers what was asked for."""

    name: ClassVar[str] = "synthetic"

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def __call__(self, index: int, split: str = "train") -> Episode:
        self.asked.add(split)
        return episode(seed=3 * index + ("train", "validation", "test").index(split), n_way=N_WAY)

    def fingerprint(self) -> dict[str, Any]:
        return {"kind": self.name}


def learner(kind: str = "linear", init: str = "zero", model: nn.Module | None = None, **options: Any) -> MetaLearner:
    config = AdaptationConfig(**{"inner_lr": 0.5, **options})
    head = ClassifierHeadConfig(kind=kind, init_method=init, hidden_dim=8)
    return MetaLearner(config, head, model or decoder()).double()


def test_every_task_equals_an_optimizer_on_features_of_its_own() -> None:
    """The plain twin: features by the decoder itself, a linear module, and torch's SGD."""
    model, steps = decoder(), (0, 1, 3, 7)
    curves = FewShot(tasks=Synthetic(), learners={"a": learner()}, n_episodes=4, n_steps=steps).measure(
        model, learner(), seed=0
    )
    for index in range(4):
        task = Synthetic()(index, "test")
        head = nn.Linear(8, N_WAY)
        nn.init.zeros_(head.weight), nn.init.zeros_(head.bias)
        head.double()
        optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
        features = {}
        for part in ("support", "query"):
            examples = getattr(task, part)
            with torch.no_grad():
                hidden = model.model(examples.token_ids_NT)
            features[part] = hidden[torch.arange(len(hidden)), examples.lengths_N - 1]
        for step in range(max(steps) + 1):
            if step in steps:
                logits = head(features["query"])
                loss = nn.functional.cross_entropy(logits, task.query.labels_N).item()
                right = (logits.argmax(1) == task.query.labels_N).double().mean().item()
                assert curves.loss_nats_EK[index, steps.index(step)] == pytest.approx(loss, rel=1e-9)
                assert curves.accuracy_EK[index, steps.index(step)] == pytest.approx(right)
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(features["support"]), task.support.labels_N).backward()
            optimizer.step()


@pytest.mark.parametrize("kind", ["linear", "mlp", "ridge", "prototype", "generated"])
def test_many_tasks_at_once_are_each_as_alone(kind: str) -> None:
    model = decoder()
    evaluation = FewShot(tasks=Synthetic(), learners={"a": learner()}, n_episodes=53, n_steps=(0, 2, 5))
    together = evaluation.measure(model, learner(kind, "xavier"), seed=1)
    alone = evaluation.measure(model, learner(kind, "xavier", inner_clip_norm=1e9), seed=1)
    np.testing.assert_allclose(together.loss_nats_EK, alone.loss_nats_EK, rtol=1e-6)
    np.testing.assert_allclose(together.accuracy_EK, alone.accuracy_EK, atol=1e-6)


def test_nothing_is_known_without_the_support_set_and_much_with_it() -> None:
    evaluation = FewShot(tasks=Synthetic(), learners={"probe": learner()}, n_episodes=150, n_steps=(0, 50))
    rows = evaluation(decoder(), generator(0))
    by_slices = {(row.slices.get("control"), row.slices.get("adaptation_steps")): row.metrics for row in rows}
    assert by_slices[None, 0]["accuracy"] == pytest.approx(1 / N_WAY)
    assert by_slices[None, 0]["loss_nats"] == pytest.approx(math.log(N_WAY))
    control = by_slices["permuted support labels", 50]
    assert control["accuracy_low"] < 1 / N_WAY < control["accuracy_high"]
    assert by_slices[None, 50]["accuracy_low"] > 1 / N_WAY + 0.05
    assert by_slices[None, 50]["n_episodes"] == 150
    followed = headline(rows)
    assert followed["evaluation/few_shot_accuracy"] == by_slices[None, 50]["accuracy"]


def test_it_leaves_the_model_as_it_was_and_repeats_itself() -> None:
    model = decoder()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    state = torch.get_rng_state()
    every = learner(adapts="all", model=model)
    evaluation = FewShot(tasks=Synthetic(), learners={"head": learner(), "all": every}, n_episodes=3, n_steps=(0, 2))
    rows = evaluation(model, generator(5))
    assert rows == evaluation(model, generator(5))
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training


def test_a_rate_is_chosen_on_other_tasks_than_are_measured() -> None:
    tasks = Synthetic()
    evaluation = FewShot(tasks=tasks, learners={"a": learner()}, n_episodes=5, n_steps=(0, 1, 5))
    tuned = evaluation.tuned(decoder(), learner("generated", "xavier"), 0, (0.0, 0.1, 1e4), n_episodes=20)
    assert tasks.asked == {"validation"}
    assert tuned.config.inner_lr == 0.1
    shared = learner("generated", "xavier").state_dict()
    assert all(torch.equal(value, shared[name]) for name, value in tuned.state_dict().items() if "rates" not in name)


@pytest.mark.parametrize(
    "change", [{"n_episodes": 1}, {"learners": {}}], ids=["no interval from one task", "nothing to measure"]
)
def test_what_cannot_be_measured_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(change))):
        dataclasses.replace(FewShot(tasks=Synthetic(), learners={"a": learner()}), **change)


def test_a_wrapped_model_is_refused() -> None:
    evaluation = FewShot(tasks=Synthetic(), learners={"a": learner()})
    with pytest.raises(OptionError, match="bare Decoder"):
        evaluation(nn.Sequential(decoder()), generator(0))


def test_intervals_over_tasks_and_seeds_hold_what_they_promise() -> None:
    """Crossed effects of tasks, of seeds and of both: at least 95 % of the intervals hold the truth."""
    draws = np.random.default_rng(0)
    n_runs, n_seeds, n_tasks = 400, 3, 60
    tasks = draws.normal(0, 0.3, (n_runs, 1, n_tasks))
    seeds = draws.normal(0, 0.05, (n_runs, n_seeds, 1))
    both = draws.normal(0, 0.2, (n_runs, n_seeds, n_tasks))
    held = 0
    for values in 0.4 + tasks + seeds + both:
        ends = mean_interval("x", values)
        held += ends["x_low"] <= 0.4 <= ends["x_high"]
    assert held / n_runs > 0.93


def test_the_same_tasks_tell_models_apart_that_others_would_not() -> None:
    draws = np.random.default_rng(1)
    difficulty = draws.normal(0.5, 0.2, (1, 100))
    first, second = difficulty + draws.normal(0.03, 0.02, (1, 100)), difficulty
    difference = paired_difference("accuracy", first, second)
    assert difference["accuracy_difference_low"] > 0
    assert mean_interval("accuracy", first)["accuracy_low"] < mean_interval("accuracy", second)["accuracy_high"]


def test_operations_are_those_counted_by_hand() -> None:
    """A step of a linear head in first order: its forward and backward pass on the support set."""
    of_pass = 2 * 6 * 8 * N_WAY  # six sentences, eight numbers of a feature
    of_step = 2 * of_pass  # forward, and the gradient of the matrix; features have none
    flops = [
        backward_flops(lambda k=k: learner(order="first", inner_steps=k)(decoder(), episode(), generator(0)).loss)
        for k in (0, 1, 4)
    ]
    assert flops[1] - flops[0] == of_step + 2 * of_pass  # both sets are also measured before the first step
    assert flops[2] - flops[1] == 3 * of_step


def test_costs_are_over_next_token_prediction_on_the_same_sentences() -> None:
    model = decoder()
    ways = {"first": learner(order="first", model=model), "exact": learner(order="exact", model=model)}
    rows = {row.slices["step"]: row.metrics for row in meta_step_costs(model, ways, [episode()])}
    [peer, *_] = rows.values()
    assert (peer["flops_ratio"], peer["seconds_ratio"]) == (1.0, 1.0)
    assert rows["first"]["flops"] < rows["exact"]["flops"]
    assert all(weight.grad is None for weight in model.parameters())


# --- in the report ---------------------------------------------------------------------------------------------------


def record(rows: list[Row]) -> RunRecord:
    return RunRecord(name="run", evaluations={40: Evaluated(rows=[row.to_mapping() for row in rows])})


def test_the_page_shows_what_was_measured() -> None:
    evaluation = FewShot(tasks=Synthetic(), learners={"a": learner()}, n_episodes=20, n_steps=(0, 5, 50))
    group = few_shot_charts([record(evaluation(decoder(), generator(0)))])
    assert group is not None
    titles = [wide.title for wide, _ in group.charts]
    assert len(titles) == 3
    assert titles[0] == "Accuracy on held-out tasks"
    labels = [curve["label"] for curve in group.charts[0][0].hover]
    assert labels == ["chance", "run"]


@pytest.mark.parametrize(
    "slices",
    [{"part": "whole"}, {"adaptation_steps": "x", "method": "a"}, {"adaptation_steps": 3}],
    ids=["other rows", "no number", "no method"],
)
def test_the_page_shows_nothing_where_nothing_was_measured(slices: dict[str, Any]) -> None:
    assert few_shot_charts([record([Row(slices=slices, metrics={"accuracy": 0.5})])]) is None
    assert few_shot_charts([RunRecord(name="empty")]) is None
