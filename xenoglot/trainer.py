"""The loop: read a batch, measure, update; once in a while write down, evaluate, save.

Everything that a step draws is a function of (seed, step), so two runs of one configuration write the same metrics,
bit for bit, on one machine with the same number of threads.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from xenoglot.batches import BatchSource
from xenoglot.checkpoint import save_checkpoint
from xenoglot.config import RunConfig
from xenoglot.decoder import Decoder
from xenoglot.errors import DivergenceError
from xenoglot.evaluations.base import Evaluation, Row
from xenoglot.objectives.base import Objective
from xenoglot.optim import learning_rate, make_optimizer
from xenoglot.rng import generator
from xenoglot.tracking import MetricsLog, write_json

__all__ = ["Outcome", "train"]


@dataclass(kw_only=True)
class Outcome:
    """What came of a run.

    Attributes:
        steps: Updates that were made.
        interrupted: Whether Ctrl-C ended it before its last step.
        checkpoint: The last checkpoint's folder.
        evaluations: The rows of every evaluation, by the number of updates before it.
    """

    steps: int = 0
    interrupted: bool = False
    checkpoint: Path | None = None
    evaluations: dict[int, list[Row]] = field(default_factory=dict)


def train(
    config: RunConfig,
    *,
    model: Decoder,
    batches: BatchSource,
    objective: Objective,
    evaluation: Evaluation,
    folder: Path,
) -> Outcome:
    """Train a model, and leave metrics, results of evaluations and checkpoints in a run's folder.

    Args:
        config: The run's configuration.
        model: Is changed in place.
        batches: Gives the rows of a step.
        objective: What is minimised.
        evaluation: What is measured before the first step, every ``eval_every_n_steps``, and after the last.
        folder: The run's folder, which exists.

    Raises:
        DivergenceError: If the loss or a gradient is not finite; the model is as before that step.
        OutputError: If something cannot be written.
    """
    training, seed = config.training, config.training.seed
    optimizer = make_optimizer(model, training.optimization)
    outcome, is_last = Outcome(), False

    def is_due(every_n_steps: int) -> bool:
        return is_last or outcome.steps % every_n_steps == 0

    def evaluate() -> None:
        rows = evaluation(model, generator(seed, "evaluation"))  # the same draw each time: only the model differs
        outcome.evaluations[outcome.steps] = rows
        content = {"step": outcome.steps, "rows": [row.to_mapping() for row in rows]}
        write_json(folder / "eval_results" / f"step_{outcome.steps}.json", content)

    (folder / "eval_results").mkdir(exist_ok=True)
    with (
        MetricsLog(folder / "metrics.jsonl") as log,
        _Progress(training.max_steps) as progress,
        _Interrupt() as interrupt,
    ):
        evaluate()
        while not is_last:
            step, started = outcome.steps, time.perf_counter()
            batch = batches(step)
            rate = learning_rate(training.optimization, step, training.max_steps)
            result = objective(model, batch, generator(seed, "objective", step))
            loss_nats = _finite(result.loss, "loss", step)
            gradient_norm = _update(model, optimizer, result.loss, rate, training.optimization.gradient_clip_norm, step)
            outcome.steps += 1
            is_last = outcome.steps == training.max_steps or interrupt.requested  # one look: what ends is also saved
            tokens_per_second = batch.inputs_BT.numel() / (time.perf_counter() - started)

            progress.show(outcome.steps, loss_nats, tokens_per_second)
            if is_due(config.monitoring.logging.log_every_n_steps):
                metrics = {name: value.item() for name, value in result.metrics.items()}
                metrics |= {"gradient_norm": gradient_norm, "lr": rate, "tokens_per_second": tokens_per_second}
                log.write(outcome.steps, metrics)
            if is_due(config.checkpointing.save_every_n_steps):
                outcome.checkpoint = save_checkpoint(folder, outcome.steps, model)
            if is_due(config.evaluation.eval_every_n_steps):
                evaluate()
    outcome.interrupted = outcome.steps < training.max_steps
    return outcome


def _update(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, rate: float, clip_norm: float, step: int
) -> float:
    """Change the parameters by one step, and return the gradient's norm before clipping."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    gradient_norm = _finite(nn.utils.clip_grad_norm_(model.parameters(), clip_norm), "gradient's norm", step)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return gradient_norm


def _finite(value: Tensor, name: str, step: int) -> float:
    number = value.item()
    if not math.isfinite(number):
        raise DivergenceError(
            f"step {step + 1}: the {name} is {number}; allowed: a finite number. The step was not made. "
            "Try a lower learning rate (--training.optimization.lr) or a longer warm-up "
            "(--training.optimization.lr_warmup_steps)."
        )
    return number


class _Interrupt:
    """Turns the first Ctrl-C into a request, so that no step is cut in two; the second one acts at once."""

    def __init__(self) -> None:
        self.requested = False

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, self._earlier)

    def __enter__(self) -> Self:
        self._earlier = signal.getsignal(signal.SIGINT)
        self._is_ours = threading.current_thread() is threading.main_thread()  # no other thread may set handlers
        if self._is_ours:
            signal.signal(signal.SIGINT, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._is_ours:
            signal.signal(signal.SIGINT, self._earlier)


class _Progress:
    """A live line on stderr with step, loss, speed and time to go; nothing where stderr is no terminal."""

    def __init__(self, max_steps: int) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]} nats  {task.fields[speed]} tokens/s "),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("train", total=max_steps, loss="-", speed="-")

    def show(self, steps: int, loss_nats: float, tokens_per_second: float) -> None:
        self._bar.update(self._task, completed=steps, loss=f"{loss_nats:.3f}", speed=f"{tokens_per_second:,.0f}")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()
