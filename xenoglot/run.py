"""From a configuration to a finished run: its folder, its data and model, training, pictures and the report.

```python
finished = xenoglot.run.start(xenoglot.config.default_config())
```
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from xenoglot import heads
from xenoglot.assembly.data import LearningData, few_shot_evaluations, open_data
from xenoglot.assembly.learners import new_learner
from xenoglot.assembly.resuming import check_identity, identity_of
from xenoglot.checkpoint import Checkpoint, Checkpoints
from xenoglot.checkpoint_folders import saved_steps
from xenoglot.config import CheckpointingConfig, RunConfig, to_mapping, with_overrides
from xenoglot.config.files import write_config
from xenoglot.decoder import Decoder, begin_from
from xenoglot.dynamics import Recorder
from xenoglot.errors import OptionError, OutputError
from xenoglot.evaluation_files import RESULTS, evaluation_files
from xenoglot.evaluations.base import Row
from xenoglot.figures import draw_loss_by_position
from xenoglot.hub import Pusher, require_hub
from xenoglot.model_files import further_files
from xenoglot.objectives import Objective
from xenoglot.objectives.autoregressive import Autoregressive
from xenoglot.objectives.hybrid import Hybrid
from xenoglot.report import write_report
from xenoglot.rng import derive, generator
from xenoglot.run_lock import RunLock
from xenoglot.tracking import environment, require_trackers, write_json
from xenoglot.trainer import Outcome, Run, train
from xenoglot.training.devices import Devices

__all__ = ["Finished", "start"]

N_SAMPLES = 4
"""Rows that the report shows token by token."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What came of a run.

    Attributes:
        folder: The run's folder.
        config: Its configuration, with the final sizes of the model.
        outcome: How it ended.
        evaluations: The rows of all its evaluations, by the steps made before.
        is_main: Whether this is the process, of those that made the run, which speaks to the user.
    """

    folder: Path
    config: RunConfig
    outcome: Outcome
    evaluations: Mapping[int, Sequence[Row]]
    is_main: bool


def start(config: RunConfig) -> Finished:
    """Make a run, or go on with the one of that name from its newest valid checkpoint.

    Args:
        config: Everything that the run depends on.

    Raises:
        OutputError: If the folder cannot be written, another process is writing it, or there is such a run already and
            ``checkpointing.auto_resume`` is off.
        ResumeError: If the run was begun with other options that matter.
        UnknownNameError: If there is no such head for tasks.
        MissingExtraError: If a tracker, or the Hub's client for pushing checkpoints, is asked for and not installed.
    """
    require_hub(config.checkpointing)
    require_trackers(config.monitoring)
    if config.smlmt.enabled:
        heads.get(config.smlmt.classifier_head.kind)  # an unknown one is told before a text is read
    devices = Devices(config.training.fabric, deterministic=config.training.deterministic)
    data = devices.on_main(lambda: open_data(config)) or open_data(config)  # what is prepared, one process prepares
    config = _fitted(config, data, devices)
    folder = _folder(config, devices)
    with contextlib.ExitStack() as held:
        devices.on_main(lambda: held.enter_context(_held(folder, config)))
        saving = devices.on_main(lambda: held.enter_context(_saving(folder, config.checkpointing)))
        checkpoints = saving or Checkpoints(folder, config.checkpointing)
        run = _assembled(config, folder, devices, data)
        newest = devices.on_main(lambda: _taken_up(run, checkpoints))
        with devices.expecting_others():
            outcome = train(run, checkpoints, resumed_from=devices.fabric.broadcast(newest))
            _finish(run, outcome)
    return Finished(
        folder=folder,
        config=config,
        outcome=outcome,
        evaluations=_evaluations(folder),
        is_main=devices.is_main,
    )


def _fitted(config: RunConfig, data: LearningData, devices: Devices) -> RunConfig:
    """Give the model as many ids as the data has, unless it was told to have more; check that rows can be shared."""
    n_tokens, vocab_size = data.batches.n_tokens, config.model.vocab_size
    if vocab_size is not None and vocab_size < n_tokens:
        raise OptionError("model.vocab_size", vocab_size, f"at least the {n_tokens} ids of the data, or none")
    n_parts = devices.count * config.training.optimization.gradient_accumulation_steps
    for path, size in config.step_sizes.items():
        if size % n_parts:
            allowed = f"a multiple of {n_parts}: {devices.count} devices times gradient_accumulation_steps"
            raise OptionError(path, size, allowed)
    return with_overrides(config, {"model.vocab_size": vocab_size or n_tokens})


def _folder(config: RunConfig, devices: Devices) -> Path:
    name = config.checkpointing.run_name or dt.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    return Path(config.checkpointing.runs_dir) / devices.fabric.broadcast(name)


@contextlib.contextmanager
def _held(folder: Path, config: RunConfig) -> Iterator[None]:
    """Hold a run's folder, and make it if it is not there, so that no other process writes it meanwhile."""
    if folder.exists() and not config.checkpointing.auto_resume:
        raise OutputError(
            f"{folder}: there is a run already. Choose another --checkpointing.run_name, or go on with it: "
            "--checkpointing.auto_resume true."
        )
    try:
        (folder / RESULTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: the run's folder cannot be made: {error.strerror}.") from error
    with RunLock(folder):
        yield


@contextlib.contextmanager
def _saving(folder: Path, config: CheckpointingConfig) -> Iterator[Checkpoints]:
    """Open the checkpoints of a run's folder, which are pushed to the Hub in the background if that is asked for."""
    if not config.save_to_hf:
        with Checkpoints(folder, config) as checkpoints:
            yield checkpoints
        return
    pusher = Pusher(folder, config.hf_checkpoint)
    with pusher, Checkpoints(folder, config, on_saved=pusher.take) as checkpoints:
        pusher.begin()
        yield checkpoints


def _assembled(config: RunConfig, folder: Path, devices: Devices, data: LearningData) -> Run:
    weights_rng = torch.Generator().manual_seed(derive(config.training.seed, "initial-weights"))
    model = Decoder(config.model, weights_rng)
    if config.model.from_pretrained is not None and not saved_steps(folder):  # else they come from a checkpoint
        begin_from(config.model.from_pretrained, model)
    learner = new_learner(config, model) if config.smlmt.enabled else None
    objective = Autoregressive() if learner is None else Hybrid(learner)
    return Run(
        config=config,
        settings=to_mapping(config),
        folder=folder,
        devices=devices,
        model=model,
        batches=data.batches,
        objective=objective,
        evaluations=[*data.evaluations, *few_shot_evaluations(data.tasks, learner)],
        identity=identity_of(config, data.batches),
        files=further_files(model.vocab_size, data.files),
        branches=data.branches,
        dynamics=_recorder(config, devices, data, objective),
    )


def _recorder(config: RunConfig, devices: Devices, data: LearningData, objective: Objective) -> Recorder | None:
    if data.dynamics_rows is None:
        return None
    return Recorder(
        config.checkpointing.learning_dynamics,
        model=config.model,
        training=config.training,
        device=devices.device,
        objective=objective,
        n_parts=devices.count * config.training.optimization.gradient_accumulation_steps,
        batches=data.batches,
        validation=data.dynamics_rows,
    )


def _taken_up(run: Run, checkpoints: Checkpoints) -> Checkpoint | None:
    """Return the checkpoint that the run goes on from; write down what it depends on from here."""
    newest = checkpoints.latest()
    n_parameters = sum(parameter.numel() for parameter in run.model.parameters())
    task = f"{run.folder}: {n_parameters:,} parameters, {run.config.training.max_steps:,} steps"
    if newest is not None:
        check_identity(newest.facts(), run.identity, step=newest.step)
        task += f", from step {newest.step:,} on"
    write_config(run.folder / "config.yaml", run.config)
    write_json(run.folder / "environment.json", environment())
    print(f"{task}, on {run.devices}", file=sys.stderr)
    return newest


def _finish(run: Run, outcome: Outcome) -> None:
    """Measure the best learners, once, and leave what there is to look at: samples, a picture, and the report."""

    def rng() -> np.random.Generator:
        return generator(run.config.training.seed, "evaluation")  # the same rows as while training

    with run.devices.evaluating():  # by all processes: each may have a part of the model
        samples = [each.samples(run.model, rng(), N_SAMPLES) for each in run.evaluations]

    def write() -> None:
        results, references = run.folder / RESULTS, list[Row]()
        write_json(results / "samples.json", {"samples": [sample for sample in samples if sample]})
        if outcome.interrupted_by is None and run.config.evaluation.reference_predictors:
            references = [row for each in run.evaluations for row in each.references(rng())]
            write_json(results / "references.json", {"rows": [row.to_mapping() for row in references]})
        _draw(run, references)
        write_report([run.folder], run.folder / "report.html")

    run.devices.on_main(write)


def _draw(run: Run, references: Sequence[Row]) -> None:
    what = "what was held out" if run.config.languages is None else "brand-new languages"
    draw_loss_by_position(
        _evaluations(run.folder),
        run.folder / "in_context.png",
        title=f"Reading {what}: loss by position",
        per=run.config.data.unit,
        references=references,
    )


def _evaluations(folder: Path) -> dict[int, list[Row]]:
    """Read the results of all evaluations by step."""
    return {
        step: [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]
        for step, path in evaluation_files(folder).items()
    }
