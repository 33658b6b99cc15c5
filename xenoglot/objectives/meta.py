"""Learning to adapt: the loss on what a task asks, after adapting to its few examples."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from xenoglot.adaptation import MetaLearner
from xenoglot.episodes.batches import EpisodeBatch
from xenoglot.objectives.base import Objective, Result
from xenoglot.rng import generator

__all__ = ["Meta"]


class Meta(Objective):
    r"""The mean over a step's tasks of the query loss after adapting to the support set, in nats.

    .. math::
        \frac{1}{T} \sum_{t=1}^{T} L\left(A(\theta, S_t), Q_t\right)

    with tasks t of support set S and query set Q, and A the adaptation; its gradient is the meta-gradient.

    What a task draws, such as a fresh head, is a function of the task: a step is the same however its tasks are shared
    out over processes and parts. Several tasks of a part are in memory together; cut them up by
    ``gradient_accumulation_steps``.

    Args:
        learner: Adapts; its own parameters, such as learned rates, are learned along with the model.
    """

    name: ClassVar[str] = "meta"

    def __init__(self, learner: MetaLearner) -> None:
        self._learner = learner
        self.learned = learner if any(True for _ in learner.parameters()) else None

    def needs_parameters(self, batch: Any) -> bool:
        return True

    def __call__(self, model: nn.Module, batch: EpisodeBatch, rng: np.random.Generator) -> Result:
        """Measure a bare `Decoder` on tasks; ``rng`` is not used."""
        results = [
            self._learner(model, task, generator(seed, "adaptation"))
            for task, seed in zip(batch.tasks, batch.seeds, strict=True)
        ]
        metrics = {
            name: torch.stack([result.metrics[name] for result in results]).mean() for name in results[0].metrics
        }
        return Result(loss=torch.stack([result.loss for result in results]).mean(), metrics=metrics, branch="meta_")
