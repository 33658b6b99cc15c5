r"""Who attends to whom: the attention of every head, which the fast kernels never write down.

Head h of a layer gives token t the weight

.. math::
    A_h[t, s] = \mathrm{softmax}_s\left(q_t \cdot k_s / \sqrt{C}\right)

on token s, with q and k after the rotation by position. It is worked out a second time, from what each layer's
attention reads; nothing of the model is changed.

Shapes: B rows, T tokens, D = d_model, H query heads, K key-value heads, C = D / H numbers per head.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xenoglot.decoder import Decoder
from xenoglot.transformer.blocks import Attention

__all__ = ["attention_patterns"]


@torch.no_grad()
def attention_patterns(model: Decoder, input_ids_BT: Tensor) -> list[Tensor]:
    """Return the attention of every head over ids [B, T], a tensor [B, H, T, T] for each layer, in float32.

    Entry ``[b, h, t, s]`` is how much of what token t gathers comes from token s; each row sums to one, and with causal
    attention there is nothing above the diagonal. All layers together hold n_layers B H T^2 numbers.

    Args:
        model: Its weights, gradients, mode and hooks stay as they are.
        input_ids_BT: int64, ids from 0 to V - 1.

    Raises:
        DataError: If there are more positions than the model has.

    Example:
        >>> from xenoglot.config import ModelConfig
        >>> model = Decoder(ModelConfig(vocab_size=18, attention_n_heads=4))
        >>> [first, second] = attention_patterns(model, torch.arange(10)[None])
        >>> first.shape, first[0, 0, :2, :2].sum(dim=1)
        (torch.Size([1, 4, 10, 10]), tensor([1., 1.]))
    """
    patterns: list[Tensor] = []
    with _watched(model, patterns):
        model.hidden_states(input_ids_BT)
    return patterns


@contextlib.contextmanager
def _watched(model: Decoder, patterns: list[Tensor]) -> Iterator[None]:
    """Note every layer's attention while the model reads."""

    def note(attention: nn.Module, read: tuple[Any, ...]) -> None:
        assert isinstance(attention, Attention)
        patterns.append(_pattern(attention, *read))

    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    hooks = [attention.register_forward_pre_hook(note) for attention in attentions]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _pattern(attention: Attention, x_BTD: Tensor, rotate: Any, cache: None, is_seen_BHTS: Tensor | None) -> Tensor:
    # The matrices themselves, not the modules: whoever listens to those should hear each token once.
    q_BHTC = rotate(F.linear(x_BTD, attention.q_proj.weight)).float()
    k_BKTC = rotate(F.linear(x_BTD, attention.k_proj.weight)).float()
    k_BHTC = k_BKTC.repeat_interleave(q_BHTC.shape[1] // k_BKTC.shape[1], dim=1)
    scores_BHTT: Tensor = q_BHTC @ k_BHTC.transpose(2, 3) / math.sqrt(attention.head_size)
    if is_seen_BHTS is None and attention.is_causal:
        n_tokens = x_BTD.shape[1]
        is_seen_BHTS = torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=x_BTD.device).tril()
    if is_seen_BHTS is not None:
        scores_BHTT = scores_BHTT.masked_fill(~is_seen_BHTS, -math.inf)
    return scores_BHTT.softmax(dim=3)
