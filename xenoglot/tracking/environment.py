"""The environment that a run was in: what results may depend on besides the configuration.

Environment variables are not written down: some of them are secrets.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import xenoglot

__all__ = ["environment"]

PACKAGES = ("xenoglot", "torch", "numpy", "numba", "safetensors", "lightning-fabric", "tokenizers", "transformers")


def environment() -> dict[str, Any]:
    """Describe versions, machine, devices and threads, as plain values ready for JSON."""
    import torch  # here, since metrics are kept and read without it

    return {
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
        "git_commit": _git_commit(Path(xenoglot.__file__).parent),
        "system": platform.platform(),
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit(package: Path) -> str | None:
    """Return the commit that the package's own files are of, or None if no repository has them."""
    git = ["git", "-C", str(package)]
    try:
        # A package installed below some other project's folder is not that project's commit.
        subprocess.run([*git, "ls-files", "--error-unmatch", "__init__.py"], capture_output=True, check=True)
        described = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            check=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip() or None


def _cpu_name() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
