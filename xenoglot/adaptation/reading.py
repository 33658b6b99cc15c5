"""From sentences to the features that a head sorts: where the decoder's hidden states are read.

A causal decoder has seen the whole sentence, what stands after the mask included, only at the final token: that is
where it is read unless told otherwise. At the mask it knows only what stands before; with attention to all of the
sentence, which the same weights allow, it knows everything there too.

Shapes: N sentences, T tokens, D numbers of a hidden state.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from xenoglot.config import ModelConfig
from xenoglot.decoder import Backbone, Decoder
from xenoglot.episodes import Examples
from xenoglot.heads import Weights

__all__ = ["BACKBONE", "Reader", "joined", "read_out"]

BACKBONE = "model."
"""What the names of the backbone's weights begin with in a decoder."""


def read_out(hidden_NTD: Tensor, examples: Examples, readout: str) -> Tensor:
    """Return one hidden state of each sentence, [N, D], in float32 at least.

    Args:
        hidden_NTD: Of the sentences' tokens.
        examples: The sentences.
        readout: "final", for the last token; else the first mask.
    """
    positions_N = examples.lengths_N - 1 if readout == "final" else examples.mask_positions_N
    features_ND = hidden_NTD[torch.arange(len(positions_N), device=hidden_NTD.device), positions_N]
    return features_ND.to(torch.promote_types(features_ND.dtype, torch.float32))


def joined(first: Examples, second: Examples) -> Examples:
    """Return all sentences of both, the first ones first."""
    both = (first, second)
    length = max(examples.token_ids_NT.shape[1] for examples in both)
    padded = [F.pad(examples.token_ids_NT, (0, length - examples.token_ids_NT.shape[1])) for examples in both]
    return Examples(
        token_ids_NT=torch.cat(padded),
        lengths_N=torch.cat([examples.lengths_N for examples in both]),
        mask_positions_N=torch.cat([examples.mask_positions_N for examples in both]),
        labels_N=torch.cat([examples.labels_N for examples in both]),
    )


class Reader:
    """A decoder as a function from sentences, and its weights, to features.

    Args:
        config: The decoder's sizes.
        readout: As in `read_out`; "mask-bidirectional" lets every position attend to the whole sentence.
    """

    def __init__(self, config: ModelConfig, readout: str) -> None:
        self._readout = readout
        self._sees_all = "bidirectional" in (config.attention, readout.removeprefix("mask-"))
        self._shell: Backbone | None = None
        if readout == "mask-bidirectional" and config.vocab_size is not None:
            with torch.device("meta"):  # it lends its shape to the decoder's weights, and has none of its own
                self._shell = Backbone(dataclasses.replace(config, attention="bidirectional"), config.vocab_size)

    def features(self, decoder: Decoder, examples: Examples, weights: Weights | None = None) -> Tensor:
        """Return one hidden state of each sentence, [N, D].

        Args:
            decoder: What reads.
            examples: The sentences.
            weights: Of the decoder, by name, where others than its own are meant.
        """
        if not self._sees_all:
            return read_out(self._hidden(decoder, examples.token_ids_NT, weights), examples, self._readout)
        # Padding would be attended to, so sentences go by length: those of one length need none.
        lengths = sorted(set(examples.lengths_N.tolist()))
        rows_by_length = [(length, (examples.lengths_N == length).nonzero()[:, 0]) for length in lengths]
        parts = []
        for length, rows in rows_by_length:
            hidden_NTD = self._hidden(decoder, examples.token_ids_NT[rows, :length], weights)
            parts.append(read_out(hidden_NTD, _rows_of(examples, rows), self._readout))
        order = torch.cat([rows for _, rows in rows_by_length]).argsort()
        return torch.cat(parts)[order]

    def _hidden(self, decoder: Decoder, token_ids_NT: Tensor, weights: Weights | None) -> Tensor:
        if weights is None and self._shell is None:
            own_hidden_NTD: Tensor = decoder.model(token_ids_NT)
            return own_hidden_NTD
        values = {name.removeprefix(BACKBONE): weight for name, weight in (weights or {}).items()}
        if self._shell is not None:
            values = dict(decoder.model.named_parameters()) | dict(decoder.model.named_buffers()) | values
        hidden_NTD: Tensor = functional_call(self._shell or decoder.model, values, (token_ids_NT,))
        return hidden_NTD


def _rows_of(examples: Examples, rows: Tensor) -> Examples:
    return Examples(
        token_ids_NT=examples.token_ids_NT[rows],
        lengths_N=examples.lengths_N[rows],
        mask_positions_N=examples.mask_positions_N[rows],
        labels_N=examples.labels_N[rows],
    )
