r"""The mean loss of an output matrix over a large vocabulary, without ever holding all its logits.

With hidden states h_n, output matrix W and targets y_n, the mean loss over N positions and its derivatives are

.. math::
    L = \frac{1}{N} \sum_n \left( \ln \sum_v e^{W_v h_n} - W_{y_n} h_n \right), \qquad
    \frac{\partial L}{\partial h_n} = \frac{1}{N} (p_n - 1_{y_n}) W, \qquad
    \frac{\partial L}{\partial W} = \frac{1}{N} \sum_n (p_n - 1_{y_n})^T h_n

where p_n is the softmax of the logits. Row n needs nothing of the others, so a few rows at a time go through one small
piece of memory that stays in the processor's cache, and their part of the derivatives is taken while they are there.
The usual way writes N V logits, as many log-probabilities and twice as many derivatives into fresh memory.

Source: the idea is Liger's (Hsu et al. 2024, arXiv 2410.10989). Where we differ: the unit is the cache of a CPU; on
GPUs, whose compiler makes one pass of the usual way, the decoder takes that.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["CHUNK_BYTES", "has_fast_chunks", "linear_cross_entropy"]

CHUNK_BYTES = 2**24
"""Logits at once: 13 MB were fastest with 50,304 ids of width 96 on one core; 6 took a sixth longer, 52 a third."""


def has_fast_chunks(hidden_ND: Tensor, weight_VD: Tensor) -> bool:
    """Return whether `linear_cross_entropy` is the faster way to a loss: on a CPU, in full precision."""
    return (
        hidden_ND.device.type == "cpu"
        and hidden_ND.dtype == weight_VD.dtype
        and hidden_ND.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
    )


def linear_cross_entropy(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Return the mean loss of the targets, a scalar in nats.

    Derivatives of its derivatives are right too, and take the usual way and its memory.

    Args:
        hidden_ND: float32 or float64 [N, D].
        weight_VD: The output matrix [V, D], of the same type.
        targets_N: int64 [N], ids from 0 to V - 1.

    Example:
        >>> loss = linear_cross_entropy(torch.ones(5, 3), torch.zeros(8, 3), torch.arange(5))
        >>> round(loss.item(), 6)   # ln 8
        2.079442
    """
    if torch.is_grad_enabled() and (hidden_ND.requires_grad or weight_VD.requires_grad):
        loss: Tensor = _loss_and_derivatives(hidden_ND, weight_VD, targets_N)[0]
    else:
        loss = _loss(hidden_ND, weight_VD, targets_N)
    return loss


# They are operators of torch's own kind, so that `torch.compile` calls them rather than unrolling their loops.


@torch.library.custom_op("xenoglot::linear_cross_entropy_loss", mutates_args=())
def _loss(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    total = hidden_ND.new_zeros(())
    for rows in _chunks(hidden_ND, weight_VD):
        logits_RV = hidden_ND[rows] @ weight_VD.T
        of_targets_R1 = logits_RV.gather(1, targets_N[rows, None])
        total += (logits_RV.logsumexp(1, keepdim=True) - of_targets_R1).sum()
    return total / len(hidden_ND)


@torch.library.custom_op("xenoglot::linear_cross_entropy", mutates_args=())
def _loss_and_derivatives(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    n_rows = len(hidden_ND)
    total = hidden_ND.new_zeros(())
    by_hidden_ND, by_weight_VD = torch.empty_like(hidden_ND), torch.zeros_like(weight_VD)
    chunks = _chunks(hidden_ND, weight_VD)
    reused = hidden_ND.new_empty(chunks[0].stop, len(weight_VD))
    for rows in chunks:
        hidden_RD, targets_R1 = hidden_ND[rows], targets_N[rows, None]
        exp_RV = torch.mm(hidden_RD, weight_VD.T, out=reused[: len(hidden_RD)])
        of_targets_R1 = exp_RV.gather(1, targets_R1)
        largest_R1 = exp_RV.amax(1, keepdim=True)
        exp_RV.sub_(largest_R1).exp_()
        sum_R1 = exp_RV.sum(1, keepdim=True)
        total += (sum_R1.log() + largest_R1 - of_targets_R1).sum()
        # (p - 1_y) times the sum; dividing the narrow factors of the products instead saves a pass over the wide one
        exp_RV.scatter_add_(1, targets_R1, -sum_R1)
        scale_R1 = 1 / (n_rows * sum_R1)
        torch.mm(exp_RV, weight_VD, out=by_hidden_ND[rows]).mul_(scale_R1)
        by_weight_VD.addmm_(exp_RV.T, hidden_RD * scale_R1)
    return total / n_rows, by_hidden_ND, by_weight_VD


def _chunks(hidden_ND: Tensor, weight_VD: Tensor) -> list[slice]:
    """Cut the positions so that one chunk's logits fit; the first is the largest."""
    n_rows = max(1, CHUNK_BYTES // (len(weight_VD) * hidden_ND.element_size()))
    return [slice(start, min(start + n_rows, len(hidden_ND))) for start in range(0, len(hidden_ND), n_rows)]


@_loss.register_fake
def _(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    return hidden_ND.new_empty(())


@_loss_and_derivatives.register_fake
def _(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return hidden_ND.new_empty(()), torch.empty_like(hidden_ND), torch.empty_like(weight_VD)


def _keep_derivatives(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*inputs, *output[1:])


def _scale_derivatives(ctx: Any, by_loss: Tensor, *unused: Tensor) -> tuple[Tensor, Tensor, None]:
    hidden_ND, weight_VD, targets_N, by_hidden_ND, by_weight_VD = ctx.saved_tensors
    if torch.is_grad_enabled():  # somebody will differentiate what is returned
        p_NV = (hidden_ND @ weight_VD.T).softmax(1)
        by_logits_NV = (p_NV - F.one_hot(targets_N, len(weight_VD))) * (by_loss / len(hidden_ND))
        return by_logits_NV @ weight_VD, by_logits_NV.T @ hidden_ND, None
    return by_hidden_ND * by_loss, by_weight_VD * by_loss, None


_loss_and_derivatives.register_autograd(_scale_derivatives, setup_context=_keep_derivatives)
