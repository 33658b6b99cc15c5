"""What learning dynamics take on the disk, before there are any.

Shapes: B rows, T tokens, H heads, D' what a layer gives out.
"""

from __future__ import annotations

import torch
from torch import nn

from xenoglot.checkpoint_folders import is_save_due
from xenoglot.config import RunConfig
from xenoglot.decoder import Decoder
from xenoglot.layer_names import matching_layers

__all__ = ["dynamics_bytes", "recorded_steps"]

BYTES = 4
"""Of a number: all are float32, and ids int32."""
MOMENTS = 2
"""What an optimizer remembers of each weight."""


def recorded_steps(config: RunConfig) -> set[int]:
    """Return after which steps of a run there will be learning dynamics."""
    settings, last = config.checkpointing, config.training.max_steps
    dynamics = settings.learning_dynamics
    if not dynamics.enabled:
        return set()
    return {
        step
        for step in range(last + 1)
        if dynamics.is_due(step, n_steps=last, is_saved=is_save_due(settings, step) or step == last)
    }


def dynamics_bytes(config: RunConfig) -> int:
    """Return what those of one step take, on rows as long as the model reads, where it predicts tokens.

    Args:
        config: With the final sizes of the model.

    Raises:
        OptionError: If a suffix matches no layer; with the nearest one that would.
    """
    dynamics, model = config.checkpointing.learning_dynamics, config.model
    n_rows, length = dynamics.batch_size + config.data.dataloader.batch_size, model.max_seq_len
    with torch.device("meta"):
        decoder = Decoder(model)
    layers = [decoder.get_submodule(layer) for layer in matching_layers(decoder, dynamics.layer_suffixes)]
    n_weights = sum(weight.numel() for layer in layers for weight in layer.parameters(recurse=False))
    width = sum(_width_of_output(layer) for layer in layers)
    n_positions = length if dynamics.sequence_idx is None else 1
    n_numbers = n_weights * (3 + (MOMENTS if dynamics.optimizer_state else 0))  # themselves, and two batches' gradients
    n_numbers += n_rows * (n_positions * width + 3 * length)  # and the rows: inputs, targets, floor
    if dynamics.attention_patterns:
        n_numbers += n_rows * model.n_layers * model.attention_n_heads * length**2
    return BYTES * n_numbers


def _width_of_output(layer: nn.Module) -> int:
    """Return D'."""
    weight = next(layer.parameters(recurse=False))
    return weight.shape[1] if isinstance(layer, nn.Embedding) else weight.shape[0]
