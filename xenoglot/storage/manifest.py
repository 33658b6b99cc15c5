"""What tells a whole folder from a torn or changed one: `manifest.json`, each file's size and SHA-256, written last.

The manifest carries its own SHA-256, and has only one spelling: whatever bit of it or of a file is another one, it
shows. Files that came later are told apart from damage: they take nothing away.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xenoglot.errors import DataError
from xenoglot.storage.files import reason_of, write_whole

__all__ = [
    "MANIFEST_FILE",
    "Inspection",
    "damage_of_file",
    "inspect_folder",
    "known_files",
    "write_manifest",
    "write_manifest_of_part",
]

MANIFEST_FILE = "manifest.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was found in a folder that has, or should have, a manifest.

    Attributes:
        facts: What the manifest says besides the files; empty if it cannot be read.
        damage: What is missing, torn or changed, a sentence each.
        strays: Files that the manifest does not know, as paths from the folder with slashes.
        n_files: How many files were read, the manifest among them.
        n_bytes: How large they are together, in bytes.
        contents: The bytes of the files that were asked for and are whole, by path.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    n_files: int = 0
    n_bytes: int = 0
    contents: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def faults(self) -> list[str]:
        """All in which the folder is not what its manifest says, a sentence each."""
        return [*self.damage, *(f"{path} was added after the folder was finished" for path in self.strays)]


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the manifest of all files that are in a folder now, and bring it to the disk.

    Args:
        folder: Whose files are whole, and on the disk.
        facts: Plain JSON values to be kept with them, under other names than the manifest's own.

    Raises:
        OutputError: If it cannot be written.
    """
    files = {}
    for path in _files_of(folder):
        digest, n_bytes, _ = _read(folder / path, keep=False)
        files[path] = {"bytes": n_bytes, "sha256": digest}
    content = {**facts, "files": files, "format_version": FORMAT_VERSION}
    write_whole(folder / MANIFEST_FILE, _spelled(content))


def write_manifest_of_part(folder: Path, whole: Path) -> None:
    """Write the manifest of a folder that has some files of another one, as the other's manifest tells them.

    Nothing is read anew: a file that was torn before it was taken over is torn here too, and shows.

    Args:
        folder: Whose manifest is written.
        whole: The folder whose files these are.

    Raises:
        DataError: If the other's manifest cannot be read.
        OutputError: If this one cannot be written.
    """
    content = known_files(whole)
    there = set(_files_of(folder))
    files = {path: facts for path, facts in content["files"].items() if path in there}
    write_whole(folder / MANIFEST_FILE, _spelled({**content, "files": files}))


def known_files(folder: Path) -> dict[str, Any]:
    """Return what a folder's manifest says, its `files` by path among it.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        content = _parsed((folder / MANIFEST_FILE).read_bytes())
    except OSError as error:
        raise DataError(f"{folder / MANIFEST_FILE}: it cannot be read: {reason_of(error)}.") from error
    if content is None:
        raise DataError(f"{folder / MANIFEST_FILE}: it is torn or changed: it does not have its own SHA-256.")
    return content


def inspect_folder(folder: Path, keep: Collection[str] = (), *, only: Collection[str] | None = None) -> Inspection:
    """Read every file of a folder once, and compare it with the manifest.

    Args:
        folder: The folder.
        keep: Paths of files whose bytes are wanted; they are what was compared.
        only: If given, no other files are read, nor missed.
    """
    try:
        raw = (folder / MANIFEST_FILE).read_bytes()
    except FileNotFoundError:
        return Inspection(damage=[f"{MANIFEST_FILE} is missing: the folder was never finished, or was taken apart"])
    except OSError as error:
        return Inspection(damage=[f"{MANIFEST_FILE} cannot be read: {reason_of(error)}"])
    content = _parsed(raw)
    if content is None:
        return Inspection(damage=[f"{MANIFEST_FILE} is torn or changed: it does not have its own SHA-256"])
    expected = content.pop("files")
    if only is not None:
        expected = {path: facts for path, facts in expected.items() if path in only}
    there = set(_files_of(folder))
    damage: list[str] = []
    contents: dict[str, bytes] = {}
    n_bytes = len(raw)
    for path in sorted(expected):
        if path not in there:
            damage.append(f"{path} is missing")
            continue
        try:
            digest, size, kept = _read(folder / path, keep=path in keep)
        except OSError as error:
            damage.append(f"{path} cannot be read: {reason_of(error)}")
            continue
        n_bytes += size
        if size != expected[path]["bytes"]:
            damage.append(f"{path} has {size:,} bytes instead of {expected[path]['bytes']:,}")
        elif digest != expected[path]["sha256"]:
            damage.append(f"{path} is changed: its SHA-256 is another one")
        else:
            contents |= {} if kept is None else {path: kept}
    return Inspection(
        facts=content,
        damage=damage,
        strays=sorted(there - expected.keys()),
        n_files=len(there & expected.keys()) + 1,
        n_bytes=n_bytes,
        contents=contents,
    )


def damage_of_file(folder: Path, path: str) -> str | None:
    """Say what is wrong with one file of a folder that has a manifest, without reading the others; None if nothing is.

    Args:
        folder: The folder.
        path: The file's path from there, with slashes.
    """
    try:
        content = _parsed((folder / MANIFEST_FILE).read_bytes())
        if content is None:
            return f"{MANIFEST_FILE} is torn or changed: it does not have its own SHA-256"
        if path not in content["files"]:
            return f"{path} is not in {MANIFEST_FILE}"
        digest, size, _ = _read(folder / path, keep=False)
    except OSError as error:
        return f"{path} cannot be read: {reason_of(error)}"
    return None if content["files"][path] == {"bytes": size, "sha256": digest} else f"{path} is torn or changed"


def _files_of(folder: Path) -> Iterator[str]:
    """Yield the path of every file but the manifest; a link to a folder counts as one, for its files are elsewhere."""
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for name in (*files, *links):
            path = Path(parent, name).relative_to(folder).as_posix()
            if path != MANIFEST_FILE:
                yield path


def _read(path: Path, *, keep: bool) -> tuple[str, int, bytes | None]:
    """Return a file's SHA-256, its size, and its bytes if they are wanted."""
    if not path.is_file():
        raise OSError("it is not a regular file")  # opening a pipe would wait for ever
    with open(path, "rb") as file:
        if keep:
            content = file.read()
            return hashlib.sha256(content).hexdigest(), len(content), content
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return digest, file.tell(), None


def _spelled(content: Mapping[str, Any]) -> bytes:
    """Return the one spelling of a manifest: sorted, indented, with the SHA-256 of all the rest."""
    own = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{json.dumps({**content, 'sha256': own}, sort_keys=True, indent=2)}\n".encode()


def _parsed(raw: bytes) -> dict[str, Any] | None:
    """Return a manifest's content; None if a single bit of it is not what was written."""
    try:
        content = json.loads(raw)
        content.pop("sha256")
        return content if _spelled(content) == raw and content["format_version"] == FORMAT_VERSION else None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
