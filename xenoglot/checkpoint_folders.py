"""The checkpoints of a run as folders: which there are, which are whole, which are kept.

`checkpoints/step_N` holds the state after N steps. One that is torn or changed is set aside as `step_N.corrupt-K`, and
never deleted.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from xenoglot.config import CheckpointingConfig
from xenoglot.storage.files import bring_to_disk
from xenoglot.storage.manifest import Inspection, inspect_folder

__all__ = [
    "CHECKPOINTS",
    "FIRST_SAVE",
    "checkpoint_folder",
    "damage_of",
    "inspect_checkpoint",
    "is_save_due",
    "kept_steps",
    "saved_steps",
    "set_aside",
    "set_aside_before",
    "step_of",
    "verify_checkpoint",
]

CHECKPOINTS = "checkpoints"
FIRST_SAVE = ".saved"
"""A file of the run's folder that outlives its checkpoints: once there was one, there is no silent restart."""
NAME = re.compile(r"step_(0|[1-9][0-9]*)")
SET_ASIDE_NAME = re.compile(r"step_(0|[1-9][0-9]*)\.corrupt-[1-9][0-9]*")


def checkpoint_folder(run_folder: Path, step: int) -> Path:
    """Return where a run's checkpoint after ``step`` steps is, or will be."""
    return run_folder / CHECKPOINTS / f"step_{step}"


def step_of(folder: Path) -> int | None:
    """Return the step that a folder's name says, None if it is no checkpoint's name.

    Example:
        >>> [step_of(Path(name)) for name in ("step_40", "step_7x", "step_040", "step_4.corrupt-1")]
        [40, None, None, None]
    """
    found = NAME.fullmatch(folder.name)
    return int(found[1]) if found else None


def saved_steps(run_folder: Path) -> list[int]:
    """Return the steps of which there is a folder by name, whole or not, in order."""
    return sorted(step for folder in _folders(run_folder) if (step := step_of(folder)) is not None)


def set_aside_before(run_folder: Path) -> list[Path]:
    """Return the checkpoints that were found damaged, and set aside."""
    return [folder for folder in _folders(run_folder) if SET_ASIDE_NAME.fullmatch(folder.name)]


def _folders(run_folder: Path) -> list[Path]:
    parent = run_folder / CHECKPOINTS
    return sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []


def inspect_checkpoint(folder: Path, keep: Collection[str] = ()) -> Inspection:
    """Read every file of a checkpoint once; that it is another step's than its name says is damage too.

    Args:
        folder: The checkpoint's folder.
        keep: Paths of files whose bytes are wanted.
    """
    inspection = inspect_folder(folder, keep)
    inspection.damage.extend(_faults_of_the_step(folder, inspection))
    return inspection


def _faults_of_the_step(folder: Path, inspection: Inspection) -> list[str]:
    step = inspection.facts.get("step")
    named = step_of(folder)
    return [] if not inspection.facts or named in (None, step) else [f"its manifest says that it is of step {step}"]


def damage_of(folder: Path) -> list[str]:
    """Return what is missing, torn or changed in a checkpoint, a sentence each; files that were added are no damage."""
    return inspect_checkpoint(folder).damage


def verify_checkpoint(folder: Path) -> list[str]:
    """Return every fault of a checkpoint, a sentence each, and an empty list if it is as it was saved.

    A file that was added later is a fault here, although training can go on from such a checkpoint.
    """
    return inspect_checkpoint(folder).faults


def set_aside(folder: Path) -> Path:
    """Rename a damaged checkpoint, so that nobody takes it for a whole one, and return its new place."""
    number = 1
    while (place := folder.with_name(f"{folder.name}.corrupt-{number}")).exists():
        number += 1
    folder.rename(place)
    bring_to_disk(folder.parent)
    return place


def is_save_due(config: CheckpointingConfig, step: int) -> bool:
    """Say whether a checkpoint is to be saved after ``step`` steps, not counting the last step of a run.

    Example:
        >>> config = CheckpointingConfig(save_every_n_steps=10, save_early_steps=True)
        >>> [step for step in range(1, 41) if is_save_due(config, step)]
        [1, 2, 4, 8, 10, 16, 20, 30, 32, 40]
    """
    return step % config.save_every_n_steps == 0 or _is_early(config, step)


def kept_steps(config: CheckpointingConfig, steps: Collection[int]) -> set[int]:
    """Return those steps whose checkpoints are kept.

    Example:
        >>> config = CheckpointingConfig(keep_last=2, keep_every_n_steps=30, save_early_steps=True)
        >>> sorted(kept_steps(config, {1, 2, 4, 10, 20, 30, 40, 50}))
        [1, 2, 4, 30, 40, 50]
    """
    if config.keep_last is None:
        return set(steps)
    every = config.keep_every_n_steps
    newest = sorted(steps)[-config.keep_last :]
    multiples = {step for step in steps if every is not None and step % every == 0}
    return {*newest, *multiples, *(step for step in steps if _is_early(config, step))}


def _is_early(config: CheckpointingConfig, step: int) -> bool:
    return config.save_early_steps and step > 0 and step & (step - 1) == 0
