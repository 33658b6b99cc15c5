"""Decoders as they would be after training, without any: what several test files need."""

from __future__ import annotations

import torch

from xenoglot.config import ModelConfig
from xenoglot.decoder import Decoder


def shaken(config: ModelConfig, scale: float = 1.0) -> Decoder:
    """A decoder whose output matrix is not zero and whose gains are not 1; ``scale`` multiplies the logits."""
    decoder, rng = Decoder(config), torch.Generator().manual_seed(3)
    with torch.no_grad():
        decoder.lm_head.weight.normal_(0.0, scale * config.d_model**-0.5, generator=rng)
        for name, weight in decoder.named_parameters():
            if "norm" in name:
                weight.normal_(1.0, 0.2, generator=rng)
    return decoder


def random_decoder(config: ModelConfig, seed: int = 3) -> Decoder:
    """A decoder with every weight random, the zero output matrix and the gains of norms included."""
    decoder, rng = Decoder(config), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.normal_(0.0, 0.4, generator=rng)
    return decoder
