"""Metrics to TensorBoard, Weights & Biases and trackio, if asked.

They are a convenience, never a condition: one that fails while the run goes on (no network, a full disk) says so once
and is left out from then on. What they are told is the run's name, its configuration and its metrics; no environment
variable, no name of the machine or of who uses it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import io
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Protocol, Self

from xenoglot.config import MonitoringConfig
from xenoglot.config.sections import WandbConfig
from xenoglot.errors import MissingExtraError
from xenoglot.tracking.metrics_log import finite

__all__ = ["Tracker", "Trackers", "open_trackers", "require_trackers"]


class Tracker(Protocol):
    """Something that keeps metrics by step."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep the metrics of a step."""

    def close(self) -> None:
        """Bring everything to where it is kept."""


class Trackers:
    """All trackers of a run, none of which can stop it; a context manager that closes them.

    Args:
        by_name: Each under what it is called in a warning.
    """

    def __init__(self, by_name: Mapping[str, Tracker]) -> None:
        self._by_name = dict(by_name)

    def write(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Give the metrics of a step to each; what is not known is left out."""
        known = {name: value for name, value in finite(metrics).items() if value is not None}
        for tracker_name, tracker in list(self._by_name.items()):
            try:
                tracker.write(step, known)
            except Exception as error:  # whatever a foreign library raises must not cost the run
                del self._by_name[tracker_name]
                _warn(f"{tracker_name}: got no metrics from step {step} on ({_one_line(error)}). Training goes on.")

    def close(self) -> None:
        """Close each; a second time does nothing."""
        while self._by_name:
            tracker_name, tracker = self._by_name.popitem()
            try:
                tracker.close()
            except Exception as error:
                _warn(f"{tracker_name}: did not close well ({_one_line(error)}).")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def require_trackers(config: MonitoringConfig) -> None:
    """Check, before anything else is done, that the packages of the trackers that are asked for are installed.

    Raises:
        MissingExtraError: If one is not.
    """
    for name in ("tensorboard", "wandb", "trackio"):
        if getattr(config, f"save_to_{name}") and importlib.util.find_spec(name) is None:
            raise MissingExtraError(name, extra=name, purpose=f"--monitoring.save_to_{name}")


def open_trackers(config: MonitoringConfig, folder: Path, name: str, run: Mapping[str, Any]) -> Trackers:
    """Open the trackers that the configuration asks for.

    Args:
        config: Says which.
        folder: The run's folder, where TensorBoard's and W&B's files go. Trackio's go to its own, TRACKIO_DIR.
        name: What the run is called there. A run that goes on under its name and folder is continued there too.
        run: The run's configuration as plain values.

    Raises:
        MissingExtraError: If a package that is needed is not installed.
    """
    openers: dict[str, Callable[[], Tracker]] = {}
    if config.save_to_tensorboard:
        _package("tensorboard", extra="tensorboard")
        openers["TensorBoard"] = lambda: _TensorBoard(folder / "tensorboard", run)
    if config.save_to_wandb:
        if config.wandb.offline:  # read when the package is imported: its own troubles would be told to its makers
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        wandb = _package("wandb", extra="wandb")
        openers["Weights & Biases"] = lambda: _WeightsAndBiases(wandb, config.wandb, folder / "wandb", name, run)
    if config.save_to_trackio:
        trackio = _package("trackio", extra="trackio")
        openers["trackio"] = lambda: _Trackio(trackio, config.wandb.project, name, run)
    opened: dict[str, Tracker] = {}
    for tracker_name, opener in openers.items():
        try:
            opened[tracker_name] = opener()
        except Exception as error:
            _warn(f"{tracker_name}: cannot be opened ({_one_line(error)}). Training goes on without.")
    return Trackers(opened)


class _TensorBoard:
    """Opened at the first step that is written: what an earlier process wrote of later steps is then void."""

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        self._folder, self._run = folder, run
        self._writer: Any = None

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=step)
            text = json.dumps(self._run, indent=2, default=str)
            self._writer.add_text("config", "\n".join(f"    {line}" for line in text.splitlines()), step)
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _WeightsAndBiases:
    """Offline unless asked; asked without a key or a network, it says so and stays offline."""

    def __init__(self, wandb: ModuleType, config: WandbConfig, folder: Path, name: str, run: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(
            silent=True,
            host="-",
            console="off",
            disable_code=True,
            disable_git=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
        )
        details: dict[str, Any] = {
            "project": config.project,
            "entity": config.entity,
            "name": name,
            "id": _lasting_id(folder),
        }
        details |= {"dir": str(folder.parent), "config": dict(run), "settings": settings, "resume": "allow"}
        with _side_files_in(folder):
            try:
                self._run = wandb.init(mode="offline" if config.offline else "online", **details)
            except wandb.errors.Error as error:
                if config.offline:
                    raise
                _warn(f"Weights & Biases: not online ({_one_line(error)}). Later: wandb sync {folder}/offline-run-*")
                self._run = wandb.init(mode="offline", **details)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    """Kept on this machine, in trackio's database; what it prints holds a token that lets others write, so: nothing."""

    def __init__(self, trackio: ModuleType, project: str, name: str, run: Mapping[str, Any]) -> None:
        self._trackio = trackio
        known = inspect.signature(trackio.init).parameters  # earlier releases log less, and cannot be told not to
        with contextlib.redirect_stdout(io.StringIO()):
            self._run = trackio.init(
                project=project,
                name=name,
                config=dict(run),
                resume="allow",
                **{name: False for name in ("embed", "auto_log_gpu", "auto_log_cpu") if name in known},
            )

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self._trackio.finish()  # not the run's own: trackio would finish it once more when Python ends, aloud


def _package(name: str, *, extra: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(name, extra=extra, purpose=f"--monitoring.save_to_{extra}") from error


def _lasting_id(folder: Path) -> str:
    """Return the run's id at W&B, made once: a run that goes on is the same run there."""
    path = folder / "id.txt"
    if not path.exists():
        path.write_text(secrets.token_hex(8))
    return path.read_text()


@contextlib.contextmanager
def _side_files_in(folder: Path) -> Iterator[None]:
    """Have W&B keep its logs and caches in the run's folder, unless the user named other places for them."""
    names = [
        f"WANDB_{kind}_DIR" for kind in ("CACHE", "CONFIG", "DATA", "ARTIFACT") if f"WANDB_{kind}_DIR" not in os.environ
    ]
    os.environ.update(dict.fromkeys(names, str(folder / "side_files")))
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
