"""Whether what a run left is whole: its checkpoints by their manifests, its other files by what they must be.

Nothing is changed, and torch is not needed: a run can be verified while it goes on, or on another machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xenoglot.checkpoint_folders import (
    CHECKPOINTS,
    FIRST_SAVE,
    checkpoint_folder,
    inspect_checkpoint,
    saved_steps,
    set_aside_before,
    step_of,
)
from xenoglot.config.files import family_of_ones_own, read_config
from xenoglot.errors import DataError, XenoglotError
from xenoglot.evaluation_files import RESULTS, evaluation_files
from xenoglot.hub import LEDGER, held_folder, held_steps
from xenoglot.storage.files import reason_of
from xenoglot.storage.manifest import MANIFEST_FILE

__all__ = ["Verdict", "verify"]

CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.jsonl"
OF_THE_HUB = (".gitattributes", ".cache/huggingface/")
"""What the Hub adds to a folder, and its client to a download of it."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found out about a checkpoint or a file.

    Attributes:
        path: Its place.
        faults: What is wrong, a sentence each; empty if all is well.
        remark: What is worth knowing and not wrong.
        n_bytes: How much was read, in bytes.
    """

    path: Path
    faults: list[str] = field(default_factory=list)
    remark: str = ""
    n_bytes: int = 0


def verify(folder: Path) -> Iterator[Verdict]:
    """Check everything in a run's folder, or one checkpoint.

    Args:
        folder: A run's folder, or that of a checkpoint.

    Raises:
        DataError: If it is neither.
    """
    if folder.is_dir() and (step_of(folder) is not None or (folder / MANIFEST_FILE).exists()):
        return iter([_of_checkpoint(folder)])
    if not any((folder / name).exists() for name in (CONFIG_FILE, METRICS_FILE, CHECKPOINTS)):
        what = f"a folder without {CONFIG_FILE}, {METRICS_FILE} and {CHECKPOINTS}" if folder.is_dir() else "no folder"
        raise DataError(f"{folder}: got {what}; allowed: a run's folder, or a checkpoint's in it.")
    return _of_run(folder)


def _of_run(folder: Path) -> Iterator[Verdict]:
    yield _of_config(folder / CONFIG_FILE)
    yield _of_json(folder / "environment.json")
    yield _of_metrics(folder / METRICS_FILE)
    step_of_file = {path: step for step, path in evaluation_files(folder).items()}
    for path in sorted((folder / RESULTS).glob("*.json"), key=lambda path: (len(path.name), path.name)):
        yield _of_json(path, step=step_of_file.get(path))
    steps = saved_steps(folder)
    for step in steps:
        verdict = _of_checkpoint(checkpoint_folder(folder, step))
        if verdict.path.exists():  # a run that goes on may have removed it meanwhile
            yield verdict
    for path in set_aside_before(folder):
        yield Verdict(path=path, remark="set aside as damaged; nothing reads it")
    if not steps and (folder / FIRST_SAVE).exists():
        yield Verdict(path=folder / CHECKPOINTS, faults=["no checkpoint is left, though the run saved some"])
    yield from _of_what_is_pushed(folder)


def _of_what_is_pushed(folder: Path) -> Iterator[Verdict]:
    """Check the list of what the Hub has, and what is held for it: it may be all that is left of a checkpoint."""
    if (folder / LEDGER).exists():
        yield _of_json(folder / LEDGER)
    for step in held_steps(folder):
        verdict = _of_checkpoint(held_folder(folder, step), more="not pushed yet")
        if verdict.path.exists():
            yield verdict


def _of_checkpoint(folder: Path, more: str = "") -> Verdict:
    found = inspect_checkpoint(folder)
    strays = [path for path in found.strays if not path.startswith(OF_THE_HUB)]
    faults = replace(found, strays=strays).faults
    remark = ", ".join(part for part in (f"{found.n_files} files", more) if part)
    return Verdict(path=folder, faults=faults, remark=remark, n_bytes=found.n_bytes)


def _of_config(path: Path) -> Verdict:
    verdict = _readable(path)
    if not verdict.faults:
        try:
            if own := family_of_ones_own(path):
                return replace(verdict, remark=f"not read to the end: that would run the code of {own}")
            read_config(path)
        except XenoglotError as error:
            verdict.faults.append(f"it is no configuration of a run: {error}")
    return verdict


def _of_json(path: Path, step: int | None = None) -> Verdict:
    """Check a file of one JSON mapping, and that it is about the step which its name says."""
    verdict = _readable(path)
    if not verdict.faults:
        content = _parsed(path.read_bytes())
        if content is None:
            verdict.faults.append("it is torn or changed: not one JSON mapping")
        elif step is not None and content.get("step") != step:
            verdict.faults.append(f"it says that it is of step {content.get('step')}")
    return verdict


def _of_metrics(path: Path) -> Verdict:
    """Check that every line is a mapping of a later step than the one before; only the last one may be torn."""
    verdict = _readable(path)
    if verdict.faults:
        return verdict
    *lines, last = path.read_bytes().split(b"\n")
    earlier = -1
    for number, line in enumerate(lines, 1):
        step = (_parsed(line) or {}).get("step")
        if not isinstance(step, int):
            verdict.faults.append(f"line {number} is torn or changed: not a JSON mapping with a step")
        elif step <= earlier:
            verdict.faults.append(f"line {number} is of step {step}, after one of step {earlier}")
        earlier = step if isinstance(step, int) else earlier
    torn = "; the last line is torn, and goes when the run is resumed" if last else ""
    return Verdict(path=path, faults=verdict.faults, remark=f"{len(lines)} lines{torn}", n_bytes=verdict.n_bytes)


def _readable(path: Path) -> Verdict:
    try:
        return Verdict(path=path, n_bytes=len(path.read_bytes()))
    except OSError as error:
        return Verdict(path=path, faults=[f"it cannot be read: {reason_of(error)}"])


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(raw)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
