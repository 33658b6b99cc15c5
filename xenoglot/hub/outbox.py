"""What of a run was pushed, and what is still to be: in folders and a file, so that no kill makes anyone forget.

```
unpushed/step_40/    what is to be pushed of a checkpoint: links to its files, which stay when the checkpoint goes
hub.json             which steps were pushed, as which commits; which were not, and why
```

The folders decide; the file tells people. A checkpoint of which neither speaks, since a kill came between, is held
by `hold_the_rest`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xenoglot.checkpoint_folders import checkpoint_folder, damage_of, saved_steps, set_aside, step_of
from xenoglot.errors import OutputError
from xenoglot.storage.files import reason_of, write_whole
from xenoglot.storage.folders import remove_folder, staged_folder
from xenoglot.storage.manifest import known_files, write_manifest_of_part

__all__ = ["LEDGER", "UNPUSHED", "Held", "Outbox", "held_folder", "held_steps", "revision_of"]

UNPUSHED = "unpushed"
LEDGER = "hub.json"
UNTRIED: Mapping[str, Any] = {"attempts": 0, "reason": "it was not tried yet"}
TRAINING_STATE = "state/"


@dataclass(frozen=True, kw_only=True)
class Held:
    """A checkpoint that is to be pushed.

    Attributes:
        step: After how many steps it was saved.
        folder: What is to be sent of it.
        n_bytes: How much that is.
        inode: Which folder it is: one that was saved again meanwhile is another.
    """

    step: int
    folder: Path
    n_bytes: int
    inode: int


@dataclass(kw_only=True)
class _Ledger:
    repo_id: str
    pushed: dict[str, dict[str, Any]] = field(default_factory=dict)
    unpushed: dict[str, dict[str, Any]] = field(default_factory=dict)


class Outbox:
    """The checkpoints of a run that are to be pushed. Only the `RunLock`'s holder may have one; threads may share it.

    Args:
        run_folder: The run's folder.
        repo_id: Where they go. What was pushed to another repository counts as not pushed.
        with_state: Whether what training needs besides the model is sent too.
    """

    def __init__(self, run_folder: Path, repo_id: str, *, with_state: bool = False) -> None:
        self.run_folder = run_folder
        self._with_state = with_state
        self._lock = threading.RLock()
        self._ledger = _read_ledger(run_folder, repo_id)

    def hold(self, step: int) -> None:
        """Keep what is to be sent of a checkpoint, whatever becomes of it.

        Raises:
            OutputError: If it cannot be kept; nothing half-kept is left.
            DataError: If the checkpoint's manifest cannot be read.
        """
        checkpoint = checkpoint_folder(self.run_folder, step)
        with self._lock:
            with staged_folder(held_folder(self.run_folder, step), replace=True) as folder:
                for path in known_files(checkpoint)["files"]:
                    if self._with_state or not path.startswith(TRAINING_STATE):
                        (folder / path).parent.mkdir(parents=True, exist_ok=True)
                        _link(checkpoint / path, folder / path)
                write_manifest_of_part(folder, checkpoint)
            self._ledger.unpushed.setdefault(str(step), dict(UNTRIED))
            self._write()

    def hold_the_rest(self) -> list[int]:
        """Hold every whole checkpoint that is neither held nor pushed, and return their steps."""
        known = {*held_steps(self.run_folder), *self.pushed_steps()}
        steps = [step for step in saved_steps(self.run_folder) if step not in known]
        steps = [step for step in steps if not damage_of(checkpoint_folder(self.run_folder, step))]
        for step in steps:
            self.hold(step)
        with self._lock:
            held = {str(step) for step in held_steps(self.run_folder)}
            self._ledger.unpushed = {step: self._ledger.unpushed.get(step, dict(UNTRIED)) for step in held}
            self._write()
        return steps

    def next(self) -> Held | None:
        """Return the earliest checkpoint that is to be pushed, None if there is none."""
        with self._lock:
            for step in held_steps(self.run_folder):
                folder = held_folder(self.run_folder, step)
                n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                return Held(step=step, folder=folder, n_bytes=n_bytes, inode=folder.stat().st_ino)
        return None

    def unpushed(self) -> dict[int, str]:
        """Return the steps that are to be pushed, each with the reason why it was not yet."""
        with self._lock:
            reasons = self._ledger.unpushed
            held = held_steps(self.run_folder)
            return {step: str(reasons.get(str(step), UNTRIED)["reason"]) for step in held}

    def pushed_steps(self) -> list[int]:
        """Return the steps that were pushed, in order."""
        with self._lock:
            return sorted(int(step) for step in self._ledger.pushed)

    def note_pushed(self, held: Held, commit: str) -> None:
        """Write down that the Hub has a checkpoint, and hold it no longer, unless it was saved anew meanwhile."""
        with self._lock:
            self._ledger.pushed[str(held.step)] = {"revision": revision_of(held.step), "commit": commit}
            is_same = held.folder.is_dir() and held.folder.stat().st_ino == held.inode
            if is_same:
                self._ledger.unpushed.pop(str(held.step), None)
            self._write()
            if is_same:
                remove_folder(held.folder)
                with contextlib.suppress(OSError):  # others are held
                    held.folder.parent.rmdir()

    def note_failed(self, held: Held, reason: str) -> None:
        """Write down why an attempt failed."""
        with self._lock:
            entry = self._ledger.unpushed.setdefault(str(held.step), dict(UNTRIED))
            entry |= {"attempts": entry["attempts"] + 1, "reason": reason}
            self._write()

    def set_aside_if_damaged(self, held: Held) -> str | None:
        """Compare what is held with its manifest; damaged, it is sent to nobody, and the reason is returned."""
        damage = damage_of(held.folder)
        if not damage:
            return None
        place = set_aside(held.folder)
        return f"what is held of it is damaged: {'; '.join(damage)}; it is set aside as {place}"

    def note_reason(self, reason: str) -> None:
        """Write down why nothing can be tried at all."""
        with self._lock:
            for entry in self._ledger.unpushed.values():
                entry["reason"] = reason
            self._write()

    def _write(self) -> None:
        in_order = {
            name: dict(sorted(entries.items(), key=lambda entry: int(entry[0])))
            for name, entries in (("pushed", self._ledger.pushed), ("unpushed", self._ledger.unpushed))
        }
        content = {"repo_id": self._ledger.repo_id, **in_order}
        write_whole(self.run_folder / LEDGER, f"{json.dumps(content, indent=1)}\n".encode())


def held_steps(run_folder: Path) -> list[int]:
    """Return the steps of a run whose checkpoints are to be pushed, in order."""
    parent = run_folder / UNPUSHED
    folders = [path for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
    return sorted(step for folder in folders if (step := step_of(folder)) is not None)


def held_folder(run_folder: Path, step: int) -> Path:
    """Return where what is to be pushed of a checkpoint is, or would be."""
    return run_folder / UNPUSHED / f"step_{step}"


def revision_of(step: int) -> str:
    """Return the branch that a checkpoint has on the Hub.

    Example:
        >>> revision_of(40)
        'step-40'
    """
    return f"step-{step}"


def _read_ledger(run_folder: Path, repo_id: str) -> _Ledger:
    """Read what was written down; of another repository, or torn, it is as if nothing had been: all is pushed again."""
    try:
        content = json.loads((run_folder / LEDGER).read_bytes())
        if content["repo_id"] == repo_id:
            pushed = {str(int(step)): dict(entry) for step, entry in content["pushed"].items()}
            unpushed = {
                str(int(step)): {"attempts": int(entry["attempts"]), "reason": str(entry["reason"])}
                for step, entry in content["unpushed"].items()
            }
            return _Ledger(repo_id=repo_id, pushed=pushed, unpushed=unpushed)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return _Ledger(repo_id=repo_id)


def _link(path: Path, place: Path) -> None:
    """Give a file a second name, or copy it where the file system has no second names."""
    try:
        os.link(path, place)
    except OSError:
        try:
            shutil.copyfile(path, place)
        except OSError as error:
            raise OutputError(f"{place}: it cannot be kept for the Hub: {reason_of(error)}.") from error
