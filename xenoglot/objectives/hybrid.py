"""Two objectives in turn: predicting the next token, and learning to adapt."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from torch import nn

from xenoglot.adaptation import MetaLearner
from xenoglot.batches import TokenBatch
from xenoglot.episodes.batches import EpisodeBatch
from xenoglot.objectives.autoregressive import Autoregressive
from xenoglot.objectives.base import Objective, Result
from xenoglot.objectives.meta import Meta

__all__ = ["Hybrid"]


class Hybrid(Objective):
    """Next-token prediction on rows of tokens, meta-learning on tasks: the batch says which step this is.

    The two losses are never added up or averaged, and their metrics have different names.

    Source: Pico-MAML, arXiv 2508.02189, with Pico's words for the options.

    Args:
        learner: Adapts to tasks.
    """

    name: ClassVar[str] = "hybrid"

    def __init__(self, learner: MetaLearner) -> None:
        self._autoregressive, self._meta = Autoregressive(), Meta(learner)
        self.learned = self._meta.learned

    def needs_parameters(self, batch: Any) -> bool:
        return isinstance(batch, EpisodeBatch)

    def __call__(self, model: nn.Module, batch: TokenBatch | EpisodeBatch, rng: np.random.Generator) -> Result:
        """Measure a model by the objective that the batch is for."""
        if isinstance(batch, EpisodeBatch):
            return self._meta(model, batch, rng)
        return self._autoregressive(model, batch, rng)
