"""Files that appear under their names only when whole, all of them together or none.

A file is written under a temporary name beside its own, brought to the disk, and renamed at the end. Whatever goes
wrong before (a full disk, an interrupt, a bug) removes the temporary one and leaves what was there before.

```python
with StagedFiles() as staged:
    with staged.open("samples.txt") as file:
        file.write(b"...")
```
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from xenoglot.errors import OutputError

__all__ = ["PARTIAL", "StagedFiles", "bring_to_disk", "reason_of", "write_whole"]

BUFFER_BYTES = 1 << 18
PARTIAL = ".partial"
"""How the temporary names of what is not whole yet end."""


class StagedFiles:
    """Files that are published together when the block ends well, and removed when it does not.

    Something at the path that is not a regular file (a device, a pipe) is written to directly; a symbolic link stays,
    and what it leads to is replaced.
    """

    def __init__(self) -> None:
        self._staged: list[tuple[Path, Path]] = []

    @contextlib.contextmanager
    def open(self, path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
        """Open one file for writing bytes.

        Raises:
            OutputError: If the path cannot be written, or a write in the block fails.
        """
        target = Path(os.path.realpath(path))
        try:
            with self._opened(target) as file:
                yield file
                file.flush()
                if target not in {final for _, final in self._staged}:
                    return  # a device or a pipe: there is nothing to bring to a disk
                os.fsync(file.fileno())
        except BrokenPipeError:
            raise  # whoever reads has seen enough: no error of the output
        except OSError as error:
            raise _output_error(path, error) from error

    def _opened(self, target: Path) -> BinaryIO:
        if target.is_dir():
            raise IsADirectoryError(None, "it is a folder; name a file in it", str(target))
        if target.exists() and not target.is_file():
            return open(target, "wb", buffering=BUFFER_BYTES)
        temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}{PARTIAL}")
        self._staged.append((temporary, target))  # before it exists, so that an interrupt cannot fall between
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
        file = open(temporary, "xb", buffering=BUFFER_BYTES)  # noqa: SIM115 - the caller closes it
        if mode is not None and hasattr(os, "fchmod"):  # not on Windows before Python 3.13
            os.fchmod(file.fileno(), mode)
        return file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._publish()
        finally:
            for temporary, _ in self._staged:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)

    def _publish(self) -> None:
        for temporary, target in self._staged:
            try:
                os.replace(temporary, target)
            except OSError as error:
                raise _output_error(target, error) from error
        for folder in {target.parent for _, target in self._staged}:
            bring_to_disk(folder)


def write_whole(path: Path, content: bytes) -> None:
    """Write one file that appears under its name only when it is whole and on the disk.

    Raises:
        OutputError: If it cannot be written.
    """
    with StagedFiles() as staged, staged.open(path) as file:
        file.write(content)


def bring_to_disk(folder: Path) -> None:
    """Make a folder's new names last through a power cut, where the system can: not every file system syncs them."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def reason_of(error: OSError) -> str:
    """Say in the system's words what went wrong, without the path, also where an `OutputError` told it on.

    Example:
        >>> reason_of(OSError(28, "No space left on device", "a.txt"))
        'No space left on device'
    """
    if isinstance(error, OutputError) and isinstance(error.__cause__, OSError):
        return reason_of(error.__cause__)
    return error.strerror or str(error)


def _output_error(path: str | os.PathLike[str], error: OSError) -> OutputError:
    if isinstance(error, OutputError):
        return error
    reason = reason_of(error)
    if isinstance(error, FileNotFoundError):
        reason = f"the folder {str(Path(path).parent)!r} does not exist; create it first"
    return OutputError(f"cannot write {os.fspath(path)!r}: {reason}. Nothing half-written is left.")
