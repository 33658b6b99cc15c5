"""Folders that are there whole or not at all, come what may: a full disk, an interrupt, a process or machine that dies.

A folder is filled beside its place under a hidden name, and renamed at the end; one that goes is renamed first.
What a process that died left under hidden names, `clean_up` puts right.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from xenoglot.errors import OutputError
from xenoglot.storage.files import PARTIAL, bring_to_disk, reason_of

__all__ = ["clean_up", "remove_folder", "staged_folder"]

EARLIER = ".earlier"
"""How the hidden name of a whole folder ends that is about to be replaced."""
HIDDEN_NAME = re.compile(rf"\.(?P<name>.+)\.[0-9a-f]{{8}}(?P<kind>{re.escape(PARTIAL)}|{re.escape(EARLIER)})")


@contextlib.contextmanager
def staged_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give a hidden sibling folder that becomes ``target`` if the block ends well, and vanishes if not.

    Whoever fills it brings its files to the disk, with `StagedFiles` for one; the folder itself, its name, and the
    parents that had to be made are brought there here.

    Args:
        target: Where the folder will be.
        replace: Whether a folder that is there may be replaced; at every moment one of the two is whole, under its
            name or where `clean_up` finds it.

    Raises:
        OutputError: If ``target`` is there already and may not be replaced, or cannot be written.
    """
    if target.exists() and not replace:
        raise OutputError(f"{target}: it is there already. Remove it, or choose another place.")
    temporary = _hidden(target, PARTIAL)
    try:
        _make_lasting(target.parent)
        temporary.mkdir()
        yield temporary
        bring_to_disk(temporary)
        _put_in_place(temporary, target)
    except OutputError:
        raise
    except OSError as error:
        reason = reason_of(error)
        raise OutputError(f"{target}: it cannot be written: {reason}. Nothing half-written is left.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder, which from the first moment is no longer there under its name.

    Raises:
        OutputError: If it cannot be renamed.
    """
    hidden = _hidden(folder, PARTIAL)
    try:
        folder.rename(hidden)
    except OSError as error:
        raise OutputError(f"{folder}: it cannot be removed: {reason_of(error)}.") from error
    bring_to_disk(folder.parent)  # a power cut while it is taken apart must not bring its name back
    shutil.rmtree(hidden, ignore_errors=True)


def clean_up(parent: Path) -> None:
    """Remove what processes that died left half-written in a folder, and put back what they were about to replace.

    Whoever calls this makes sure that no process is still writing there.
    """
    for hidden in sorted(parent.iterdir()) if parent.is_dir() else ():
        found = HIDDEN_NAME.fullmatch(hidden.name)
        if found is None:
            continue
        original = parent / found["name"]
        if found["kind"] == EARLIER and not original.exists():
            hidden.rename(original)
            bring_to_disk(parent)
        elif hidden.is_dir():
            shutil.rmtree(hidden, ignore_errors=True)
        else:
            hidden.unlink(missing_ok=True)


def _put_in_place(temporary: Path, target: Path) -> None:
    """Rename a whole folder to its name, from which an earlier one makes way."""
    earlier = _hidden(target, EARLIER)
    was_there = target.exists()
    if was_there:
        target.rename(earlier)
    try:
        temporary.rename(target)
    except OSError:
        if was_there:
            earlier.rename(target)
        raise
    bring_to_disk(target.parent)
    if was_there:
        shutil.rmtree(earlier, ignore_errors=True)


def _hidden(folder: Path, kind: str) -> Path:
    return folder.with_name(f".{folder.name}.{secrets.token_hex(4)}{kind}")


def _make_lasting(folder: Path) -> None:
    """Make a folder and its parents, as far as they do not exist, so that a power cut takes none of them away."""
    if not folder.is_dir():
        _make_lasting(folder.parent)
        folder.mkdir(exist_ok=True)
        bring_to_disk(folder.parent)
