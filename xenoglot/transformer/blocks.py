r"""What the decoder is made of: norms, rotary positions, attention, gated networks, and the block of them.

Modules carry the names of Hugging Face's native Llama, so that the weights *are* its state dict.

Shapes: B rows, T tokens, S positions (those of a cache included), D = d_model, H query heads, K key-value heads,
C = D / H numbers per head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xenoglot.config import ModelConfig
from xenoglot.transformer.key_values import KeyValueCache

__all__ = ["Attention", "Block", "Embedding", "Linear", "RMSNorm", "RotaryPositions", "SwiGLU"]


class Linear(nn.Linear):
    """A matrix without bias whose weights the decoder sets: torch's own start would read global random state."""

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__(n_inputs, n_outputs, bias=False)

    def reset_parameters(self) -> None:
        """Leave the weights to the decoder."""


class Embedding(nn.Embedding):
    """One vector for each id, set by the decoder for the same reason."""

    def reset_parameters(self) -> None:
        """Leave the weights to the decoder."""


class RMSNorm(nn.Module):
    r"""Scale a vector to root mean square 1, times a learned gain: x / sqrt(mean(x^2) + eps) * g.

    Source: Zhang and Sennrich 2019, arXiv 1910.07467.
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled vectors, in the shape of ``x`` [..., D]."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class RotaryPositions(nn.Module):
    r"""Turn pairs of a head's numbers by an angle proportional to the position, so that products see distances.

    With frequencies f_i = theta^(-2i/C), i < C/2, number i is paired with number i + C/2 (the half-split layout of
    native Llama; the paper pairs neighbours, which is the same up to an order of the rows of W_q and W_k):

    .. math::
        (q_i, q_{i+C/2}) \leftarrow \text{rotation by } t f_i \text{ of } (q_i, q_{i+C/2})

    Frequencies and angles are rounded to float32, as every other reader of a Llama folder rounds them: at position
    4,000 that turns the fastest pairs by up to 2e-4, and weights that were learned with exact angles would be read with
    rounded ones elsewhere. The tables are real, of this instance only, and stay float32 when the weights do not:
    bfloat16 tells positions above 256 apart no more.

    Source: Su et al. 2021, arXiv 2104.09864.
    """

    cos_TD: Tensor
    sin_TD: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_size = config.d_model // config.attention_n_heads
        frequencies = 1.0 / config.position_emb_theta ** (torch.arange(0, self.head_size, 2).float() / self.head_size)
        angles = torch.outer(torch.arange(config.max_seq_len).float(), frequencies)
        # As wide as all heads together: multiplying long rows is twice as fast as multiplying head by head.
        cosines = angles.cos().repeat(1, 2 * config.attention_n_heads)
        sines = torch.cat([-angles.sin(), angles.sin()], dim=1).repeat(1, config.attention_n_heads)
        self.register_buffer("cos_TD", cosines, persistent=False)
        self.register_buffer("sin_TD", sines, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow the weights to their device, but not to their type."""
        exact = self.cos_TD, self.sin_TD
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.cos_TD, self.sin_TD = (table.to(self.cos_TD.device) for table in exact)
        return self

    def forward(self, x_BTD: Tensor, start: int = 0) -> Tensor:
        """Turn queries [B, T, H C] or keys [B, T, K C] of the positions from ``start`` on: by head, [B, H, T, C]."""
        n_rows, n_tokens, width = x_BTD.shape
        by_head = (n_rows, n_tokens, -1, self.head_size)
        first, second = x_BTD.view(by_head).chunk(2, dim=3)
        swapped_BTD = torch.cat([second, first], dim=3).flatten(2)
        cos_TD, sin_TD = (table[start : start + n_tokens, :width] for table in (self.cos_TD, self.sin_TD))
        turned_BTD = x_BTD * cos_TD + swapped_BTD * sin_TD
        return turned_BTD.to(x_BTD.dtype).view(by_head).transpose(1, 2)


class Attention(nn.Module):
    r"""Gather from other positions, per head: softmax(q k^T / sqrt(C)) v; H/K query heads share one k and v.

    A position gathers from itself and those before it, or from all if ``attention`` is "bidirectional".

    Source: Vaswani et al. 2017, arXiv 1706.03762; shared keys and values: Ainslie et al. 2023, arXiv 2305.13245.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_size = config.d_model // config.attention_n_heads
        self.shares_keys = config.attention_n_kv_heads != config.attention_n_heads
        self.is_causal = config.attention == "causal"
        self.q_proj = Linear(config.d_model, config.attention_n_heads * self.head_size)
        self.k_proj = Linear(config.d_model, config.attention_n_kv_heads * self.head_size)
        self.v_proj = Linear(config.d_model, config.attention_n_kv_heads * self.head_size)
        self.o_proj = Linear(config.attention_n_heads * self.head_size, config.d_model)

    def forward(
        self,
        x_BTD: Tensor,
        rotate: RotaryPositions,
        cache: KeyValueCache | None = None,
        is_seen_BHTS: Tensor | None = None,
    ) -> Tensor:
        """Return what each position gathered, [B, T, D]; with a cache, from what was read before too.

        Where ``is_seen_BHTS`` is given, it says which positions each gathers from, whatever the configuration says.
        """
        start = cache.n_read if cache is not None else 0
        q_BHTC = rotate(self.q_proj(x_BTD), start)
        k_BKSC = rotate(self.k_proj(x_BTD), start)
        v_BKSC = self.v_proj(x_BTD).view(*x_BTD.shape[:2], -1, self.head_size).transpose(1, 2)
        if cache is not None:
            k_BKSC, v_BKSC = cache.extend(self.layer, k_BKSC, v_BKSC)
            if start > 0 and x_BTD.shape[1] > 1:  # a single token sees all there is
                positions = torch.arange(k_BKSC.shape[2], device=x_BTD.device)
                is_seen_BHTS = positions <= positions[start:, None]
        gathered_BHTC = F.scaled_dot_product_attention(
            q_BHTC,
            k_BKSC,
            v_BKSC,
            attn_mask=is_seen_BHTS,
            is_causal=self.is_causal and start == 0 and is_seen_BHTS is None,
            enable_gqa=self.shares_keys,
        )
        written_BTD: Tensor = self.o_proj(gathered_BHTC.transpose(1, 2).flatten(2))
        return written_BTD


class SwiGLU(nn.Module):
    r"""Transform each position by itself: W_down (silu(W_gate x) * W_up x), with silu(a) = a / (1 + e^-a).

    Source: Shazeer 2020, arXiv 2002.05202.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.d_model, config.activation_hidden_dim)
        self.up_proj = Linear(config.d_model, config.activation_hidden_dim)
        self.down_proj = Linear(config.activation_hidden_dim, config.d_model)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return the transformed positions, [B, T, D]."""
        written_BTD: Tensor = self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))
        return written_BTD


class Block(nn.Module):
    """One layer: attention, then the gated network, each behind its norm and added to its input."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.d_model, config.norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp = SwiGLU(config)

    def forward(
        self,
        x_BTD: Tensor,
        rotate: RotaryPositions,
        cache: KeyValueCache | None = None,
        is_seen_BHTS: Tensor | None = None,
    ) -> Tensor:
        """Return the positions after this layer, [B, T, D]."""
        gathered_BTD: Tensor = self.self_attn(self.input_layernorm(x_BTD), rotate, cache, is_seen_BHTS)
        x_BTD = x_BTD + gathered_BTD
        transformed_BTD: Tensor = self.mlp(self.post_attention_layernorm(x_BTD))
        return x_BTD + transformed_BTD
