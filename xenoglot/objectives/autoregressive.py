"""Next-token prediction: the loss of every target under the model, given what was read before it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from xenoglot.batches import TokenBatch
from xenoglot.objectives.base import Objective, Result

__all__ = ["Autoregressive", "expected_losses", "token_losses"]


def token_losses(model: nn.Module, batch: TokenBatch) -> Tensor:
    r"""Return -ln p(target_t | inputs_0..t) under the model, float [B, T] in nats.

    .. math::
        -\ln \frac{e^{z_{y}}}{\sum_v e^{z_v}}

    for logits z and target y; taken in float32 whatever the model computes in.
    """
    logits_BTV = model(batch.inputs_BT)
    losses_N = F.cross_entropy(logits_BTV.flatten(0, 1).float(), batch.targets_BT.flatten(), reduction="none")
    return losses_N.view(batch.targets_BT.shape)


def expected_losses(model: nn.Module, inputs_BT: Tensor, laws_BTV: Tensor) -> Tensor:
    r"""Return what is lost on average over targets that come by a law, float [B, T] in nats.

    .. math::
        -\sum_v p_v \ln \frac{e^{z_v}}{\sum_w e^{z_w}}

    for logits z and the law p; ids that the law does not know of cannot come.
    """
    log_probs_BTV = model(inputs_BT).float().log_softmax(2)
    losses_BT: Tensor = -(laws_BTV * log_probs_BTV[..., : laws_BTV.shape[2]]).sum(2)
    return losses_BT


class Autoregressive(Objective):
    """The mean loss over all positions of all rows, in nats; the expected one if the rows come with their laws."""

    name: ClassVar[str] = "autoregressive"

    def __call__(self, model: nn.Module, batch: TokenBatch, rng: np.random.Generator) -> Result:
        """Measure a model on a batch; nothing is drawn."""
        if batch.laws_BTV is None:
            loss = model(batch.inputs_BT, targets=batch.targets_BT)
        else:
            loss = expected_losses(model, batch.inputs_BT, batch.laws_BTV).mean()
        return Result(loss=loss, metrics={"loss_nats": loss.detach()})
