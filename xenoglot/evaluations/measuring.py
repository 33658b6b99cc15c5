r"""What evaluations share: the loss of every target under a model, and means with their intervals.

Rows are independent draws, so with n of them each mean has the 95 % interval

.. math::
    \bar x \pm 1.96\, s / \sqrt n, \qquad s^2 = \frac{1}{n - 1} \sum_i (x_i - \bar x)^2

where x_i is the mean within row i.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from xenoglot.batches import TokenBatch
from xenoglot.languages.base import Floats, Tokens
from xenoglot.objectives.autoregressive import token_losses

__all__ = ["interval", "losses_nats"]

ROWS_AT_ONCE = 64
LOGITS_AT_ONCE = 2**26
"""At most this many, rows times tokens times ids: a quarter of a gibibyte in float32."""
NORMAL_95 = 1.96


def losses_nats(model: nn.Module, inputs: Tokens, targets: Tokens, n_tokens: int) -> Floats:
    """Return the loss of every target, float64 [N, T], some rows at a time, on whatever device the model is.

    Args:
        model: Maps ids [B, T] to logits [B, T, V]; its parameters, gradients and mode stay as they were.
        inputs: Ids [N, T].
        targets: Ids [N, T].
        n_tokens: How many ids there are, V.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    n_rows = max(1, min(ROWS_AT_ONCE, LOGITS_AT_ONCE // (n_tokens * inputs.shape[1])))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():  # not inference_mode: what sharded models gather in there cannot be trained on later
            parts = [
                token_losses(model, _on(device, inputs[i : i + n_rows], targets[i : i + n_rows])).cpu()
                for i in range(0, len(inputs), n_rows)
            ]
    finally:
        model.train(was_training)
    return torch.cat(parts).double().numpy()


def _on(device: torch.device, inputs: Tokens, targets: Tokens) -> TokenBatch:
    batch = TokenBatch.from_arrays(inputs, targets)
    return TokenBatch(inputs_BT=batch.inputs_BT.to(device), targets_BT=batch.targets_BT.to(device))


def interval(name: str, mean: float, by_row_N: Floats) -> dict[str, float]:
    """Return a mean under its name, and the ends of its interval under ``name_low`` and ``name_high``.

    Args:
        name: Ends in the unit.
        mean: Over all that was measured.
        by_row_N: The mean within each row; fewer than two give no interval, nan.

    Example:
        >>> import numpy as np
        >>> interval("loss_nats", 2.0, np.array([1.0, 2.0, 3.0]))["loss_nats_low"]   # 2 - 1.96 / sqrt(3)
        0.868...
    """
    n_rows = len(by_row_N)
    half_width = NORMAL_95 * float(by_row_N.std(ddof=1)) / math.sqrt(n_rows) if n_rows > 1 else math.nan
    return {name: mean, f"{name}_low": mean - half_width, f"{name}_high": mean + half_width}
