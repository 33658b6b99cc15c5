"""From sentences to the features that a head sorts: where the decoder's hidden states are read.

A causal decoder has seen the whole sentence, what stands after the mask included, only at the final token: that is
where it is read unless told otherwise. At the mask it knows only what stands before; with attention to all of the
sentence, which the same weights allow, it knows everything there too.

Shapes: N sentences, T tokens, D numbers of a hidden state.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from xenoglot.config import ModelConfig
from xenoglot.decoder import Decoder
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
        readout: As in `read_out`; "mask-bidirectional" lets every position gather from the whole sentence.
    """

    def __init__(self, config: ModelConfig, readout: str) -> None:
        self._readout = readout
        self._sees_all = "bidirectional" in (config.attention, readout.removeprefix("mask-"))

    def features(self, decoder: Decoder, examples: Examples, weights: Weights | None = None) -> Tensor:
        """Return one hidden state of each sentence, [N, D].

        Args:
            decoder: What reads.
            examples: The sentences.
            weights: Of the decoder, by name, where others than its own are meant.
        """
        options = {"is_seen_BHTS": _is_token(examples)[:, None, None]} if self._sees_all else {}
        if weights is None:
            hidden_NTD = decoder.model(examples.token_ids_NT, **options)
        else:
            own = {name.removeprefix(BACKBONE): weight for name, weight in weights.items()}
            hidden_NTD = functional_call(decoder.model, own, (examples.token_ids_NT,), options)
        return read_out(hidden_NTD, examples, self._readout)


def _is_token(examples: Examples) -> Tensor:
    """Return which positions [N, T] hold a token, and not padding."""
    length = examples.token_ids_NT.shape[1]
    return torch.arange(length, device=examples.lengths_N.device) < examples.lengths_N[:, None]
