"""The loop: read a batch, update; once in a while write down, evaluate, save.

Everything that a step draws is a function of (seed, step), so a run that was killed and resumed from its newest
checkpoint writes the same metrics and weights as one that was not: on CPU bit for bit, with the same number of threads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xenoglot.batches import Batch, BatchSource, Part
from xenoglot.checkpoint import Checkpoint, Checkpoints, TrainingState
from xenoglot.config import RunConfig
from xenoglot.decoder import Decoder
from xenoglot.dynamics import NOTHING, Recorder
from xenoglot.episodes.batches import Branches
from xenoglot.evaluation_files import drop_later_evaluations, evaluation_file
from xenoglot.evaluations.base import Evaluation, headline
from xenoglot.model_card import CARD_FILE, checkpoint_card
from xenoglot.objectives.base import Objective
from xenoglot.rng import generator
from xenoglot.throughput import mfu
from xenoglot.tracking import MetricsLog, open_trackers, write_json
from xenoglot.training.devices import Devices
from xenoglot.training.interrupts import Interrupts
from xenoglot.training.learner import Learner, Update
from xenoglot.training.progress import Progress

__all__ = ["Outcome", "Run", "train"]

FIRST_STEPS = 5
"""Speed is measured after these: memory is being found and code compiled."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run is made of.

    Attributes:
        config: Its configuration, with the final sizes of the model.
        settings: The configuration as plain values, for trackers.
        folder: Where it is kept; exists.
        devices: On what it computes.
        model: Is changed in place.
        batches: Gives the rows of a step.
        objective: What is minimised.
        evaluations: What is measured before the first step, every ``eval_every_n_steps``, and after the last.
        identity: What each checkpoint remembers of the run, for whoever resumes from it.
        files: What else each checkpoint's folder holds, such as a tokenizer.
        branches: Which steps are of tasks, if some are.
        dynamics: Takes what some layers do at chosen steps, if that is asked for.
    """

    config: RunConfig
    folder: Path
    devices: Devices
    model: Decoder
    batches: BatchSource
    objective: Objective
    evaluations: Sequence[Evaluation]
    settings: Mapping[str, Any]
    identity: Mapping[str, Any]
    files: Mapping[str, bytes]
    branches: Branches | None = None
    dynamics: Recorder | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended.

    Attributes:
        steps: Updates that were made in all, those before it was resumed included.
        interrupted_by: The signal that ended it before its last step, or None.
    """

    steps: int
    interrupted_by: int | None


def train(run: Run, checkpoints: Checkpoints, *, resumed_from: Checkpoint | None = None) -> Outcome:
    """Train to the last step, or until asked to stop.

    Args:
        run: What to train on what; metrics, evaluations and checkpoints are left in its folder.
        checkpoints: Those of the run's folder.
        resumed_from: The one that the run goes on from; it begins anew if None.

    Raises:
        DivergenceError: If the loss or the gradient is not finite; the model is as before that step.
        OutputError: If something cannot be written.
    """
    config, devices, n_steps = run.config, run.devices, run.config.training.max_steps
    learner = Learner(config.training, devices=devices, model=run.model, objective=run.objective)
    step = _restore(learner, resumed_from) if resumed_from else 0

    def is_due(every_n_steps: int) -> bool:
        return step % every_n_steps == 0 or step == n_steps

    with (
        Interrupts() as interrupts,
        _Written(run, after_step=step) as written,
        Progress(n_steps, start_step=step, is_quiet=not devices.is_main) as progress,
        _Upcoming(run, first=step) as upcoming,
    ):
        if step == 0:
            written.evaluation(step)
            if resumed_from is None and _is_recorded(step, run, is_saved=False):
                _save(step, run, learner, checkpoints, is_recorded=True)
        while step < n_steps:
            update = learner.update(step, upcoming.parts(step), identity=run.batches.identity(step))
            step += 1
            written.count(update)
            progress.show(
                step,
                loss_nats=update.metrics.get("loss_nats"),
                query_loss_nats=update.metrics.get("query_loss_nats"),
                tokens_per_second=update.tokens_per_second,
                excess_nats=written.excess_nats,
            )
            if is_due(config.monitoring.logging.log_every_n_steps):
                written.metrics(step, update)
            if is_due(config.evaluation.eval_every_n_steps):
                written.evaluation(step)
            # After the evaluation: whoever resumes from this checkpoint will not make that one again.
            is_asked_to_stop = devices.any(interrupts.requested is not None)
            is_saved = checkpoints.is_due(step) or step == n_steps
            is_recorded = _is_recorded(step, run, is_saved=is_saved)
            if is_saved or is_recorded or is_asked_to_stop:
                written.bring_to_disk()
                _save(step, run, learner, checkpoints, is_recorded=is_recorded)
            if is_asked_to_stop:
                break
        devices.on_main(checkpoints.wait)
    return Outcome(steps=step, interrupted_by=interrupts.requested if step < n_steps else None)


def _restore(learner: Learner, checkpoint: Checkpoint) -> int:
    """Go back to a checkpoint, and return how many steps it is after."""
    weights, state = checkpoint.read()
    learner.restore(weights, state.tensors)
    return checkpoint.step


def _is_recorded(step: int, run: Run, *, is_saved: bool) -> bool:
    return run.dynamics is not None and run.dynamics.is_due(step, is_saved=is_saved)


def _save(step: int, run: Run, learner: Learner, checkpoints: Checkpoints, *, is_recorded: bool) -> None:
    """Save all that the rest of the run is a function of; its place in the data follows from the step."""
    weights, remembered = learner.state()  # by all processes: each has a part of what is cut up
    state = TrainingState(tensors=remembered, facts={"step": step, **run.identity})

    def save() -> None:
        recorded = run.dynamics.record(step, weights, remembered) if run.dynamics and is_recorded else NOTHING
        checkpoints.save(
            step,
            config=run.config.model,
            weights=weights,
            state=state,
            files={**run.files, **recorded.files, CARD_FILE: checkpoint_card(run.folder, run.config, step)},
            more_tensors=recorded.tensors,
        )

    run.devices.on_main(save)


class _Upcoming:
    """The rows of the next step, made while this one is being learned from."""

    def __init__(self, run: Run, *, first: int) -> None:
        n_parts = run.config.training.optimization.gradient_accumulation_steps
        self._numbers = [
            Part(index=run.devices.index * n_parts + number, count=run.devices.count * n_parts)
            for number in range(n_parts)
        ]
        self._batches, self._n_steps = run.batches, run.config.training.max_steps
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="upcoming-rows")
        self._next = self._begin(first)

    def parts(self, step: int) -> list[Batch]:
        """Return this process's parts of a step, which is one after the last that was asked for."""
        parts = self._next.result()
        self._next = self._begin(step + 1)
        return parts

    def _begin(self, step: int) -> Future[list[Batch]]:
        return self._worker.submit(
            lambda: [self._batches(step, part) for part in self._numbers if step < self._n_steps]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._worker.shutdown()


class _Written:
    """What the main process writes down while training: metrics, and results of evaluations.

    A run that goes on after a step writes everything after it once more.
    """

    def __init__(self, run: Run, *, after_step: int) -> None:
        self._run, self._sinks = run, contextlib.ExitStack()
        self._n_tokens, self._seconds, self._n_updates = 0, 0.0, 0
        self.excess_nats: float | None = None
        if run.devices.is_main:
            drop_later_evaluations(run.folder, after_step=after_step)
            self._log = self._sinks.enter_context(MetricsLog(run.folder / "metrics.jsonl", after_step=after_step))
            monitoring = run.config.monitoring
            self._trackers = self._sinks.enter_context(
                open_trackers(monitoring, run.folder, run.folder.name, run.settings)
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._sinks.close()

    def count(self, update: Update) -> None:
        """Take an update into the account of speed."""
        self._n_updates += 1
        if self._n_updates > FIRST_STEPS:
            self._n_tokens += update.n_tokens
            self._seconds += update.seconds

    def metrics(self, step: int, update: Update) -> None:
        """Write the metrics of a step, and the speed of all since the last time."""
        speed = self._n_tokens / self._seconds if self._seconds else update.tokens_per_second
        self._n_tokens, self._seconds = 0, 0.0
        if self._run.devices.is_main:
            counts = self._run.branches.counts(step) if self._run.branches else {}
            metrics = {**update.metrics, **counts, "tokens_per_second": speed, "mfu": self._mfu(speed, update.length)}
            self._log.write(step, metrics)
            self._trackers.write(step, metrics)

    def bring_to_disk(self) -> None:
        """Make the metrics last that a checkpoint will count on."""
        if self._run.devices.is_main:
            self._log.bring_to_disk()

    def evaluation(self, step: int) -> None:
        """Measure the model, by all processes since each may have a part of it, and write the rows."""
        run = self._run
        with run.devices.evaluating():
            # The same draw each time, so that between steps only the model differs.
            rows = [
                row
                for each in run.evaluations
                for row in each(run.model, generator(run.config.training.seed, "evaluation"))
            ]
        content = {"step": step, "rows": [row.to_mapping() for row in rows]}
        run.devices.on_main(lambda: write_json(evaluation_file(run.folder, step), content))
        followed = headline(rows)
        self.excess_nats = followed.get("evaluation/last_quarter/excess_nats")
        if run.devices.is_main:
            self._trackers.write(step, followed)

    def _mfu(self, tokens_per_second: float, length: int) -> float | None:
        """Return the share of the devices' peak that the model's own arithmetic takes; None if it is not known."""
        return mfu(
            self._run.config.model,
            length,
            tokens_per_second=tokens_per_second,
            peak_flops_per_second=self._run.devices.peak_flops_per_second,
        )
