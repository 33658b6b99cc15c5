"""Metrics as JSON lines: readable while the run goes on, and after it was cut off anywhere."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xenoglot.errors import OutputError
from xenoglot.storage.files import StagedFiles

__all__ = ["MetricsLog", "read_metrics", "write_json"]


class MetricsLog:
    """A file of JSON lines, one for each logged step.

    Args:
        path: The file.
        after_step: None for a new file. For a run that goes on after step k, k: lines of later steps are dropped, since
            those steps are made again, and so is what a crash left of a last line.

    Raises:
        OutputError: If the file cannot be written, or one is there though a new one is meant.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
        >>> with MetricsLog(path) as log:
        ...     log.write(10, {"loss_nats": 2.5})
        ...     log.write(20, {"loss_nats": 2.25})
        >>> with MetricsLog(path, after_step=10) as log:
        ...     log.write(20, {"loss_nats": 2.0})
        >>> path.read_text().splitlines()
        ['{"step": 10, "loss_nats": 2.5}', '{"step": 20, "loss_nats": 2.0}']
    """

    def __init__(self, path: Path, after_step: int | None = None) -> None:
        self._path = path
        try:
            if after_step is not None and path.exists():
                _keep_until(path, after_step)
            self._file = path.open("x" if after_step is None else "a", encoding="utf-8")
        except FileExistsError as error:
            raise OutputError(
                f"{path}: there are metrics already. A run that goes on says after which step."
            ) from error
        except OSError as error:
            raise self._failure(error) from error

    def write(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Add one line: the step, then the metrics under names that end in their unit; null is what is not known.

        Raises:
            OutputError: If the disk is full, say.
        """
        try:
            self._file.write(json.dumps({"step": step, **finite(metrics)}) + "\n")
            self._file.flush()
        except OSError as error:
            raise self._failure(error) from error

    def bring_to_disk(self) -> None:
        """Make what was written last through a power cut: a checkpoint that does must not know more than the log.

        Raises:
            OutputError: If the disk is full, say.
        """
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> OutputError:
        return OutputError(f"{self._path}: metrics cannot be written: {error.strerror or error}.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # every line was flushed when it was written, or complained about then
            self._file.close()


def finite(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """Replace what is not finite by None: JSON has no word for it."""
    return {name: None if value is None or not math.isfinite(value) else value for name, value in metrics.items()}


def read_metrics(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Read what `MetricsLog` wrote.

    Args:
        path: The file; one that does not exist has no lines.

    Returns:
        The lines that are whole, and how many are not: a crash can cut off the last one.
    """
    parsed = list(_parsed(path))
    whole = [line for line in parsed if line is not None]
    return whole, len(parsed) - len(whole)


def _parsed(path: Path) -> Iterator[dict[str, Any] | None]:
    """Yield each line that is not empty, or None for one that is not whole."""
    if not path.is_file():
        return
    for line in path.read_bytes().split(b"\n"):
        if line.strip():
            try:
                value = json.loads(line)
            except ValueError:  # UnicodeDecodeError is one too
                value = None
            yield value if isinstance(value, dict) and isinstance(value.get("step"), int) else None


def _keep_until(path: Path, step: int) -> None:
    lines, _ = read_metrics(path)
    with StagedFiles() as staged, staged.open(path) as file:
        file.writelines(f"{json.dumps(line)}\n".encode() for line in lines if line["step"] <= step)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that appears only when whole."""
    with StagedFiles() as staged, staged.open(path) as file:
        file.write(f"{json.dumps(content, indent=2)}\n".encode())
