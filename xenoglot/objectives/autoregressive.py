"""Next-token prediction: the loss of every target under the model, given what was read before it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from xenoglot.batches import TokenBatch
from xenoglot.objectives.base import Objective, Result

__all__ = ["Autoregressive", "token_losses"]


def token_losses(model: nn.Module, batch: TokenBatch) -> Tensor:
    r"""Return -ln p(target_t | inputs_0..t) under the model, float [B, T] in nats.

    .. math::
        -\ln \frac{e^{z_{y}}}{\sum_v e^{z_v}}

    for logits z and target y; taken in float32 whatever the model computes in.
    """
    logits_BTV = model(batch.inputs_BT)
    losses_N = F.cross_entropy(logits_BTV.flatten(0, 1).float(), batch.targets_BT.flatten(), reduction="none")
    return losses_N.view(batch.targets_BT.shape)


class Autoregressive(Objective):
    """The mean loss over all positions of all rows, in nats."""

    name: ClassVar[str] = "autoregressive"

    def __call__(self, model: nn.Module, batch: TokenBatch, rng: np.random.Generator) -> Result:
        """Measure a model on a batch; nothing is drawn."""
        loss = model(batch.inputs_BT, targets=batch.targets_BT)
        return Result(loss=loss, metrics={"loss_nats": loss.detach()})
