r"""Learning in context: how the loss falls as a model reads on, against the best possible predictor.

A row "tokens_read = t" is about the prediction after reading t tokens; "part" rows are means over positions. Languages
(or windows of a text) are independent draws, so with n of them each mean has the 95 % interval

.. math::
    \bar x \pm 1.96\, s / \sqrt n, \qquad s^2 = \frac{1}{n - 1} \sum_i (x_i - \bar x)^2

where x_i is the mean over the row's positions within language i.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from xenoglot.batches import TokenBatch
from xenoglot.evaluations.base import Evaluation, Row
from xenoglot.languages.base import Family, Floats, Tokens
from xenoglot.objectives.autoregressive import token_losses
from xenoglot.rng import MAX_SEED
from xenoglot.text import ByteText

__all__ = ["FreshLanguages", "HeldOutText"]

ROWS_AT_ONCE = 64
NORMAL_95 = 1.96


@dataclass(frozen=True, kw_only=True)
class FreshLanguages(Evaluation):
    """Loss by position on languages drawn for this evaluation, beside the floor of each.

    Args:
        family: Whose languages.
        length: Tokens of a row.
        n_languages: How many, one row each.
    """

    name: ClassVar[str] = "fresh-languages"

    family: Family
    length: int
    n_languages: int

    def __call__(self, model: nn.Module, rng: np.random.Generator) -> list[Row]:
        """Return a row for every position, the last quarter and the whole: loss, floor, and excess = loss - floor."""
        seed = int(rng.integers(MAX_SEED, endpoint=True))
        batch = self.family.batch(self.n_languages, self.length, seed, floor=True)
        losses = _losses_nats(model, batch.inputs, batch.targets)
        floor = batch.floor_nats.astype(np.float64)
        nats = {"loss_nats": losses, "floor_nats": floor, "excess_nats": losses - floor}
        return _rows_by_position(nats, {"uniform_nats": math.log(self.family.n_tokens - 1)})


@dataclass(frozen=True, kw_only=True)
class HeldOutText(Evaluation):
    """Loss by position on the whole held-out part of a text, in rows as long as those of training."""

    name: ClassVar[str] = "held-out-text"

    text: ByteText

    def __call__(self, model: nn.Module, rng: np.random.Generator) -> list[Row]:
        """Return a row for every position, the last quarter and the whole, in nats a byte; nothing is drawn."""
        windows = [_losses_nats(model, inputs, targets) for inputs, targets in self.text.held_out_windows()]
        losses = np.full((sum(map(len, windows)), self.text.length), np.nan)
        losses[: len(windows[0])] = windows[0]
        for rest in windows[1:]:
            losses[-1, : rest.shape[1]] = rest[0]
        return _rows_by_position({"loss_nats": losses}, {"uniform_nats": math.log(self.text.n_tokens - 1)})


def _losses_nats(model: nn.Module, inputs: Tokens, targets: Tokens) -> Floats:
    """Return the loss of every target, float64 [N, T], some rows at a time."""
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        parts = [
            token_losses(model, TokenBatch.from_arrays(inputs[i : i + ROWS_AT_ONCE], targets[i : i + ROWS_AT_ONCE]))
            for i in range(0, len(inputs), ROWS_AT_ONCE)
        ]
    model.train(was_training)
    return torch.cat(parts).double().numpy()


def _rows_by_position(nats: Mapping[str, Floats], constants: Mapping[str, float]) -> list[Row]:
    """Summarise measurements [N, T], where nan means that a row ended before, by position and by part."""
    length = next(iter(nats.values())).shape[1]
    slices: list[tuple[dict[str, str | int], slice]] = [
        ({"tokens_read": t + 1}, slice(t, t + 1)) for t in range(length)
    ]
    slices += [({"part": "last quarter"}, slice(3 * length // 4, None)), ({"part": "whole"}, slice(None))]
    return [Row(slices=names, metrics={**_means(nats, positions), **constants}) for names, positions in slices]


def _means(nats: Mapping[str, Floats], positions: slice) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name, values_NT in nats.items():
        part = values_NT[:, positions]
        counts_N = np.count_nonzero(~np.isnan(part), axis=1)
        by_row = np.nansum(part, axis=1)[counts_N > 0] / counts_N[counts_N > 0]
        mean = float(np.nansum(part) / counts_N.sum())
        half_width = NORMAL_95 * float(by_row.std(ddof=1)) / math.sqrt(len(by_row))
        metrics |= {name: mean, f"{name}_low": mean - half_width, f"{name}_high": mean + half_width}
    return metrics
