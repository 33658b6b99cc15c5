"""Few-shot learning: how well held-out tasks are solved after some gradient steps, or by a head in closed form.

Tasks are those of one split, which share neither words nor sentences with those of another, and they are the same for
whatever is measured: so two models, or two ways of adapting, can be compared task by task (`paired_difference`). Two
controls say that a task cannot be solved without its support set: before any step, and when the support set's labels
are permuted, one answer in n_way is right.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from xenoglot.adaptation import AdaptationConfig, MetaLearner
from xenoglot.adaptation.reading import Reader, joined
from xenoglot.adaptation.stacks import TaskStack
from xenoglot.adaptation.tasks import FeatureTask
from xenoglot.decoder import Decoder
from xenoglot.episodes import Episode, EpisodeSource
from xenoglot.errors import OptionError
from xenoglot.evaluations.base import Evaluation, Row
from xenoglot.evaluations.task_means import mean_interval, paired_difference
from xenoglot.languages.base import Floats
from xenoglot.options import check_options, option
from xenoglot.rng import MAX_SEED, derive, generator

__all__ = ["STEPS", "Curves", "Features", "FewShot", "curve_rows", "difference_rows"]

STEPS = (0, 1, 2, 5, 10, 20, 50)
"""Gradient steps after which a task is measured; they go on past those of training."""
TASKS_AT_ONCE = 50


@dataclass(frozen=True, kw_only=True)
class Curves:
    """What came of every task.

    Attributes:
        n_steps: After how many gradient steps it was measured, K numbers.
        loss_nats_EK: Mean loss of each task's query set, float64.
        accuracy_EK: Share of right answers there.
        chance_accuracy: One in so many answers is right by chance.
    """

    n_steps: tuple[int, ...]
    loss_nats_EK: Floats
    accuracy_EK: Floats
    chance_accuracy: float


class Features:
    """What one model made of one source's tasks: sentences are encoded once, however many ways of adapting follow."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}

    def of(self, decoder: Decoder, episode: Episode, index: int, readout: str) -> tuple[Tensor, Tensor]:
        """Return the features of a task's support and query set, without graph."""
        if (readout, index) not in self._known:
            with torch.no_grad():
                sentences = joined(episode.support, episode.query)
                features_ND = Reader(decoder.config, readout).features(decoder, sentences)
            support_ND, query_ND = features_ND.tensor_split([len(episode.support.labels_N)])
            self._known[readout, index] = support_ND, query_ND
        return self._known[readout, index]


@dataclass(frozen=True, kw_only=True)
class FewShot(Evaluation):
    """Accuracy and loss on held-out tasks after some gradient steps, for one way of adapting or several.

    Rows have slices "method" and "adaptation_steps", and those of the control "control" besides. A summary row says
    what the first method reaches at its own number of steps.

    Args:
        tasks: Where the tasks are drawn from.
        learners: Ways of adapting, by name.
        n_steps: After how many gradient steps; `STEPS` unless given.
    """

    name: ClassVar[str] = "few-shot"

    tasks: EpisodeSource
    learners: Mapping[str, MetaLearner]
    split: str = option(
        "test", "whose tasks; those of train were learned from", choices=("train", "validation", "test")
    )
    n_episodes: int = option(600, "tasks, at least 2, for an interval", unit="tasks", minimum=2)
    n_steps: tuple[int, ...] = STEPS
    has_control: bool = option(True, "whether permuted support labels are measured too, after the most steps")

    def __post_init__(self) -> None:
        check_options(self)
        if not self.learners:
            raise OptionError("learners", {}, "at least one way of adapting")

    def __call__(self, model: nn.Module, rng: np.random.Generator) -> list[Row]:
        """Return accuracy and loss of every method after every number of steps, with their intervals."""
        seed, features = int(rng.integers(MAX_SEED, endpoint=True)), Features()
        rows, summaries = list[Row](), list[Row]()
        for name, learner in self.learners.items():
            curves = self.measure(model, learner, seed, features)
            rows += curve_rows([curves], {"method": name})
            summaries.append(_summary(curves, learner.config.inner_steps))
            if self.has_control:
                last = dataclasses.replace(self, n_steps=self.n_steps[-1:])
                permuted = last.measure(model, learner, seed, features, are_labels_permuted=True)
                rows += curve_rows([permuted], {"method": name, "control": "permuted support labels"})
        return [*rows, summaries[0]]

    def measure(
        self,
        model: nn.Module,
        learner: MetaLearner,
        seed: int,
        features: Features | None = None,
        *,
        are_labels_permuted: bool = False,
    ) -> Curves:
        """Adapt a model to each task by one way.

        Args:
            model: A bare `Decoder`.
            learner: The way.
            seed: What heads are drawn from, the same for a task whatever adapts to it.
            features: What this very model made of the same tasks before; remembered here for the next time.
            are_labels_permuted: Whether the support set's labels say nothing, as a control.

        Raises:
            OptionError: If the model is no bare decoder.
        """
        decoder = _checked(model)
        device = next(decoder.parameters()).device
        episodes = (self.tasks(index, self.split).to(device) for index in range(self.n_episodes))
        if are_labels_permuted:
            episodes = (_permuted(episode, seed, index) for index, episode in enumerate(episodes))
        if _can_be_stacked(learner):
            tasks = _feature_tasks(decoder, learner, episodes, seed, features or Features())
            loss_nats_EK, accuracy_EK = _measured_together(learner, tasks, self.n_steps)
        else:
            loss_nats_EK, accuracy_EK = _measured_one_by_one(decoder, learner, episodes, seed, self.n_steps)
        return Curves(
            n_steps=self.n_steps,
            loss_nats_EK=loss_nats_EK,
            accuracy_EK=accuracy_EK,
            chance_accuracy=1 / self.tasks(0, self.split).n_way,
        )

    def tuned(
        self, model: nn.Module, learner: MetaLearner, seed: int, rates: Sequence[float], *, n_episodes: int = 50
    ) -> MetaLearner:
        """Return the way of adapting with the fixed rate that loses least on tasks of the validation split.

        So that no baseline suffers from a rate that suits another: a rate counts by its best number of steps.

        Args:
            model: What adapts.
            learner: The way; its head's own parameters are kept.
            seed: As in `measure`.
            rates: What to choose from.
            n_episodes: Tasks that the choice is made on.
        """
        validation = dataclasses.replace(self, split="validation", n_episodes=n_episodes)
        tried, features = [_with_rate(learner, _checked(model), rate) for rate in rates], Features()
        curves = [validation.measure(model, each, seed, features) for each in tried]
        losses = [np.nan_to_num(each.loss_nats_EK.mean(axis=0), nan=np.inf).min() for each in curves]
        return tried[int(np.argmin(losses))]


def curve_rows(seeds: Sequence[Curves], slices: Mapping[str, str | int]) -> list[Row]:
    """Return a row for each number of steps: means over tasks, and over models that differ in their seed only.

    Args:
        seeds: Of each model, on the same tasks.
        slices: What the rows are about, besides.
    """
    first = seeds[0]
    n_episodes = len(first.loss_nats_EK)
    rows = []
    for place, n_steps in enumerate(first.n_steps):
        metrics = mean_interval("accuracy", np.stack([curves.accuracy_EK[:, place] for curves in seeds]))
        metrics |= mean_interval("loss_nats", np.stack([curves.loss_nats_EK[:, place] for curves in seeds]))
        counts = {"chance_accuracy": first.chance_accuracy, "n_episodes": n_episodes, "n_seeds": len(seeds)}
        rows.append(Row(slices={**slices, "adaptation_steps": n_steps}, metrics=metrics | counts))
    return rows


def difference_rows(first: Sequence[Curves], second: Sequence[Curves], slices: Mapping[str, str | int]) -> list[Row]:
    """Return how much more the first have than the second on the same tasks, a row for each number of steps.

    Args:
        first: Of each model, on the same tasks.
        second: Of the models that they are compared with, seed by seed.
        slices: What the rows are about, besides.
    """
    rows = []
    for place, n_steps in enumerate(first[0].n_steps):
        metrics: dict[str, float] = {}
        for name in ("accuracy", "loss_nats"):
            own, others = (np.stack([getattr(each, f"{name}_EK")[:, place] for each in of]) for of in (first, second))
            metrics |= paired_difference(name, own, others)
        counts = {"n_episodes": len(first[0].loss_nats_EK), "n_seeds": len(first)}
        rows.append(Row(slices={**slices, "adaptation_steps": n_steps}, metrics=metrics | counts))
    return rows


def _summary(curves: Curves, inner_steps: int) -> Row:
    """Say what is reached at the number of steps that training takes, or the next above."""
    places = [place for place, n_steps in enumerate(curves.n_steps) if n_steps >= inner_steps]
    place = places[0] if places else -1
    metrics = {
        "few_shot_accuracy": float(curves.accuracy_EK[:, place].mean()),
        "few_shot_loss_nats": float(curves.loss_nats_EK[:, place].mean()),
        "chance_accuracy": curves.chance_accuracy,
    }
    return Row(slices={"summary": "few-shot learning"}, metrics=metrics)


def _checked(model: nn.Module) -> Decoder:
    if not isinstance(model, Decoder):
        raise OptionError("model", type(model).__name__, "a bare Decoder: weights that adapt are put into it")
    return model


def _with_rate(learner: MetaLearner, decoder: Decoder, rate: float) -> MetaLearner:
    config = AdaptationConfig(
        **{field.name: getattr(learner.config, field.name) for field in dataclasses.fields(AdaptationConfig)}
        | {"inner_lr": rate, "learn_inner_lr": "none"}
    )
    other = MetaLearner(config, None if learner.head is None else learner.head.config, decoder)
    other.head = copy.deepcopy(learner.head)
    return other


def _permuted(episode: Episode, seed: int, index: int) -> Episode:
    """Give the support set's labels to its examples in a random order."""
    support = episode.support
    order = torch.from_numpy(generator(seed, "permuted labels", index).permutation(len(support.labels_N)))
    return dataclasses.replace(
        episode, support=dataclasses.replace(support, labels_N=support.labels_N[order.to(support.labels_N.device)])
    )


def _can_be_stacked(learner: MetaLearner) -> bool:
    is_plain = learner.config.adapts == "head" and learner.config.inner_clip_norm is None
    return is_plain and learner.head is not None and learner.head.config.dropout == 0


def _feature_tasks(
    decoder: Decoder, learner: MetaLearner, episodes: Iterator[Episode], seed: int, features: Features
) -> Iterator[FeatureTask]:
    assert learner.head is not None
    for index, episode in enumerate(episodes):
        support_ND, query_ND = features.of(decoder, episode, index, learner.config.readout)
        with torch.no_grad():
            yield FeatureTask.of_features(support_ND, query_ND, episode, head=learner.head, rng=_draws(seed, index))


def _measured_together(
    learner: MetaLearner, tasks: Iterator[FeatureTask], n_steps: Sequence[int]
) -> tuple[Floats, Floats]:
    """Measure tasks whose heads alone adapt, many at once: losses and accuracies, both [E, K]."""
    measured = []
    for together in _batched(tasks):
        stack, takes_steps = TaskStack(together), together[0].head.takes_steps
        with torch.no_grad():
            rates = learner.rates.table(together[0].weights, n_steps[-1] if takes_steps else 0)
        points = [
            torch.stack(stack.judge(weights, "query")).cpu().double().numpy()
            for n_taken, weights in enumerate(stack.walk(rates))
            if n_taken in n_steps or not takes_steps
        ]
        measured.append(np.stack(points if takes_steps else points * len(n_steps), axis=2))
    losses_EK, accuracies_EK = np.concatenate(measured, axis=1)
    return losses_EK, accuracies_EK


def _batched(tasks: Iterator[FeatureTask]) -> Iterator[list[FeatureTask]]:
    """Gather tasks of the same sizes."""
    held: list[FeatureTask] = []
    for task in tasks:
        if len(held) == TASKS_AT_ONCE:
            yield held
            held = []
        held.append(task)
    yield held


def _measured_one_by_one(
    decoder: Decoder, learner: MetaLearner, episodes: Iterator[Episode], seed: int, n_steps: Sequence[int]
) -> tuple[Floats, Floats]:
    points = [
        [
            (adapted.query_loss_nats, adapted.query_accuracy)
            for adapted in learner.adapt(decoder, episode, draws, n_steps)
        ]
        for episode, draws in ((episode, _draws(seed, index)) for index, episode in enumerate(episodes))
    ]
    losses_EK, accuracies_EK = np.array(points, np.float64).transpose(2, 0, 1)
    return losses_EK, accuracies_EK


def _draws(seed: int, index: int) -> np.random.Generator:
    return generator(derive(seed, "few-shot"), index)
