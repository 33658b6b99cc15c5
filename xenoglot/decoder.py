r"""The Llama-style decoder: from token ids to the logits of the next token.

A token's vector passes through blocks; each adds what attention gathers from earlier positions, then what a gated
network makes of it. Norms stand before each part (Touvron et al. 2023, arXiv 2302.13971):

    x <- x + attention(norm(x));    x <- x + swiglu(norm(x));    logits = W_out norm(x)

Modules carry the names of Hugging Face's native Llama, so the weights *are* its state dict, and a saved folder
(`config.json`, `model.safetensors`) opens there without code of ours.

Shapes: B rows, T tokens, D = d_model, H query heads, K key-value heads, C = D / H per head, V ids.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xenoglot.config import ModelConfig
from xenoglot.errors import DataError, OptionError
from xenoglot.interchange import EMBEDDING, OUTPUT_MATRIX, model_folder, read_model, write_model_folder
from xenoglot.rng import derive
from xenoglot.transformer.blocks import Block, Embedding, Linear, RMSNorm, RotaryPositions
from xenoglot.transformer.cross_entropy import has_fast_chunks, linear_cross_entropy
from xenoglot.transformer.generation import Sampling, check_prompt, generate
from xenoglot.transformer.key_values import KeyValueCache

__all__ = ["Decoder", "begin_from"]

FREE_SIZES = ("max_seq_len", "from_pretrained", "attention")
"""Sizes that a model need not share with the one whose weights it begins from: no weight depends on them."""


class Backbone(nn.Module):
    """Embedding, layers and the last norm: everything before the output matrix."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.embed_tokens = Embedding(vocab_size, config.d_model)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.rotate = RotaryPositions(config)

    def forward(
        self,
        input_ids: Tensor,
        cache: KeyValueCache | None = None,
        kept: list[Tensor] | None = None,
        is_seen_BHTS: Tensor | None = None,
    ) -> Tensor:
        """Return the last hidden states [B, T, D] of ids [B, T]; what each layer read goes to ``kept``, if given.

        Where ``is_seen_BHTS`` is given, it says which positions each gathers from, whatever the configuration says; it
        may have a size of 1 for any of B, H and T.
        """
        x_BTD = self.embed_tokens(input_ids)
        for layer in self.layers:
            if kept is not None:
                kept.append(x_BTD)
            x_BTD = layer(x_BTD, self.rotate, cache, is_seen_BHTS)
        if cache is not None:
            cache.advance(input_ids.shape[1])
        hidden_BTD: Tensor = self.norm(x_BTD)
        return hidden_BTD


class Decoder(nn.Module):
    r"""A language model: logits of the next token at every position, or the loss of targets.

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
        >>> decoder, ids = Decoder(config), torch.zeros(3, 12, dtype=torch.long)
        >>> decoder(ids).shape
        torch.Size([3, 12, 18])
        >>> round(decoder(ids, targets=ids).item(), 4)   # ln 18
        2.8904
        >>> decoder.generate(ids, max_new_tokens=4).shape
        torch.Size([3, 16])
    """

    def __init__(self, config: ModelConfig, rng: torch.Generator | None = None) -> None:
        super().__init__()
        if config.vocab_size is None:
            raise OptionError("vocab_size", None, "a whole number, at least 2", "A model by itself has no data to ask.")
        self.config = config
        self.vocab_size = config.vocab_size
        self.model = Backbone(config, config.vocab_size)
        self.lm_head = Linear(config.d_model, config.vocab_size)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self._initialise(rng or torch.Generator().manual_seed(derive(0, "initial-weights")))

    def forward(
        self, input_ids: Tensor, *, targets: Tensor | None = None, cache: KeyValueCache | None = None
    ) -> Tensor:
        """Return logits [B, T, V]: entry t predicts the target after ids 0..t. With targets, return their mean loss.

        Args:
            input_ids: int64 [B, T], ids from 0 to V - 1, T at most ``max_seq_len``.
            targets: int64 [B, T]. The loss is a scalar in nats, taken in float32, without holding all logits where that
                is faster (`cross_entropy`).
            cache: What was read before; these ids are read on from there, and remembered. Gradients do not reach back.

        Raises:
            DataError: If there are more positions than the model has, or targets of another shape.
        """
        self._check(input_ids, cache)
        hidden_BTD = self.model(input_ids, cache)
        if targets is None:
            logits_BTV: Tensor = self.lm_head(hidden_BTD)
            return logits_BTV
        if targets.shape != input_ids.shape:
            raise DataError(f"targets: got shape {list(targets.shape)}; allowed: that of input_ids.")
        hidden_ND, targets_N = hidden_BTD.flatten(0, 1), targets.flatten()
        if has_fast_chunks(hidden_ND, self.lm_head.weight):
            return linear_cross_entropy(hidden_ND, self.lm_head.weight, targets_N)
        return F.cross_entropy(self.lm_head(hidden_ND).float(), targets_N)

    def hidden_states(self, input_ids: Tensor) -> list[Tensor]:
        """Return ``n_layers`` + 1 hidden states [B, T, D], counted as transformers counts them.

        The first are the embeddings, number i what layer i left, and the last what the output matrix reads: layer
        ``n_layers``'s, behind the last norm.
        """
        self._check(input_ids, None)
        kept: list[Tensor] = []
        last_BTD = self.model(input_ids, kept=kept)
        return [*kept, last_BTD]

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop_ids: Collection[int] = (),
        pad_id: int = 0,
        rng: torch.Generator | None = None,
        use_cache: bool = True,
    ) -> Tensor:
        """Write on: return prompts and what follows, [B, T + n], n at most ``max_new_tokens``.

        Args:
            input_ids: int64 [B, T], prompts of one length.
            max_new_tokens: Tokens that are drawn for each row, at most.
            temperature: Divides the logits; 0 is greedy.
            top_k: If given, only the k likeliest ids are drawn.
            top_p: If given, only the fewest ids whose mass reaches it, likeliest first.
            stop_ids: A row ends with the first of these.
            pad_id: Fills a row that has ended until all have.
            rng: What is drawn with; seed 0's stream "generation" if None.
            use_cache: Whether keys and values are remembered; the law is the same, and reading slower, if not.

        Raises:
            OptionError: If an option is not allowed, or the model is bidirectional.
            DataError: If the prompt has ids that are not the model's, or too little room for what follows.
        """
        if self.config.attention != "causal":
            raise OptionError("attention", self.config.attention, "causal", "Only a causal model can write on.")
        check_prompt(
            input_ids,
            vocab_size=self.vocab_size,
            max_seq_len=self.config.max_seq_len,
            max_new_tokens=max_new_tokens,
        )
        n_read = input_ids.shape[1] + max_new_tokens - 1
        return generate(
            lambda ids, cache: self.lm_head(self.model(ids, cache)[:, -1]),
            input_ids,
            max_new_tokens=max_new_tokens,
            sampling=Sampling(temperature=temperature, top_k=top_k, top_p=top_p),
            rng=rng or torch.Generator().manual_seed(derive(0, "generation")),
            stop_ids=stop_ids,
            pad_id=pad_id,
            cache=KeyValueCache(max_positions=n_read) if use_cache else None,
        )

    def _check(self, input_ids: Tensor, cache: KeyValueCache | None) -> None:
        if input_ids.ndim != 2 or not 1 <= input_ids.shape[1] <= self.config.max_seq_len:
            raise DataError(
                f"input_ids: got shape {list(input_ids.shape)}; allowed: [B, T] with T from 1 to max_seq_len, "
                f"{self.config.max_seq_len}."
            )
        if cache is not None:
            if self.config.attention != "causal":
                raise OptionError("attention", self.config.attention, "causal", "Others cannot read in pieces.")
            cache.check_room(*input_ids.shape)

    def save_pretrained(self, path: str | Path) -> None:
        """Write a native Llama model folder: `config.json` and `model.safetensors`, both whole or neither.

        Raises:
            OutputError: If the folder or a file cannot be written.
        """
        write_model_folder(Path(path), self.config, self.state_dict())

    @classmethod
    def from_pretrained(cls, path_or_repo: str | Path) -> Decoder:
        """Open a model folder: one of our checkpoints, any native Llama's, or Pico's; here, or on the Hugging Face Hub.

        Weights are read as float32, from safetensors only. A Pico model becomes a native Llama: rotary pairs are put
        into native order, and the logits stay the same.

        Args:
            path_or_repo: The folder, or ``user/name``, or ``user/name@revision``.

        Raises:
            DataError: If there is no such model, a file is missing, damaged or pickled, the model is of another kind,
                or weights are missing, unknown or of another shape; all of them are listed.
            MissingExtraError: If the model is on the Hub, and `huggingface_hub` is not installed.
        """
        config, weights = read_model(model_folder(path_or_repo))
        decoder = cls(config)
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


def begin_from(path_or_repo: str | Path, decoder: Decoder) -> None:
    """Give a decoder the weights of a pretrained model, in place.

    Args:
        path_or_repo: As in `Decoder.from_pretrained`.
        decoder: Of the same sizes; its rows may be longer or shorter, and it may be bidirectional.

    Raises:
        DataError: If there is no such model, or it is damaged.
        OptionError: If a size is another one.
    """
    config, weights = read_model(model_folder(path_or_repo))
    for field in dataclasses.fields(config):
        wanted, stored = getattr(decoder.config, field.name), getattr(config, field.name)
        if field.name not in FREE_SIZES and wanted != stored:
            raise OptionError(f"model.{field.name}", wanted, f"{stored}, as in {path_or_repo}")
    decoder.load_state_dict(weights)
