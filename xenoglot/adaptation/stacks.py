"""Many tasks at once, on features that were read once: what makes it quick to measure hundreds of them.

The loss of a stack is the sum of its tasks' losses, and no task's weights occur in another's; so a gradient step of
the stack is, for every task, its own.

Shapes: E tasks, N examples of a set, D numbers of a feature, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap

from xenoglot.adaptation.descent import Descent
from xenoglot.adaptation.tasks import HEAD_PREFIX, FeatureTask
from xenoglot.heads import Weights

__all__ = ["TaskStack"]

PARTS = ("support", "query")


class TaskStack:
    """Tasks of the same sizes whose heads adapt together, each as it would alone.

    Args:
        tasks: At least one; of one head, without dropout.
    """

    def __init__(self, tasks: Sequence[FeatureTask]) -> None:
        self._head = tasks[0].head
        self._features = {
            part: torch.stack([task.features(task.given, part) for task in tasks]).detach() for part in PARTS
        }
        self._labels = {part: torch.stack([task.targets(part) for task in tasks]) for part in PARTS}
        self._start = {name: torch.stack([task.weights[name] for task in tasks]).detach() for name in tasks[0].weights}

    def walk(self, rates: Sequence[Weights]) -> Iterator[Weights]:
        """Yield all heads' weights before the first step and after each.

        Args:
            rates: Of each step, under the names of the tasks' weights, each of no dimension.
        """
        return Descent(loss=self._support_loss).walk(self._start, {}, rates)

    def judge(self, weights: Weights, part: str) -> tuple[Tensor, Tensor]:
        """Return each task's mean loss of a set in nats and its accuracy, both [E]."""
        with torch.no_grad():
            logits_ECN = self._logits(weights, part).transpose(1, 2)
            losses_EN = F.cross_entropy(logits_ECN, self._labels[part], reduction="none")
            is_right_EN = logits_ECN.argmax(dim=1) == self._labels[part]
        return losses_EN.mean(dim=1), is_right_EN.to(losses_EN).mean(dim=1)

    def _support_loss(self, weights: Weights, given: Weights, step: int) -> Tensor:
        logits_ECN = self._logits(weights, "support").transpose(1, 2)
        losses_EN = F.cross_entropy(logits_ECN, self._labels["support"], reduction="none")
        return losses_EN.mean(dim=1).sum()

    def _logits(self, weights: Weights, part: str) -> Tensor:
        own = {name.removeprefix(HEAD_PREFIX): weight for name, weight in weights.items()}
        logits_ENC: Tensor = vmap(self._head.logits)(own, self._features[part])
        return logits_ENC
