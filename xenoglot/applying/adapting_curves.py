"""How a checkpoint adapts to tasks, step by step; and which of two does so better, on the very same tasks.

```python
first = measured_curves(opened, tasks)             # of each way of adapting, after 0, 1, 2, 5, ... gradient steps
second = measured_curves(other, other_tasks)       # tasks in the words of the other model's tokenizer
check_same_tasks(tasks, other_tasks, n_episodes=600)
rows = paired_rows(first, second)                  # how much more the first gets right, with 95 % intervals
```

Tasks differ far more than models do, so what a model gains on each task is known better than how often it is right.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import torch

from xenoglot.adaptation import AdaptationConfig, ClassifierHeadConfig, MetaLearner
from xenoglot.applying.adapting import OpenedModel
from xenoglot.decoder import Decoder
from xenoglot.episodes import EpisodeSource, Examples
from xenoglot.errors import DataError
from xenoglot.evaluations.base import Row
from xenoglot.evaluations.few_shot import Curves, Features, FewShot, curve_rows, difference_rows

__all__ = ["STEPPED", "Way", "check_same_tasks", "measured_curves", "paired_rows", "rows_of"]

RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Of which the one that suits a way of adapting best is chosen, on tasks that are not measured."""
ALL_WEIGHTS_RATES = (0.01, 0.03, 0.1)
ALL_WEIGHTS_CLIP_NORM = 1.0
AS_TRAINED, LINEAR, EVERYTHING = STEPPED = ("as it was trained", "linear head", "all weights")
"""Ways of adapting by gradient steps; the others solve for a head at once."""
CONTROL = "permuted support labels"
UNTRAINED = "ridge head, untrained model"


class Way(NamedTuple):
    """A way of adapting, and the control that it was measured under, if any."""

    method: str
    control: str = ""

    @property
    def slices(self) -> dict[str, str | int]:
        """Return what rows about it are told by."""
        return {"method": self.method, **({"control": self.control} if self.control else {})}


def measured_curves(
    model: OpenedModel, tasks: EpisodeSource, *, n_episodes: int = 600, seed: int = 0, with_all_weights: bool = False
) -> dict[Way, Curves]:
    """Adapt a model to held-out tasks in several ways: its own, heads on its features, and heads on an untrained twin.

    Args:
        model: What adapts.
        tasks: Whose "test" tasks are measured, and whose "validation" tasks rates are chosen on.
        n_episodes: How many tasks.
        seed: What heads are drawn from.
        with_all_weights: Whether all weights are fine-tuned too, which takes a hundred times as long.

    Returns:
        Accuracy and loss of each task after each number of steps, by way of adapting.
    """
    ways = {f"{kind} head": _way(model.decoder, kind) for kind in ("linear", "ridge", "prototype")}
    evaluation = FewShot(tasks=tasks, learners=ways, n_episodes=n_episodes)
    ways[LINEAR] = evaluation.tuned(model.decoder, ways[LINEAR], seed, RATES)
    if model.learner is not None:
        ways = {AS_TRAINED: model.learner} | ways
    if with_all_weights:
        learner = _way(model.decoder, "linear", adapts="all", inner_clip_norm=ALL_WEIGHTS_CLIP_NORM)
        ways[EVERYTHING] = evaluation.tuned(model.decoder, learner, seed, ALL_WEIGHTS_RATES, n_episodes=10)
    features = Features()
    curves = {Way(name): evaluation.measure(model.decoder, way, seed, features) for name, way in ways.items()}
    untrained = Decoder(model.decoder.config).eval()
    curves[Way(UNTRAINED)] = evaluation.measure(untrained, _way(untrained, "ridge"), seed)
    curves[Way(LINEAR, CONTROL)] = dataclasses.replace(evaluation, n_steps=evaluation.n_steps[-1:]).measure(
        model.decoder, ways[LINEAR], seed, features, are_labels_permuted=True
    )
    return curves


def rows_of(curves: Mapping[Way, Curves]) -> list[Row]:
    """Return rows with slices "method" and "adaptation_steps", and "control" where labels were permuted."""
    return [row for way, of_way in curves.items() for row in curve_rows([of_way], way.slices)]


def paired_rows(first: Mapping[Way, Curves], second: Mapping[Way, Curves]) -> list[Row]:
    """Return how much more the first model has than the second on the same tasks, in each way that both adapted in.

    Args:
        first: What `measured_curves` returned for one model.
        second: The same for another, on the same tasks.

    Returns:
        Rows with slices "method" and "adaptation_steps", and metrics ``accuracy_difference`` and
        ``loss_nats_difference`` with the ends of their 95 % intervals over tasks.
    """
    shared = [way for way in first if way in second and not way.control and way.method != UNTRAINED]
    return [row for way in shared for row in difference_rows([first[way]], [second[way]], way.slices)]


def check_same_tasks(first: EpisodeSource, second: EpisodeSource, *, n_episodes: int) -> None:
    """Raise unless the first so many "test" tasks of both are the same, token by token.

    Raises:
        DataError: Naming the first task that is another one.
    """
    for index in range(n_episodes):
        one, other = first(index, "test"), second(index, "test")
        if not (_are_same(one.support, other.support) and _are_same(one.query, other.query)):
            raise DataError(
                f"{one.identity}: got other sentences or tokens for each of the models; allowed: the same, for "
                "differences task by task. Compare models of one tokenizer, or measure them one by one."
            )


def _are_same(one: Examples, other: Examples) -> bool:
    return all(
        torch.equal(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(Examples)
    )


def _way(decoder: Decoder, kind: str, **options: str | float) -> MetaLearner:
    head = ClassifierHeadConfig(kind=kind, init_method="zero")
    return MetaLearner(AdaptationConfig(order="first", **options), head, decoder)  # type: ignore[arg-type]
