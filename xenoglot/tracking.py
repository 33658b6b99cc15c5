"""What a run writes about itself: metrics as JSON lines, and the environment it ran in."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from xenoglot.files import StagedFiles

__all__ = ["MetricsLog", "environment", "write_json"]


class MetricsLog:
    """A file of JSON lines, one for each logged step, readable while the run goes on.

    Args:
        path: The file; lines are added at its end.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one line: the step, then the metrics under names that end in their unit."""
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that appears only when whole."""
    with StagedFiles() as staged, staged.open(path) as file:
        file.write(f"{json.dumps(content, indent=2)}\n".encode())


def environment() -> dict[str, Any]:
    """Describe what results may depend on besides the configuration: versions, machine and threads."""
    packages = ("xenoglot", "torch", "numpy", "numba", "safetensors")
    return {
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "system": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
