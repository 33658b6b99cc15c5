r"""The Llama-style decoder, whole: from token ids to the logits of the next token.

A token's vector passes through blocks; each adds what attention gathers from earlier positions, then what a gated
network makes of it. Norms stand before each part (Touvron et al. 2023, arXiv 2302.13971):

    x <- x + attention(norm(x));    x <- x + swiglu(norm(x));    logits = W_out norm(x)

Modules carry the names of Hugging Face's native Llama, so the weights *are* its state dict, and a saved folder
(`config.json`, `model.safetensors`) opens there without code of ours.

Shapes: B rows, T tokens, D = d_model, H query heads, K key-value heads, C = D / H per head, V ids.
"""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from xenoglot.config import ModelConfig
from xenoglot.errors import DataError, OptionError
from xenoglot.interchange import (
    CONFIG_FILE,
    EMBEDDING,
    OUTPUT_MATRIX,
    WEIGHTS_FILE,
    check_weights,
    read_llama_config,
    write_model_folder,
)
from xenoglot.rng import derive

__all__ = ["Decoder"]


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

        (q_i, q_{i+C/2}) <- rotation by (t f_i) of (q_i, q_{i+C/2}).

    Source: Su et al. 2021, arXiv 2104.09864. The tables are real, float32 and of this instance only.
    """

    cos_TD: Tensor
    sin_TD: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_size = config.d_model // config.attention_n_heads
        exponents = torch.arange(0, self.head_size, 2, dtype=torch.float64) / self.head_size
        positions = torch.arange(config.max_seq_len, dtype=torch.float64)
        angles = torch.outer(positions, config.position_emb_theta**-exponents)
        # As wide as all heads together: multiplying long rows is twice as fast as multiplying head by head.
        cosines = angles.cos().repeat(1, 2 * config.attention_n_heads)
        sines = torch.cat([-angles.sin(), angles.sin()], dim=1).repeat(1, config.attention_n_heads)
        self.register_buffer("cos_TD", cosines.float(), persistent=False)
        self.register_buffer("sin_TD", sines.float(), persistent=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Turn queries [B, T, H C] or keys [B, T, K C] by positions 0..T-1, and return them by head, [B, H, T, C]."""
        n_rows, n_tokens, width = x_BTD.shape
        by_head = (n_rows, n_tokens, -1, self.head_size)
        first, second = x_BTD.view(by_head).chunk(2, dim=3)
        swapped_BTD = torch.cat([second, first], dim=3).flatten(2)
        turned = x_BTD * self.cos_TD[:n_tokens, :width] + swapped_BTD * self.sin_TD[:n_tokens, :width]
        return turned.to(x_BTD.dtype).view(by_head).transpose(1, 2)


class Attention(nn.Module):
    r"""Gather from earlier positions: softmax(q k^T / sqrt(C)) v per head, causal; H/K query heads share one k and v.

    Source: Vaswani et al. 2017; shared keys and values: Ainslie et al. 2023, arXiv 2305.13245.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_size = config.d_model // config.attention_n_heads
        self.shares_keys = config.attention_n_kv_heads != config.attention_n_heads
        self.q_proj = Linear(config.d_model, config.attention_n_heads * self.head_size)
        self.k_proj = Linear(config.d_model, config.attention_n_kv_heads * self.head_size)
        self.v_proj = Linear(config.d_model, config.attention_n_kv_heads * self.head_size)
        self.o_proj = Linear(config.attention_n_heads * self.head_size, config.d_model)

    def forward(self, x_BTD: Tensor, rotate: RotaryPositions) -> Tensor:
        """Return what each position gathered, [B, T, D]."""
        q_BHTC = rotate(self.q_proj(x_BTD))
        k_BKTC = rotate(self.k_proj(x_BTD))
        v_BKTC = self.v_proj(x_BTD).view(*x_BTD.shape[:2], -1, self.head_size).transpose(1, 2)
        gathered_BHTC = F.scaled_dot_product_attention(
            q_BHTC, k_BKTC, v_BKTC, is_causal=True, enable_gqa=self.shares_keys
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

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.d_model, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp = SwiGLU(config)

    def forward(self, x_BTD: Tensor, rotate: RotaryPositions) -> Tensor:
        """Return the positions after this layer, [B, T, D]."""
        gathered_BTD: Tensor = self.self_attn(self.input_layernorm(x_BTD), rotate)
        x_BTD = x_BTD + gathered_BTD
        transformed_BTD: Tensor = self.mlp(self.post_attention_layernorm(x_BTD))
        return x_BTD + transformed_BTD


class Backbone(nn.Module):
    """Embedding, layers and the last norm: everything before the output matrix."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.embed_tokens = Embedding(vocab_size, config.d_model)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.rotate = RotaryPositions(config)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return the last hidden states [B, T, D] of ids [B, T]."""
        x_BTD = self.embed_tokens(input_ids)
        for layer in self.layers:
            x_BTD = layer(x_BTD, self.rotate)
        hidden_BTD: Tensor = self.norm(x_BTD)
        return hidden_BTD


class Decoder(nn.Module):
    r"""A causal language model: logits of the next token at every position.

    Initial weights: every matrix is normal with standard deviation 1 / sqrt(n_inputs), so that outputs start as large
    as inputs whatever the width; the two that write into the residual stream (`o_proj`, `down_proj`) are smaller by
    sqrt(2 n_layers), so that all layers together add no more than one part (Radford et al. 2019). Embeddings are
    standard normal and the output matrix is zero, so that the first loss is ln V; if they are tied, both are normal
    with standard deviation 1 / sqrt(D). Gains of norms are 1.

    Where we differ: the usual 0.02 for every matrix starts much smaller at small widths; on the default run it has not
    begun to learn in context when this start has finished.

    Args:
        config: The sizes; ``vocab_size`` must be given.
        rng: Where the initial weights are drawn from; seed 0's stream "initial-weights" if None.

    Example:
        >>> config = ModelConfig(d_model=32, n_layers=2, attention_n_heads=4, attention_n_kv_heads=2,
        ...                      activation_hidden_dim=64, max_seq_len=16, vocab_size=18)
        >>> Decoder(config)(torch.zeros(3, 16, dtype=torch.long)).shape
        torch.Size([3, 16, 18])
    """

    def __init__(self, config: ModelConfig, rng: torch.Generator | None = None) -> None:
        super().__init__()
        if config.vocab_size is None:
            raise OptionError("vocab_size", None, "a whole number, at least 2", "A model by itself has no data to ask.")
        self.config = config
        self.model = Backbone(config, config.vocab_size)
        self.lm_head = Linear(config.d_model, config.vocab_size)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self._initialise(rng or torch.Generator().manual_seed(derive(0, "initial-weights")))

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return logits [B, T, V]: entry t predicts the target after ids 0..t.

        Args:
            input_ids: int64 [B, T], ids from 0 to V - 1, T at most ``max_seq_len``.

        Raises:
            DataError: If there are more positions than the model has.
        """
        if input_ids.ndim != 2 or not 1 <= input_ids.shape[1] <= self.config.max_seq_len:
            raise DataError(
                f"input_ids: got shape {list(input_ids.shape)}; allowed: [B, T] with T from 1 to max_seq_len, "
                f"{self.config.max_seq_len}."
            )
        logits_BTV: Tensor = self.lm_head(self.model(input_ids))
        return logits_BTV

    def save_pretrained(self, path: str | Path) -> None:
        """Write a native Llama model folder: `config.json` and `model.safetensors`, both whole or neither.

        Raises:
            OutputError: If the folder or a file cannot be written.
        """
        write_model_folder(Path(path), self.config, self.state_dict())

    @classmethod
    def from_pretrained(cls, path: str | Path) -> Decoder:
        """Read a native Llama model folder, ours or another's.

        Raises:
            DataError: If a file is missing or damaged, the model is of another kind, or weights are missing, unknown
                or of another shape; all of them are listed.
        """
        folder = Path(path)
        decoder = cls(read_llama_config(folder / CONFIG_FILE))
        try:
            weights = safetensors.torch.load_file(folder / WEIGHTS_FILE)
        except (OSError, SafetensorError) as error:
            raise DataError(f"{folder / WEIGHTS_FILE}: got no readable weights ({error}).") from error
        if decoder.config.tie_word_embeddings and EMBEDDING in weights:
            weights.setdefault(OUTPUT_MATRIX, weights[EMBEDDING])
        expected = {name: weight.shape for name, weight in decoder.state_dict().items()}
        check_weights(folder, expected, {name: weight.shape for name, weight in weights.items()})
        decoder.load_state_dict(weights)
        return decoder

    @torch.no_grad()
    def _initialise(self, rng: torch.Generator) -> None:
        for name, weight in self.named_parameters():  # tied matrices come once, as the embedding
            if name == OUTPUT_MATRIX:
                weight.zero_()
            elif name == EMBEDDING:
                weight.normal_(0.0, weight.shape[1] ** -0.5 if self.config.tie_word_embeddings else 1.0, generator=rng)
            elif name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.normal_(0.0, (2 * self.config.n_layers * weight.shape[1]) ** -0.5, generator=rng)
            elif weight.ndim == 2:
                weight.normal_(0.0, weight.shape[1] ** -0.5, generator=rng)
