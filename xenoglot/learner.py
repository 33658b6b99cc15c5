"""A model that learns: its optimizers, one update, and what of it a checkpoint has to keep."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xenoglot.batches import TokenBatch
from xenoglot.config import TrainingConfig
from xenoglot.decoder import Decoder
from xenoglot.devices import Devices
from xenoglot.errors import DivergenceError
from xenoglot.objectives.base import Objective
from xenoglot.optim import learning_rate, make_optimizers, optimizer_tensors, restore_optimizers, schedule, set_rates
from xenoglot.rng import generator

__all__ = ["Learner", "Update"]


@dataclass(frozen=True, kw_only=True)
class Update:
    """What one update was.

    Attributes:
        metrics: Of the objective, over all rows of the step, and ``gradient_norm`` (before clipping) and ``lr``.
        n_tokens: Tokens that all processes read for it.
        length: Tokens of a row.
        seconds: What it took, data not included.
    """

    metrics: Mapping[str, float]
    n_tokens: int
    length: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """The update's speed."""
        return self.n_tokens / self.seconds


class Learner:
    """A model with its optimizers, on its devices.

    Args:
        config: How it learns.
        devices: Where.
        model: Is changed in place; brought to its device, and cut up where several share it.
        objective: What is minimised.
    """

    def __init__(self, config: TrainingConfig, *, devices: Devices, model: Decoder, objective: Objective) -> None:
        self._config, self._devices, self._objective = config, devices, objective
        self.model = model
        self._called = devices.setup(model, compiled=config.compile)
        self._optimizers = make_optimizers(model, config.optimization)

    def update(self, step: int, parts: Sequence[TokenBatch], *, identity: str) -> Update:
        """Make the update of a step.

        Args:
            step: Counts from 0; says the rate, and what the objective draws.
            parts: This process's share of the step's rows, in the order in which they go through memory.
            identity: What to call the rows in a message.

        Raises:
            DivergenceError: If the loss or the gradient's norm is not finite; nothing has been changed.
        """
        started, devices, optimization = time.perf_counter(), self._devices, self._config.optimization
        measured = []
        for number, batch in enumerate(parts):
            rng = generator(self._config.seed, "objective", step, devices.index * len(parts) + number)
            with devices.accumulating(self._called, more=number + 1 < len(parts)):
                result = self._objective(self._called, batch.to(devices.device), rng)
                devices.fabric.backward(result.loss / len(parts))
            measured.append(
                torch.stack([result.loss.detach().float(), *map(torch.Tensor.float, result.metrics.values())])
            )
        norm = devices.clip_gradients(self.model, optimization.gradient_clip_norm)
        means = devices.mean(torch.stack(measured).mean(dim=0))
        loss, *values, gradient_norm = torch.cat([means, norm.float().view(1)]).tolist()  # one wait for the device
        self._check_finite(step, identity, loss=loss, gradient_norm=gradient_norm)

        set_rates(self._optimizers, schedule(optimization, step, self._config.max_steps))
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        rate = learning_rate(optimization, step, self._config.max_steps)
        return Update(
            metrics=dict(zip(result.metrics, values, strict=True)) | {"gradient_norm": gradient_norm, "lr": rate},
            n_tokens=devices.count * sum(batch.inputs_BT.numel() for batch in parts),
            length=parts[0].inputs_BT.shape[1],
            seconds=time.perf_counter() - started,
        )

    def _check_finite(self, step: int, identity: str, *, loss: float, gradient_norm: float) -> None:
        """Stop before the update: with a step along what is not finite, every weight would be lost."""
        for name, value in {"loss": loss, "gradient's norm": gradient_norm}.items():
            if not math.isfinite(value):
                for optimizer in self._optimizers:
                    optimizer.zero_grad(set_to_none=True)
                raise DivergenceError(
                    f"step {step + 1}: the {name} is {value}; allowed: a finite number. The step was not made; it read "
                    f"{identity}. Try a lower learning rate (--training.optimization.lr), a longer warm-up "
                    "(--training.optimization.lr_warmup_steps) or --training.fabric.precision 32-true."
                )

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the weights, and what the optimizers remember, each by name and whole on every process."""
        return self._devices.whole_weights(self.model), optimizer_tensors(self.model, self._optimizers)

    def restore(self, weights: Mapping[str, Tensor], remembered: Mapping[str, Tensor]) -> None:
        """Go back to a `state`, wherever and by however many processes it was made.

        Raises:
            DataError: If it is of a model of another shape.
        """
        self._devices.load_weights(self.model, weights)
        restore_optimizers(self.model, self._optimizers, remembered)
