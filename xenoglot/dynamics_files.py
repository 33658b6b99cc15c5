"""Learning dynamics on disk: what a layer gave out, its weights and gradients at a step, as a checkpoint keeps them.

```
checkpoints/step_40/learning_dynamics/
  dynamics.json              the step, the layers by our names and Pico's, and what the batches are
  validation.safetensors     on the same rows at every step
      activations/LAYER      [B, D'] at one position, or [B, T, D'] at all: what the layer gives out
      gradients/LAYER        in the shape of its weight: of the mean loss of a target
      attention/BLOCK        [B, H, T, T], if asked for
      batch/inputs, batch/targets [B, T], batch/floor_nats [B, T] where there is a floor
  train.safetensors          the same on the rows that the next update learns from
  weights.safetensors        weights/LAYER
  optimizer.safetensors      if asked for: QUANTITY/LAYER
```

Shapes: B rows, T tokens, H heads, D' what a layer gives out. Numbers are float32, ids int32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from xenoglot.checkpoint_folders import checkpoint_folder, saved_steps
from xenoglot.errors import DataError
from xenoglot.storage.manifest import damage_of_file

__all__ = [
    "DYNAMICS_FOLDER",
    "FACTS_FILE",
    "OPTIMIZER",
    "TRAIN",
    "VALIDATION",
    "WEIGHTS",
    "Dynamics",
    "dynamics_steps",
    "has_dynamics",
    "read_dynamics",
]

DYNAMICS_FOLDER = "learning_dynamics"
FACTS_FILE = "dynamics.json"
VALIDATION, TRAIN, WEIGHTS, OPTIMIZER = "validation", "train", "weights", "optimizer"


@dataclass(frozen=True, kw_only=True)
class Dynamics:
    """The learning dynamics of one step; tensors are read when they are asked for.

    Attributes:
        folder: Where they are.
        step: Updates that were made before.
        layers: Pico's name of each layer by ours, in the order of the model.
        sequence_idx: At which position activations were taken, None for all.
        batches: What the batches are, by name: "validation" and "train".
        facts: All that is written down beside the tensors.
    """

    folder: Path
    step: int
    layers: Mapping[str, str]
    sequence_idx: int | None
    batches: Mapping[str, Mapping[str, Any]]
    facts: Mapping[str, Any]
    _checked: set[Path] = field(default_factory=set, init=False, repr=False, compare=False)

    def tensor(self, file: str, kind: str, layer: str) -> Tensor:
        """Read one tensor, on the CPU.

        Args:
            file: "validation", "train", "weights" or "optimizer".
            kind: "activations", "gradients", "attention" or "batch"; "weights" in the file of weights.
            layer: Whose; for "batch" one of "inputs", "targets" and "floor_nats".

        Raises:
            DataError: If there is no such tensor, or the file is missing, torn or changed.
        """
        path = self.folder / f"{file}.safetensors"
        name = f"{kind}/{layer}"
        self._check(path)
        try:
            with safe_open(path, framework="pt") as stored:
                names = list(stored.keys())
                if name in names:
                    tensor: Tensor = stored.get_tensor(name)
                    return tensor
        except (OSError, SafetensorError) as error:
            raise DataError(f"{path}: got no readable tensors ({error}).") from error
        raise DataError(f"{path}: got no {name}; there are {', '.join(sorted(names))}.")

    def weights(self, layer: str) -> Tensor:
        """Read a layer's weights, as they were at the step."""
        return self.tensor(WEIGHTS, "weights", layer)

    def names(self, file: str, kind: str) -> list[str]:
        """List whose tensors of a kind a file has, none if there is no such file.

        Raises:
            DataError: If the file is torn or changed.
        """
        path = self.folder / f"{file}.safetensors"
        if not path.exists():
            return []
        self._check(path)
        with safe_open(path, framework="pt") as stored:
            stored_names = list(stored.keys())
        prefix = f"{kind}/"
        names = sorted(name.removeprefix(prefix) for name in stored_names if name.startswith(prefix))
        ranks = {layer: rank for rank, layer in enumerate(self.layers)}
        return sorted(names, key=lambda name: ranks.get(name, len(ranks)))

    def _check(self, path: Path) -> None:
        if path in self._checked:
            return
        damage = damage_of_file(self.folder.parent, f"{DYNAMICS_FOLDER}/{path.name}")
        if damage is not None:
            raise DataError(f"{self.folder.parent}: the checkpoint's learning dynamics are damaged: {damage}.")
        self._checked.add(path)


def read_dynamics(checkpoint: Path) -> Dynamics:
    """Open the learning dynamics of a checkpoint; each file is compared with the manifest when it is first read.

    Args:
        checkpoint: The checkpoint's folder, ``RUN/checkpoints/step_N``.

    Raises:
        DataError: If the step has none, or they are torn or changed; steps of the run that have some are named.
    """
    folder = checkpoint / DYNAMICS_FOLDER
    if not (folder / FACTS_FILE).exists():
        steps = dynamics_steps(checkpoint.parent.parent)
        there = f"steps that have some: {', '.join(map(str, steps))}" if steps else "no step of the run has any"
        raise DataError(
            f"{checkpoint}: got no learning dynamics; {there}. Train with --checkpointing.learning_dynamics.enabled "
            "true, and say at which steps."
        )
    damage = damage_of_file(checkpoint, f"{DYNAMICS_FOLDER}/{FACTS_FILE}")
    if damage is not None:
        raise DataError(f"{checkpoint}: the checkpoint's learning dynamics are damaged: {damage}.")
    facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
    return Dynamics(
        folder=folder,
        step=facts["step"],
        layers=facts["layers"],
        sequence_idx=facts["sequence_idx"],
        batches=facts["batches"],
        facts=facts,
    )


def dynamics_steps(run_folder: Path) -> list[int]:
    """Return the steps of a run whose checkpoints have learning dynamics, in order."""
    return [step for step in saved_steps(run_folder) if has_dynamics(checkpoint_folder(run_folder, step))]


def has_dynamics(checkpoint: Path) -> bool:
    """Say whether a checkpoint has learning dynamics."""
    return (checkpoint / DYNAMICS_FOLDER / FACTS_FILE).exists()
