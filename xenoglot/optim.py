r"""From a gradient to a step: AdamW in two groups, and a learning rate that warms up and then decays.

Matrices decay towards zero; gains of norms and embeddings do not (there zero is no simpler than any other value).
"""

from __future__ import annotations

import math

import torch
from torch import nn

from xenoglot.config import OptimizationConfig

__all__ = ["decay_groups", "learning_rate", "make_optimizer"]


def learning_rate(config: OptimizationConfig, step: int, max_steps: int) -> float:
    r"""Return the learning rate of a step.

    With warm-up of w steps, N steps in all and final share r, step s = 0, 1, ..., N - 1 has

    .. math::
        \eta_s = \eta \frac{s + 1}{w} \;(s < w), \qquad
        \eta_s = \eta \left(r + (1 - r) d\!\left(\frac{s + 1 - w}{N - w}\right)\right) \;(s \ge w)

    with d(p) = (1 + cos(pi p)) / 2 (cosine; Loshchilov and Hutter 2017, arXiv 1608.03983) or 1 - p (linear). The first
    step already moves: a rate of zero, as is common, wastes it.

    Args:
        config: The schedule.
        step: 0 to max_steps - 1.
        max_steps: Steps of the run, N.

    Example:
        >>> config = OptimizationConfig(lr=1.0, lr_warmup_steps=2, lr_scheduler="linear")
        >>> [round(learning_rate(config, step, 6), 2) for step in range(6)]
        [0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    warmup = min(config.lr_warmup_steps, max_steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step + 1 - warmup) / (max_steps - warmup)
    decay = 0.5 * (1.0 + math.cos(math.pi * progress)) if config.lr_scheduler == "cosine" else 1.0 - progress
    return config.lr * (config.lr_final_ratio + (1.0 - config.lr_final_ratio) * decay)


def decay_groups(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Split the parameters into those that decay (matrices) and those that do not (norms, biases, embeddings)."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    decaying: list[nn.Parameter] = []
    constant: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            is_matrix = parameter.ndim >= 2 and id(parameter) not in embeddings
            (decaying if is_matrix else constant).append(parameter)
    return decaying, constant


def make_optimizer(model: nn.Module, config: OptimizationConfig) -> torch.optim.Optimizer:
    """Make AdamW over the decay groups of a model (Loshchilov and Hutter 2019, arXiv 1711.05101)."""
    decaying, constant = decay_groups(model)
    groups = [
        {"params": decaying, "weight_decay": config.weight_decay},
        {"params": constant, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), fused=True)
