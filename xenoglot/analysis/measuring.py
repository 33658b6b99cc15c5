"""Measures of layers over steps: of one thing, or of two that are compared."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from xenoglot.analysis.config import ACTIVATIONS, LAYERS, RUNS, SPLITS, STEP, WEIGHTS, ComponentConfig, MetricConfig
from xenoglot.analysis.results import Finding
from xenoglot.analysis.sources import RunSource, Target, weight_of
from xenoglot.errors import DataError, OptionError
from xenoglot.measures import Product

__all__ = ["checked", "measured"]

N_PARTS = 8
"""Parts of a batch whose gradients are compared with each other."""


def checked(config: MetricConfig, runs: Sequence[RunSource]) -> None:
    """Complain about what cannot be measured before anything is.

    Raises:
        DataError: If a run lacks what is asked for; with what it has.
        OptionError: If layers, blocks or a step are none of a run's.
    """
    if config.compares == RUNS and len(runs) < 2:
        raise OptionError("against", RUNS, "another where there is one run", "Name two: xenoglot analyze RUN RUN.")
    for run in runs:
        for component in config.components:
            steps = run.steps_with(config.type_of(component))
            run.targets(component)
            if config.compares == STEP:
                _reference_step(config, run, steps)


def measured(config: MetricConfig, run: RunSource, step: int, first: RunSource) -> Iterator[Finding]:
    """Measure everything that a metric is of at one step; nothing where the step has no such data.

    Args:
        config: What to measure.
        run: Of which run.
        step: At which step.
        first: The run that others are compared with.

    Raises:
        DataError: If a file is damaged, or shapes do not suit the measure.
    """
    for component in config.components:
        data_type = config.type_of(component)
        steps = run.steps_with(data_type)
        if step not in steps:
            continue
        for target, given, other in _arguments(config, component, run, step, first):
            yield Finding(
                run=run.name,
                step=step,
                metric=config.metric_name,
                value=config.measure(*given),
                data_type=data_type,
                data_split=None if data_type == WEIGHTS else config.data_split,
                component=component.component_name,
                layer=target.layer,
                head=target.head,
                against=config.compares,
                other=other,
            )


def _arguments(
    config: MetricConfig, component: ComponentConfig, run: RunSource, step: int, first: RunSource
) -> Iterator[tuple[Target, list[Any], str | None]]:
    """Yield what is measured, what the measure is given, and what the second of two things is called."""
    data_type, split = config.type_of(component), config.data_split
    targets = run.targets(component)

    def read(target: Target, *, of: RunSource = run, at: int = step, split: str = split) -> Any:
        return of.read(at, data_type, split, target)

    if config.measure.of == "parts":
        yield from ((target, [parts], None) for target, parts in _parts(run, step, split, targets))
    elif config.compares is None:
        yield from ((target, [read(target)], None) for target in targets)
    elif config.compares == STEP:
        reference = _reference_step(config, run, run.steps_with(data_type))
        for target in targets:
            yield target, _pair(read(target), read(target, at=reference)), str(reference)
    elif config.compares == LAYERS:
        for target, other in itertools.combinations(targets, 2):
            yield target, _pair(read(target), read(other)), _name(other)
    elif config.compares == SPLITS:
        other_split = "train" if split == "val" else "val"
        for target in targets:
            yield target, _pair(read(target), read(target, split=other_split)), other_split
    elif run is not first and step in first.steps_with(data_type):
        _check_same_batch(data_type, split, run, first, step)
        for target in targets:
            yield target, _pair(read(target), read(target, of=first)), first.name


def _pair(*given: Tensor | Product) -> list[Tensor]:
    """Return two matrices; circuits are multiplied out, since only spectra can do without."""
    return [each if isinstance(each, Tensor) else torch.as_tensor(each.left_DK @ each.right_KE) for each in given]


def _reference_step(config: MetricConfig, run: RunSource, steps: Sequence[int]) -> int:
    wanted = config.target_checkpoint
    if wanted is None:
        return steps[-1]
    if wanted not in steps:
        allowed = f"one of the steps of {run.name}: {', '.join(map(str, steps))}"
        raise OptionError("target_checkpoint", wanted, allowed)
    return wanted


def _name(target: Target) -> str:
    return target.layer if target.head is None else f"{target.layer}, head {target.head}"


def _check_same_batch(data_type: str, split: str, run: RunSource, first: RunSource, step: int) -> None:
    if data_type == ACTIVATIONS and run.batch_identity(step, split) != first.batch_identity(step, split):
        raise DataError(
            f"{run.name} and {first.name}, step {step}: got activations on different rows; allowed: the same rows, "
            "those of --data_split val of runs on the same data and with the same validation batch."
        )


def _parts(run: RunSource, step: int, split: str, targets: Sequence[Target]) -> Iterator[tuple[Target, Tensor]]:
    """Yield the gradients of equal parts of the batch that the step's dynamics keep, [P, ...], worked out anew."""
    batch = run.batch(step, split)
    n_parts = min(N_PARTS, len(batch.inputs_BT))
    size = len(batch.inputs_BT) // n_parts
    model = run.model(step)
    weights = [weight_of(model, target.layer) for target in targets]
    by_part = []
    for part in range(n_parts):
        rows = slice(part * size, (part + 1) * size)
        loss = model(batch.inputs_BT[rows], targets=batch.targets_BT[rows])
        by_part.append(torch.autograd.grad(loss, weights))
    for target, *parts in zip(targets, *by_part, strict=True):
        yield target, torch.stack(parts)
