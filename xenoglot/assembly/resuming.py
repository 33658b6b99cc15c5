"""Whether a run may go on from a checkpoint: what its past was a function of must not have changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from xenoglot.batches import BatchSource
from xenoglot.checkpoint import differences
from xenoglot.config import OptimizationConfig, RunConfig, to_mapping
from xenoglot.errors import ResumeError
from xenoglot.optim import learning_rate

__all__ = ["check_identity", "identity_of"]

SCHEDULE = ("lr", "lr_scheduler", "lr_warmup_steps", "lr_decay_ratio", "lr_final_ratio")
"""Options that matter only through the rates of the steps that were made."""
FREE = ("gradient_accumulation_steps",)
"""Options that change how a step is computed, and not which step it is."""


def identity_of(config: RunConfig, batches: BatchSource) -> dict[str, Any]:
    """Return what a run's steps are a function of, as plain JSON values.

    Where it is kept, how often it is measured and on how many devices it computes are left out: those may change.
    """
    optimization = dataclasses.asdict(config.training.optimization)
    adaptation = to_mapping(config.smlmt) if config.smlmt.enabled else None
    if adaptation:
        del adaptation["sentences"]  # where they are does not matter; what they are is among the data
    model = to_mapping(config.model)
    if model["from_pretrained"] is None:
        del model["from_pretrained"]  # unknown to checkpoints from before there was the option
    return {
        "data": batches.fingerprint(),
        "model": model,
        "smlmt": adaptation,
        "training": {
            "seed": config.training.seed,
            "max_steps": config.training.max_steps,
            "optimization": {name: value for name, value in optimization.items() if name not in FREE},
        },
    }


def check_identity(stored: Mapping[str, Any], now: Mapping[str, Any], *, step: int) -> None:
    """Compare a checkpoint's run with the one that would go on from it.

    A longer run, or another schedule, is the same run as long as all rates so far are the same: a constant rate that
    has not begun to fall can be kept on for longer.

    Args:
        stored: The `identity_of` the run that made the checkpoint.
        now: That of the run that would go on.
        step: How many steps the checkpoint is after.

    Raises:
        ResumeError: Listing what differs.
    """
    if _rates(stored, step) == _rates(now, step):
        stored, now = _without_schedule(stored), _without_schedule(now)
    found = differences({name: stored.get(name) for name in now}, now)
    if found:
        raise ResumeError(
            f"the run cannot go on from step {step} as something else than it was: {'; '.join(found)}. "
            "Give the options it was begun with, or another --checkpointing.run_name."
        )


def _rates(identity: Mapping[str, Any], n_steps: int) -> list[float]:
    training = identity["training"]
    config = OptimizationConfig(**training["optimization"])
    return [learning_rate(config, step, training["max_steps"]) for step in range(min(n_steps, training["max_steps"]))]


def _without_schedule(identity: Mapping[str, Any]) -> dict[str, Any]:
    training = identity["training"]
    kept = {name: value for name, value in training["optimization"].items() if name not in SCHEDULE}
    return {**identity, "training": {"seed": training["seed"], "optimization": kept}}
