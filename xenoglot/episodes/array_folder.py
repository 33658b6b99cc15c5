"""Folders of arrays: written piece by piece in constant memory, read through memory maps, believed only when whole.

```
NAME/
  tokens.uint16      an array, little-endian, with no header: its type is the file's ending ...
  starts.int64x2     ... with its columns, if it has any
  ...
  manifest.json      each file's size and SHA-256, and facts as plain JSON values
```
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xenoglot.errors import DataError, OutputError
from xenoglot.storage.files import StagedFiles
from xenoglot.storage.folders import staged_folder
from xenoglot.storage.manifest import MANIFEST_FILE, inspect_folder, write_manifest

__all__ = ["ArrayFolder", "ArrayWriter", "digest_of", "found_or_made"]

Array: TypeAlias = NDArray[Any]

FACTS = "facts"
DTYPES = ("uint8", "uint16", "uint32", "uint64", "int32", "int64")


class ArrayWriter:
    """Appends to arrays by name; what type each has is settled when it is first appended to."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack, staged: StagedFiles) -> None:
        self.facts: dict[str, Any] = {}
        self._folder = folder
        self._stack = stack
        self._staged = staged
        self._files: dict[str, Any] = {}

    def append(self, name: str, piece: Array) -> None:
        """Put a piece behind what an array has so far; it may be empty, and has as many columns as those before."""
        kind = (piece.dtype, piece.shape[1:])
        if name not in self._files:
            assert piece.dtype.name in DTYPES, piece.dtype
            path = self._folder / f"{name}.{'x'.join([piece.dtype.name, *map(str, piece.shape[1:])])}"
            self._files[name] = (kind, self._stack.enter_context(self._staged.open(path)))
        known, file = self._files[name]
        assert kind == known, f"{name}: {kind} behind {known}"
        if piece.size:
            file.write(np.ascontiguousarray(piece, piece.dtype.newbyteorder("<")).data.cast("B"))


class ArrayFolder:
    """A folder of arrays whose every byte has been checked.

    Attributes:
        path: The folder.
        arrays: By name, read from the disk when they are looked at.
        facts: What was written with them.

    Args:
        path: Which folder.

    Raises:
        DataError: If anything is missing, torn or changed.
    """

    def __init__(self, path: Path) -> None:
        found = inspect_folder(path)
        if found.damage:
            raise DataError(f"{path}: the folder is damaged: {found.damage[0]}. Delete it; it is made again.")
        self.path = path
        self.facts: Mapping[str, Any] = found.facts[FACTS]
        self.arrays = {file.stem: _mapped(file) for file in path.iterdir() if file.name != MANIFEST_FILE}


def found_or_made(path: Path, fill: Callable[[ArrayWriter], None]) -> ArrayFolder:
    """Return a folder of arrays, made now or earlier.

    Args:
        path: Which folder; a damaged one is reported and made again.
        fill: Appends all arrays and sets the facts.

    Raises:
        OutputError: If it cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     path = Path(parent, "pi")
        ...     folder = found_or_made(path, lambda writer: writer.append("digits", np.array([3, 1, 4], np.uint8)))
        ...     folder.arrays["digits"].tolist()
        [3, 1, 4]
    """
    is_damaged = False
    if path.exists():
        try:
            return ArrayFolder(path)
        except DataError as error:
            print(f"{error} Making it again now.", file=sys.stderr)
            is_damaged = True
    try:
        _make(path, fill, replace=is_damaged)
    except OutputError:
        if is_damaged or not path.exists():
            raise  # else another process made the same in the meantime
    return ArrayFolder(path)


def _make(path: Path, fill: Callable[[ArrayWriter], None], *, replace: bool) -> None:
    with staged_folder(path, replace=replace) as folder:
        with StagedFiles() as staged, _writer(folder, staged) as writer:
            fill(writer)
        write_manifest(folder, {FACTS: writer.facts})
        if path.exists() and not replace:
            raise OutputError(f"{path}: it is there already. Read it.")


def digest_of(recipe: Any) -> str:
    """Return a number, in hexadecimal digits, for plain JSON values and bytes: what a folder is called by."""
    return hashlib.sha256(json.dumps(recipe, default=bytes.decode).encode()).hexdigest()


@contextlib.contextmanager
def _writer(folder: Path, staged: StagedFiles) -> Iterator[ArrayWriter]:
    with contextlib.ExitStack() as stack:
        yield ArrayWriter(folder, stack, staged)


def _mapped(file: Path) -> Array:
    name, *row_shape = file.suffix[1:].split("x")
    dtype, shape = np.dtype(name).newbyteorder("<"), (-1, *map(int, row_shape))
    if file.stat().st_size == 0:
        return np.empty(0, dtype).reshape(shape)  # nothing can be mapped
    # A plain array over the map: compiled code is slow to recognise anything else.
    return np.asarray(np.memmap(file, dtype, mode="r")).view(np.ndarray).reshape(shape)
