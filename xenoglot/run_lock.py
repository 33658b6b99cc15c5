"""One writer for each run: a lock that the system takes back from a process that dies, however it dies."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import json
import os
import platform
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from xenoglot.errors import OutputError
from xenoglot.storage.files import reason_of

__all__ = ["RunLock"]

LOCK_FILE = ".lock"
HELD_ELSEWHERE = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}
NO_LOCKS_HERE = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""Some network file systems have no locks: a run there is better unprotected than impossible."""
FAR_BEYOND_THE_CONTENT = 1 << 30


class RunLock:
    """Keeps other processes from writing to a run, as a context manager; reading is free.

    The lock is the system's own (`flock`; on Windows `LockFile`), not the file's presence: kill -9 leaves a file
    behind, but no lock. The file says who holds it, and is removed at the end. Of several processes that train one run
    together, the first holds it.

    Args:
        run_folder: The run's folder, which exists.

    Raises:
        OutputError: On entering, if another process, or another part of this one, holds it; or if the folder cannot be
            written to.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> with RunLock(Path(folder.name)), RunLock(Path(folder.name)):
        ...     pass
        Traceback (most recent call last):
        xenoglot.errors.OutputError: /tmp/...: another process is writing to this run: ...
        >>> folder.cleanup()
    """

    def __init__(self, run_folder: Path) -> None:
        self._folder = run_folder
        self._path = run_folder / LOCK_FILE

    def __enter__(self) -> Self:
        try:
            self._descriptor = self._locked()
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(f"{self._folder}: the run cannot be locked for writing: {reason_of(error)}.") from error
        with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
            os.truncate(self._descriptor, 0)
            os.write(self._descriptor, self._identity())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # an open file cannot be removed on Windows; it does no harm
            self._path.unlink()
        os.close(self._descriptor)

    def _locked(self) -> int:
        """Open and lock the file that has the name now: its last holder may have removed it in between."""
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                _lock(descriptor)
                if self._path.exists() and os.path.samestat(os.fstat(descriptor), os.stat(self._path)):
                    return descriptor
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno in NO_LOCKS_HERE:
                    print(
                        f"warning: {self._folder}: its file system has no locks; see to it yourself that only "
                        "one process writes to this run",
                        file=sys.stderr,
                    )
                    return descriptor
                os.close(descriptor)
                if error.errno in HELD_ELSEWHERE:
                    raise OutputError(
                        f"{self._folder}: another process is writing to this run: {self._holder()}. "
                        "Wait for its end, or choose another --checkpointing.run_name."
                    ) from error
                raise
            os.close(descriptor)

    @staticmethod
    def _identity() -> bytes:
        since = dt.datetime.now().astimezone().isoformat(timespec="seconds")
        return json.dumps({"pid": os.getpid(), "host": platform.node(), "since": since}).encode()

    def _holder(self) -> str:
        try:
            holder = json.loads(self._path.read_bytes())
            return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "it has not said who it is"  # it is between taking the lock and writing its name, or leaving


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, FAR_BEYOND_THE_CONTENT, os.SEEK_SET)  # what is locked there cannot be read by others
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
