"""What a run would take, before it is started: parameters, tokens, operations, memory, disk and time.

Everything but the time is arithmetic. The time is measured: a few real updates on this machine, on rows of the stage
that has most of the run's operations; other stages and evaluations follow in proportion to theirs. Where one update
would take too long, the model that is measured has fewer rows or layers, and this is said. Steps of tasks count as if
they predicted tokens.
"""

from __future__ import annotations

import dataclasses
import statistics
import textwrap
import time
import typing
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from xenoglot import heads
from xenoglot.batches import TokenBatch
from xenoglot.checkpoint_folders import is_save_due, kept_steps
from xenoglot.config import ModelConfig, RunConfig
from xenoglot.decoder import Decoder
from xenoglot.dynamics_sizes import dynamics_bytes, recorded_steps
from xenoglot.model_sizes import parameters_of
from xenoglot.objectives.autoregressive import Autoregressive
from xenoglot.rng import derive
from xenoglot.throughput import flops_per_token, peak_memory_bytes
from xenoglot.training.devices import Devices
from xenoglot.training.learner import Learner

__all__ = ["Estimate", "Phase", "estimate", "phases"]

PROBE_SECONDS = 1.5
MOST_UPDATES = 20
SHORTEST_ROW = 64
WIDEST = 100
BYTE_IDS = 257
LARGEST_UPDATE_FLOPS = {"cpu": 5e10, "mps": 1e12, "cuda": 3e13}
BYTES_PER_PARAMETER_ON_DISK = 12  # float32: the weight, and two moments of its gradient


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Steps of one size.

    Attributes:
        n_steps: How many there are.
        n_rows: Rows of each, all devices together.
        length: Tokens of a row.
    """

    n_steps: int
    n_rows: int
    length: int

    @property
    def tokens(self) -> int:
        """Tokens that are read."""
        return self.n_steps * self.n_rows * self.length


def phases(config: RunConfig) -> list[Phase]:
    """Return the steps of a run by size: the curriculum's stages, then the rest.

    Example:
        >>> from xenoglot.config import default_config
        >>> [(phase.n_steps, phase.length) for phase in phases(default_config())]
        [(100, 64), (100, 128), (1300, 256)]
    """
    longest, most_rows, last = config.model.max_seq_len, config.data.dataloader.batch_size, config.training.max_steps
    found, begin = [], 0
    for stage in config.curriculum if config.data.easy_start else ():
        end = min(stage.until_step, last)
        length = min(stage.length or longest, longest)
        found.append(Phase(n_steps=end - begin, n_rows=stage.batch_size or most_rows, length=length))
        begin = end
    found.append(Phase(n_steps=last - begin, n_rows=most_rows, length=longest))
    return [phase for phase in found if phase.n_steps]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run would take.

    Attributes:
        n_parameters: Of the model.
        n_ids: Of the model's vocabulary.
        ids_are_known: Whether that is sure before the data are read.
        phases: The run's steps by size.
        flops: Floating-point operations of all updates.
        evaluation_flops: Floating-point operations of all evaluations on fresh languages; 0 for a text.
        memory_bytes: Of one device, at the peak.
        n_checkpoints: How many are kept, and one that is being written.
        checkpoint_bytes: Of each, without learning dynamics.
        n_dynamics: At how many steps learning dynamics are kept.
        dynamics_bytes: Of each of these.
        seconds: Of the whole run, on this machine.
        probe: How the time was found.
    """

    n_parameters: int
    n_ids: int
    ids_are_known: bool
    phases: tuple[Phase, ...]
    flops: float
    evaluation_flops: float
    memory_bytes: int
    n_checkpoints: int
    checkpoint_bytes: int
    n_dynamics: int
    dynamics_bytes: int
    seconds: float
    probe: str

    def __str__(self) -> str:
        n_steps, n_tokens = sum(phase.n_steps for phase in self.phases), sum(phase.tokens for phase in self.phases)
        stages = f", in {len(self.phases)} stages" if len(self.phases) > 1 else ""
        ids = f"{self.n_ids:,} ids" if self.ids_are_known else f"{self.n_ids:,} ids, which the data may not have"
        disk = self.n_checkpoints * self.checkpoint_bytes + self.n_dynamics * self.dynamics_bytes
        dynamics = f", and {self.n_dynamics} times learning dynamics of {_bytes(self.dynamics_bytes)}"
        evaluations = f"; {self.evaluation_flops:.2g} more for evaluations" if self.evaluation_flops else ""
        lines = {
            "parameters": f"{self.n_parameters:,}, with {ids}",
            "steps": f"{n_steps:,}{stages}",
            "tokens": f"{n_tokens:,}",
            "operations": f"{self.flops:.2g} additions and multiplications of floating-point numbers{evaluations}",
            "memory": f"{_bytes(self.memory_bytes)} a device: weights, gradients, optimizer, activations",
            "disk": f"{_bytes(disk)}: at most {self.n_checkpoints} checkpoints of {_bytes(self.checkpoint_bytes)}"
            + (dynamics if self.n_dynamics else ""),
            "time": f"about {_duration(self.seconds)}: {self.probe}",
        }
        return "\n".join(
            textwrap.fill(text, WIDEST, initial_indent=f"{name:<12}", subsequent_indent=" " * 12)
            for name, text in lines.items()
        )


def estimate(config: RunConfig) -> Estimate:
    """Estimate what a run would take; nothing is written, and a text is not read.

    Args:
        config: The run's configuration.

    Raises:
        UnknownNameError: If there is no such head for tasks.
    """
    if config.smlmt.enabled:
        heads.get(config.smlmt.classifier_head.kind)
    n_ids, ids_are_known = _ids(config)
    model = dataclasses.replace(config.model, vocab_size=n_ids)
    config = dataclasses.replace(config, model=model)
    steps = phases(config)
    flops = [phase.tokens * flops_per_token(model, phase.length) for phase in steps]
    evaluation_flops = _evaluation_flops(config)
    heaviest = steps[flops.index(max(flops))]
    fabric = config.training.fabric
    devices = Devices(dataclasses.replace(fabric, num_devices=1, num_nodes=1, strategy="auto"))
    flops_per_second, probe = _measured(config, heaviest, devices)
    n_parameters = parameters_of(model)
    return Estimate(
        n_parameters=n_parameters,
        n_ids=n_ids,
        ids_are_known=ids_are_known,
        phases=tuple(steps),
        flops=sum(flops),
        evaluation_flops=evaluation_flops,
        memory_bytes=max(
            peak_memory_bytes(
                model,
                n_rows=_rows_at_once(config, phase),
                length=phase.length,
                precision=devices.precision,
                device_type=devices.device.type,
            )
            for phase in steps
        ),
        n_checkpoints=_checkpoints(config),
        checkpoint_bytes=BYTES_PER_PARAMETER_ON_DISK * n_parameters,
        n_dynamics=len(recorded_steps(config)),
        dynamics_bytes=dynamics_bytes(config) if config.checkpointing.learning_dynamics.enabled else 0,
        seconds=(sum(flops) / (fabric.num_devices * fabric.num_nodes) + evaluation_flops) / flops_per_second,
        probe=probe,
    )


def _ids(config: RunConfig) -> tuple[int, bool]:
    """Return the ids of the data as far as they can be told without reading it, and whether that is sure."""
    if config.model.vocab_size is not None:
        return config.model.vocab_size, True
    if config.languages is not None:
        return config.languages.n_tokens, True
    tokenizer = config.data.tokenizer
    if tokenizer.name == "bytes" or (tokenizer.name is None and config.data.text is not None):
        return BYTE_IDS, True
    return tokenizer.vocab_size, False


def _rows_at_once(config: RunConfig, phase: Phase) -> int:
    """Return the rows that one device reads at once."""
    fabric = config.training.fabric
    n_parts = fabric.num_devices * fabric.num_nodes * config.training.optimization.gradient_accumulation_steps
    return phase.n_rows // n_parts


def _evaluation_flops(config: RunConfig) -> float:
    """Count the forward passes, each a third of an update's operations, on fresh languages."""
    if config.languages is None:
        return 0.0
    n_evaluations = config.training.max_steps // config.evaluation.eval_every_n_steps + 2
    n_tokens = n_evaluations * config.evaluation.n_languages * config.model.max_seq_len
    return n_tokens * flops_per_token(config.model, config.model.max_seq_len) / 3


def _checkpoints(config: RunConfig) -> int:
    settings, last = config.checkpointing, config.training.max_steps
    powers = (1 << exponent for exponent in range(last.bit_length()))
    candidates = {*range(0, last + 1, settings.save_every_n_steps), *powers} - {0}
    recorded = recorded_steps(config)
    saved = {step for step in candidates if is_save_due(settings, step)} | {last} | recorded
    kept = kept_steps(settings, saved) | recorded
    return len(kept) + (len(kept) < len(saved))  # one goes only when the next is there


def _measured(config: RunConfig, phase: Phase, devices: Devices) -> tuple[float, str]:
    """Make some updates, and return operations per second with what they were."""
    training = dataclasses.replace(config.training, compile=False)
    n_rows, most_flops = _rows_at_once(config, phase), LARGEST_UPDATE_FLOPS[devices.device.type]
    model_config, probe = _small_enough(config.model, phase, n_rows, most_flops)
    weights_rng = torch.Generator().manual_seed(derive(config.training.seed, "initial-weights"))
    learner = Learner(training, devices=devices, model=Decoder(model_config, weights_rng), objective=Autoregressive())
    seconds = statistics.median(_update_seconds(learner, model_config, probe))
    layers = "" if model_config == config.model else f" in {model_config.n_layers} of {config.model.n_layers} layers"
    left_out = "a text's evaluations" if config.languages is None else "reference predictors"
    left_out += ", and as if no step were one of tasks" if config.smlmt.enabled else ""
    return probe.tokens * flops_per_token(model_config, probe.length) / seconds, (
        f"an update on {probe.n_rows:,} x {probe.length:,} tokens{layers} takes {seconds:.2g} seconds here "
        f"({devices}), all else in proportion; without {left_out}"
    )


def _small_enough(config: ModelConfig, phase: Phase, n_rows: int, most_flops: float) -> tuple[ModelConfig, Phase]:
    """Take away rows, then layers, then tokens, until an update is within what a measurement may cost."""

    def flops() -> float:
        return n_rows * length * flops_per_token(config, length)

    length = phase.length
    n_rows = max(1, min(n_rows, int(most_flops * n_rows / flops())))
    while config.n_layers > 1 and flops() > most_flops:
        config = dataclasses.replace(config, n_layers=(config.n_layers + 1) // 2)
    while length > SHORTEST_ROW and flops() > most_flops:
        length = (length + 1) // 2
    return config, Phase(n_steps=1, n_rows=n_rows, length=length)


def _update_seconds(learner: Learner, config: ModelConfig, probe: Phase) -> Iterator[float]:
    """Time updates on rows of random ids, after a first one that is not counted."""
    rng = torch.Generator().manual_seed(0)
    n_ids = typing.cast(int, config.vocab_size)
    began = 0.0
    for step in range(1 + MOST_UPDATES):
        ids_BT = torch.randint(n_ids, (2, probe.n_rows, probe.length), generator=rng)
        batch = TokenBatch(inputs_BT=ids_BT[0], targets_BT=ids_BT[1])
        seconds = learner.update(0, [batch], identity="random ids").seconds
        if step == 0:
            began = time.perf_counter()
            continue
        yield seconds
        if time.perf_counter() - began > PROBE_SECONDS:
            return


def _bytes(n: float) -> str:
    """Write a number of bytes with three digits.

    Example:
        >>> _bytes(512), _bytes(1_234_567), _bytes(9.87e9)
        ('512 B', '1.23 MB', '9.87 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


def _duration(seconds: float) -> str:
    """Write a duration in the unit that suits it.

    Example:
        >>> _duration(4.2), _duration(600), _duration(7200), _duration(9e5)
        ('4.2 seconds', '10 minutes', '2.0 hours', '10.4 days')
    """
    for unit, size, digits in (("days", 86400, 1), ("hours", 3600, 1), ("minutes", 60, 0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.1f} seconds"
