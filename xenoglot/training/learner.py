"""A model that learns: its optimizers, one update, and what of it a checkpoint has to keep."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xenoglot.batches import Batch
from xenoglot.config import TrainingConfig
from xenoglot.decoder import Decoder
from xenoglot.errors import DivergenceError
from xenoglot.objectives.base import Objective
from xenoglot.optim import learning_rate, make_optimizers, optimizer_tensors, restore_optimizers, schedule, set_rates
from xenoglot.rng import generator
from xenoglot.training.devices import Devices

__all__ = ["Learner", "Update"]

OBJECTIVE = "objective"
"""Under which name a checkpoint keeps what the objective learned itself."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """What one update was.

    Attributes:
        metrics: Of the objective, over all rows of the step, ``gradient_norm`` (before clipping, named after the
            objective's branch if there are several) and ``lr``.
        n_tokens: Tokens that all processes read for it.
        length: Tokens of a row; of the longest one of the first part.
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
        self.model, self._learned = model, objective.learned
        self._called = devices.setup(model, compiled=config.compile)
        if self._learned is not None:
            self._learned.to(devices.device)
        self._optimizers = make_optimizers(model, config.optimization, self._learned)
        self._parameters = dict(model.named_parameters())
        if self._learned is not None:
            self._parameters |= {f"{OBJECTIVE}.{name}": each for name, each in self._learned.named_parameters()}

    def update(self, step: int, parts: Sequence[Batch], *, identity: str) -> Update:
        """Make the update of a step.

        Args:
            step: Counts from 0; says the rate, and what the objective draws.
            parts: This process's share of the step's rows, in the order in which they go through memory.
            identity: What to call the rows in a message.

        Raises:
            DivergenceError: If the loss or the gradient's norm is not finite; nothing has been changed.
        """
        started, devices, optimization = time.perf_counter(), self._devices, self._config.optimization
        is_bare = self._objective.needs_parameters(parts[0])
        measured = []
        for number, batch in enumerate(parts):
            rng = generator(self._config.seed, "objective", step, devices.index * len(parts) + number)
            with self._calling(is_bare, is_last=number + 1 == len(parts)) as called:
                result = self._objective(called, batch.to(devices.device), rng)
                devices.fabric.backward(result.loss / len(parts))
            measured.append(torch.stack([value.detach().float() for value in (result.loss, *result.metrics.values())]))
        if is_bare:
            devices.average_gradients(self._parameters.values())
        norm = devices.clip_gradients(self._parameters.values(), optimization.gradient_clip_norm)
        means = devices.mean(torch.stack(measured).mean(dim=0))
        loss, *values, gradient_norm = torch.cat([means, norm.float().view(1)]).tolist()  # one wait for the device
        self._check_finite(step, identity, loss=loss, gradient_norm=gradient_norm)

        set_rates(self._optimizers, schedule(optimization, step, self._config.max_steps))
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        rate = learning_rate(optimization, step, self._config.max_steps)
        own = {f"{result.branch}gradient_norm": gradient_norm, "lr": rate}
        return Update(
            metrics=dict(zip(result.metrics, values, strict=True)) | own,
            n_tokens=devices.count * sum(batch.n_tokens for batch in parts),
            length=parts[0].length,
            seconds=time.perf_counter() - started,
        )

    @contextlib.contextmanager
    def _calling(self, is_bare: bool, *, is_last: bool) -> Iterator[nn.Module]:
        """Give what the objective is to call; a wrapped model's gradients are averaged with those of the last part."""
        if is_bare:
            with self._devices.fabric.autocast():
                yield self.model
        else:
            with self._devices.accumulating(self._called, more=not is_last):
                yield self._called

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
        """Return the model's weights, and whatever else was learned or is remembered, whole on every process."""
        others = optimizer_tensors(self._parameters, self._optimizers)
        if self._learned is not None:
            others |= {f"{OBJECTIVE}:{name}": value for name, value in self._learned.state_dict().items()}
        return self._devices.whole_weights(self.model), others

    def restore(self, weights: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> None:
        """Go back to a `state`, wherever and by however many processes it was made.

        Raises:
            DataError: If it is of a model of another shape.
        """
        learned = {name.removeprefix(f"{OBJECTIVE}:"): value for name, value in others.items() if _is_learned(name)}
        self._devices.load_weights(self.model, weights)
        if self._learned is not None:
            self._learned.load_state_dict(learned)
        remembered = {name: value for name, value in others.items() if not _is_learned(name)}
        restore_optimizers(self._parameters, self._optimizers, remembered)


def _is_learned(name: str) -> bool:
    return name.startswith(f"{OBJECTIVE}:")
