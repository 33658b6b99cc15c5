"""The held-out rows of samples that `xenoglot generate` wrote: loss by position, against the floor that is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import nn

from xenoglot.evaluations.base import Row
from xenoglot.evaluations.by_position import learning_row, rows_by_position
from xenoglot.evaluations.in_context import HeldOutText
from xenoglot.evaluations.measuring import losses_nats
from xenoglot.options import option
from xenoglot.samples import StoredSamples

__all__ = ["HeldOutSamples"]


@dataclass(frozen=True, kw_only=True)
class HeldOutSamples(HeldOutText):
    """As for fresh languages, if the samples have a floor; else as for a text.

    Args:
        text: The samples.
    """

    name: ClassVar[str] = "held-out-samples"

    text: StoredSamples
    epsilon_nats: float = option(
        0.1,
        "how near to the floor counts as having learned a language",
        unit="nats a token",
        minimum=0,
        exclusive_minimum=True,
    )

    def __call__(self, model: nn.Module, rng: np.random.Generator) -> list[Row]:
        """Return loss, floor, and excess = loss - floor for every position and part, then how fast it was learned."""
        kept = self.text.held_out_floor_nats()
        if kept is None:
            return super().__call__(model, rng)
        floor = kept.astype(np.float64)
        [(inputs, targets)] = self.text.held_out_windows()
        losses = losses_nats(model, inputs, targets, self.text.n_tokens)
        nats = {"loss_nats": losses, "floor_nats": floor, "excess_nats": losses - floor}
        rows = rows_by_position(nats, {"uniform_nats": self._uniform_nats})
        return [*rows, learning_row(losses, nats["excess_nats"], self.epsilon_nats, rng)]
