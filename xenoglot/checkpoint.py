"""A checkpoint is a transaction: a folder that is there whole or not at all, and proves that it is whole.

```
checkpoints/step_40/
  config.json  model.safetensors  tokenizer.json ...   a native Llama folder, as other programs read it
  state/training_state.safetensors                     the optimizer's tensors, and any others
  state/training_state.json                            everything else: plain JSON values
  learning_dynamics/...                                at chosen steps: see `xenoglot.dynamics_files`
  manifest.json                                        every file's size and SHA-256; written last
```

It is filled under a hidden name, brought to the disk, and renamed. There is no pickle in it.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import safetensors.torch
from torch import Tensor

from xenoglot.checkpoint_folders import (
    CHECKPOINTS,
    FIRST_SAVE,
    checkpoint_folder,
    damage_of,
    inspect_checkpoint,
    is_save_due,
    kept_steps,
    saved_steps,
    set_aside,
    set_aside_before,
    verify_checkpoint,
)
from xenoglot.config import CheckpointingConfig, ModelConfig
from xenoglot.dynamics_files import has_dynamics
from xenoglot.errors import DataError, OutputError, ResumeError
from xenoglot.interchange import EMBEDDING, OUTPUT_MATRIX, WEIGHTS_FILE, write_model_folder
from xenoglot.run_lock import RunLock
from xenoglot.storage.comparing import differences
from xenoglot.storage.files import StagedFiles, reason_of, write_whole
from xenoglot.storage.folders import clean_up, remove_folder, staged_folder
from xenoglot.storage.manifest import write_manifest
from xenoglot.storage.tensor_files import write_tensors

__all__ = ["Checkpoint", "Checkpoints", "RunLock", "TrainingState", "differences", "verify_checkpoint"]

STATE_TENSORS = "state/training_state.safetensors"
STATE_FACTS = "state/training_state.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingState:
    """What training needs to go on besides the model's weights.

    Attributes:
        tensors: By name; of the optimizer, say.
        facts: Plain JSON values: numbers, texts, lists, and mappings with text keys.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A saved state of a run.

    Attributes:
        folder: Where it is: a native Llama model folder.
        step: After how many steps it was saved.
    """

    folder: Path
    step: int

    def facts(self) -> dict[str, Any]:
        """Return the facts of the state alone, of a checkpoint that is known to be whole."""
        facts: dict[str, Any] = json.loads((self.folder / STATE_FACTS).read_bytes())["facts"]
        return facts

    def read(self) -> tuple[dict[str, Tensor], TrainingState]:
        """Return the model's weights and the state, on the CPU; every byte is compared with the manifest.

        Raises:
            DataError: If anything is missing, torn or changed.
        """
        found = inspect_checkpoint(self.folder, keep={WEIGHTS_FILE, STATE_TENSORS, STATE_FACTS})
        if found.damage:
            raise DataError(f"{self.folder}: the checkpoint is damaged: {'; '.join(found.damage)}.")
        stored = json.loads(found.contents[STATE_FACTS])
        weights = _with_twins(safetensors.torch.load(found.contents[WEIGHTS_FILE]), stored["twins"]["weights"])
        tensors = _with_twins(safetensors.torch.load(found.contents[STATE_TENSORS]), stored["twins"]["tensors"])
        return weights, TrainingState(tensors=tensors, facts=stored["facts"])


class Checkpoints:
    """The checkpoints of one run, saved in the background one at a time.

    As a context manager it first puts right what a process that died left half-written, and in the end waits for
    what is being saved. Only one process at a time may save, look for the `latest`, or enter: the `RunLock`'s holder.

    Args:
        run_folder: The run's folder.
        config: Which checkpoints are saved, how, and which are kept.
        on_saved: Is told the step of each that is whole and on the disk, before earlier ones go.
    """

    def __init__(
        self, run_folder: Path, config: CheckpointingConfig, on_saved: Callable[[int], None] = lambda step: None
    ) -> None:
        self._run_folder = run_folder
        self._config = config
        self._on_saved = on_saved
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None

    def is_due(self, step: int) -> bool:
        """Say whether a checkpoint is to be saved after ``step`` steps, not counting the run's last step."""
        return is_save_due(self._config, step)

    def save(
        self,
        step: int,
        *,
        config: ModelConfig,
        weights: Mapping[str, Tensor],
        state: TrainingState,
        files: Mapping[str, bytes] = {},
        more_tensors: Mapping[str, Mapping[str, Tensor]] = {},
    ) -> Path:
        """Save the state after ``step`` steps, and return the folder in which it is, or soon will be.

        Tensors are copied before this returns, so that later steps cannot touch what is being written. A checkpoint of
        that step that is there already is replaced. When the new one is on the disk, older ones go that are not kept.

        Args:
            step: How many steps were made.
            config: The model's sizes.
            weights: The model's state dict, whole, on any device.
            state: What training needs besides.
            files: Further files by their paths in the folder: a tokenizer's, say.
            more_tensors: By name, by the path of the further safetensors file that they go into.

        Raises:
            OutputError: If this one cannot be written, or the one before could not be in the background; earlier
                checkpoints are untouched, and nothing half-written is left.
        """
        self.wait()
        weights, twin_weights = _without_twins(_as_tied(config, weights))
        tensors, twin_tensors = _without_twins(state.tensors)
        twins = {"weights": twin_weights, "tensors": twin_tensors}
        others = {path: _copied(own) for path, own in more_tensors.items()}
        facts = f"{json.dumps({'facts': dict(state.facts), 'twins': twins}, indent=1)}\n".encode()

        def write() -> None:
            tensor_files = {STATE_TENSORS: tensors, **others}
            self._write(step, config, weights, tensor_files, {**files, STATE_FACTS: facts})

        if self._config.save_in_background:
            self._start(write)
        else:
            write()
        return checkpoint_folder(self._run_folder, step)

    def wait(self) -> None:
        """Return when nothing is being written any more.

        Raises:
            OutputError: If what was being written could not be.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def latest(self) -> Checkpoint | None:
        """Return the newest valid checkpoint, None if the run never had one.

        One that is torn or changed is named on stderr, set aside under another name, and skipped.

        Raises:
            ResumeError: If the run had checkpoints and none of them is whole: it never starts again in silence.
        """
        self.wait()
        for step in reversed(saved_steps(self._run_folder)):
            folder = checkpoint_folder(self._run_folder, step)
            damage = damage_of(folder)
            if not damage:
                return Checkpoint(folder=folder, step=step)
            place = set_aside(folder)
            _warn(f"{folder}: the checkpoint is damaged: {'; '.join(damage)}. It is set aside as {place.name}.")
        had_some = (self._run_folder / FIRST_SAVE).exists() or set_aside_before(self._run_folder)
        if had_some:
            raise ResumeError(
                f"{self._run_folder / CHECKPOINTS}: got no whole checkpoint, though the run saved some; allowed: at "
                "least one. Put one back from a copy, or begin another run with another --checkpointing.run_name."
            )
        return None

    def _start(self, write: Callable[[], None]) -> None:
        def run() -> None:
            try:
                write()
            except Exception as error:
                self._failure = error  # raised where the run can tell it: at the next save, or at wait

        # No daemon: the interpreter does not end before the checkpoint is whole.
        self._thread = threading.Thread(target=run, name="xenoglot-checkpoint")
        self._thread.start()

    def _write(
        self,
        step: int,
        config: ModelConfig,
        weights: Mapping[str, Tensor],
        tensor_files: Mapping[str, Mapping[str, Tensor]],
        files: Mapping[str, bytes],
    ) -> None:
        target = checkpoint_folder(self._run_folder, step)
        try:
            with staged_folder(target, replace=True) as folder:
                write_model_folder(folder, config, weights)
                for parent in {(folder / path).parent for path in (*tensor_files, *files)}:
                    parent.mkdir(parents=True, exist_ok=True)
                with StagedFiles() as staged:
                    for path, tensors in tensor_files.items():
                        with staged.open(folder / path) as file:
                            write_tensors(file, tensors)
                    for path, content in files.items():
                        with staged.open(folder / path) as file:
                            file.write(content)
                write_manifest(folder, {"step": step})
            if not (self._run_folder / FIRST_SAVE).exists():
                write_whole(self._run_folder / FIRST_SAVE, f"{step}\n".encode())
        except OSError as error:
            raise OutputError(
                f"{target}: the checkpoint cannot be written: {reason_of(error)}. Nothing half-written is left, and "
                "earlier checkpoints are untouched: make room, and start the run again to go on from the newest."
            ) from error
        self._on_saved(step)
        self._remove_what_is_not_kept()

    def _remove_what_is_not_kept(self) -> None:
        steps = saved_steps(self._run_folder)
        for step in sorted(set(steps) - kept_steps(self._config, steps)):
            folder = checkpoint_folder(self._run_folder, step)
            if not has_dynamics(folder):
                remove_folder(folder)

    def __enter__(self) -> Self:
        for folder in (self._run_folder, *self._run_folder.glob("*/")):
            clean_up(folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except OutputError as failure:
            if kind is None:
                raise
            _warn(str(failure))  # what ended the run is what is raised


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to the CPU, so that nothing else can change them."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _without_twins(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Copy tensors to the CPU, each once; return the copies, and for every further name the one it is the same as."""
    copies: dict[str, Tensor] = {}
    twins: dict[str, str] = {}
    first_names: dict[Any, str] = {}
    for name, tensor in tensors.items():
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and place in first_names:
            twins[name] = first_names[place]
            continue
        first_names[place] = name
        copies[name] = tensor.detach().to("cpu", copy=True).contiguous()
    return copies, twins


def _as_tied(config: ModelConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put the embedding first, under whose name a model folder stores what is tied; two copies of it are one then."""
    tied = {OUTPUT_MATRIX: weights[EMBEDDING]} if config.tie_word_embeddings and OUTPUT_MATRIX in weights else {}
    return {EMBEDDING: weights[EMBEDDING], **weights, **tied}


def _with_twins(tensors: dict[str, Tensor], twins: Mapping[str, str]) -> dict[str, Tensor]:
    return tensors | {name: tensors[first] for name, first in twins.items()}


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
