r"""From a gradient to a step: optimizers over groups of parameters, and rates that warm up and then decay.

Matrices decay towards zero; gains of norms and embeddings do not (there zero is no simpler than any other value).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from xenoglot.config import OptimizationConfig
from xenoglot.errors import DataError

__all__ = ["decay_groups", "learning_rate", "make_optimizers", "optimizer_tensors", "restore_optimizers", "set_rates"]

HIGHEST_RATE = "highest_rate"
"""Where a parameter group keeps the rate that the schedule is a share of."""


def schedule(config: OptimizationConfig, step: int, max_steps: int) -> float:
    r"""Return a step's share of the highest learning rate.

    With warm-up of w steps, N steps in all and final share r, step s = 0, 1, ..., N - 1 has

    .. math::
        \frac{s + 1}{w} \;(s < w), \qquad r + (1 - r)\, d\!\left(\frac{s + 1 - w}{N - w}\right) \;(s \ge w)

    with d(p) = (1 + cos(pi p)) / 2 (cosine; Loshchilov and Hutter 2017, arXiv 1608.03983), 1 - p (linear), or
    min(1, (1 - p) / c) where c is the share of those steps that decay (constant; Hu et al. 2024, arXiv 2404.06395). The
    first step already moves: a rate of zero, as is common, wastes it.

    Args:
        config: The schedule.
        step: 0 to max_steps - 1.
        max_steps: Steps of the run, N.
    """
    warmup = min(config.lr_warmup_steps, max_steps)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step + 1 - warmup) / (max_steps - warmup)
    match config.lr_scheduler.removesuffix("_with_warmup"):
        case "cosine":
            decay = 0.5 * (1.0 + math.cos(math.pi * progress))
        case "linear":
            decay = 1.0 - progress
        case _:
            decay = min(1.0, (1.0 - progress) / config.lr_decay_ratio) if config.lr_decay_ratio else 1.0
    return config.lr_final_ratio + (1.0 - config.lr_final_ratio) * decay


def learning_rate(config: OptimizationConfig, step: int, max_steps: int) -> float:
    """Return the learning rate of a step: the schedule's share of the highest.

    Example:
        >>> config = OptimizationConfig(lr=1.0, lr_warmup_steps=2, lr_scheduler="linear")
        >>> [round(learning_rate(config, step, 6), 2) for step in range(6)]
        [0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
        >>> config = OptimizationConfig(lr=1.0, lr_warmup_steps=2, lr_scheduler="constant", lr_decay_ratio=0.5)
        >>> [round(learning_rate(config, step, 6), 2) for step in range(6)]
        [0.5, 1.0, 1.0, 1.0, 0.5, 0.0]
    """
    return config.lr * schedule(config, step, max_steps)


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


def make_optimizers(
    model: nn.Module, config: OptimizationConfig, learned: nn.Module | None = None
) -> list[torch.optim.Optimizer]:
    r"""Make AdamW over the decay groups of a model, or Muon for the matrices inside its layers and AdamW for the rest.

    What the objective learns itself goes to AdamW too, and does not decay: zero has no meaning there.

    AdamW: Loshchilov and Hutter 2019, arXiv 1711.05101. Muon steps along the nearest orthogonal matrix to the momentum,
    found by Newton-Schulz iterations (Jordan et al. 2024); its rate is scaled by sqrt(max(1, rows / columns)).
    """
    decaying, constant = decay_groups(model)
    constant += [] if learned is None else list(learned.parameters())
    optimizers: list[torch.optim.Optimizer] = []
    if config.optimizer == "muon":
        inside = {id(parameter) for name, parameter in model.named_parameters() if ".layers." in name}
        matrices = [parameter for parameter in decaying if id(parameter) in inside]
        decaying = [parameter for parameter in decaying if id(parameter) not in inside]
        optimizers.append(torch.optim.Muon(matrices, lr=config.muon_lr, weight_decay=config.weight_decay))
    groups = [
        {"params": decaying, "weight_decay": config.weight_decay},
        {"params": constant, "weight_decay": 0.0},
    ]
    optimizers.append(
        torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            fused=True,
        )
    )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group[HIGHEST_RATE] = group["lr"]
    return optimizers


def set_rates(optimizers: Sequence[torch.optim.Optimizer], share: float) -> None:
    """Set every group's learning rate to a share of its highest."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group[HIGHEST_RATE] * share


def optimizer_tensors(
    parameters: Mapping[str, nn.Parameter], optimizers: Sequence[torch.optim.Optimizer]
) -> dict[str, Tensor]:
    """Return what the optimizers remember of each parameter, under ``parameter name:what``, whole on every process."""
    remembered: dict[str, Tensor] = {}
    for name, parameter, optimizer in _owned(parameters, optimizers):
        for what, value in sorted(optimizer.state[parameter].items()):
            remembered[f"{name}:{what}"] = value.full_tensor() if isinstance(value, DTensor) else value
    return remembered


def restore_optimizers(
    parameters: Mapping[str, nn.Parameter],
    optimizers: Sequence[torch.optim.Optimizer],
    remembered: Mapping[str, Tensor],
) -> None:
    """Give the optimizers back what `optimizer_tensors` returned, on the parameters' devices and cut up as they are.

    Raises:
        DataError: If it is of other parameters.
    """
    left = dict(remembered)
    for name, parameter, optimizer in _owned(parameters, optimizers):
        own = {key.rpartition(":")[2]: left.pop(key) for key in sorted(left) if key.rpartition(":")[0] == name}
        wrong = [what for what, value in own.items() if value.ndim and value.shape != parameter.shape]
        if wrong:
            raise DataError(f"{name}: the optimizer's {wrong[0]} has another shape than the parameter.")
        optimizer.state[parameter] = {what: _placed_like(value, parameter) for what, value in own.items()}
    if left:
        raise DataError(f"the optimizer's state is of parameters that the model has not: {', '.join(sorted(left))}.")


def _owned(
    parameters: Mapping[str, nn.Parameter], optimizers: Sequence[torch.optim.Optimizer]
) -> Iterator[tuple[str, nn.Parameter, torch.optim.Optimizer]]:
    owners = {id(p): optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in parameters.items():
        if id(parameter) in owners:
            yield name, parameter, owners[id(parameter)]


def _placed_like(value: Tensor, parameter: nn.Parameter) -> Tensor:
    """Copy a tensor to where the parameter is; a step counter stays a plain number there."""
    moved = value.to(parameter.device, copy=True)
    if isinstance(parameter, DTensor) and value.ndim:
        return distribute_tensor(moved, parameter.device_mesh, parameter.placements)
    return moved
