"""Learning dynamics for pico-analyze, in the layout of files that it reads.

```
training_config.yaml                          the run's configuration; the sizes of the model are what is used
checkpoints/step_40/learning_dynamics/
  train_activations.pt  train_weights.pt  train_gradients.pt
  val_activations.pt    val_weights.pt    val_gradients.pt
```

Each `.pt` is a pickle, since pico-analyze reads nothing else: a mapping from Pico's names of layers to tensors. Pickles
are written here only, hold nothing but plain tensors (``torch.load`` with ``weights_only=True`` takes them), and are
never read back. Activations at all positions become rows, one for each token. A step whose training batch is of tasks
has no `train` files: there are no activations, by whose names pico-analyze finds the layers. It cannot find those of a
model of a single block: it takes what all names begin with for the name of the model.

Source: pico-analyze, `src/utils/data.py` and `src/components`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import yaml
from torch import Tensor

from xenoglot.checkpoint_folders import checkpoint_folder
from xenoglot.config import read_config, to_mapping
from xenoglot.dynamics_files import DYNAMICS_FOLDER, TRAIN, VALIDATION, Dynamics, dynamics_steps, read_dynamics
from xenoglot.errors import DataError
from xenoglot.storage.files import StagedFiles
from xenoglot.storage.folders import staged_folder

__all__ = ["write_pico_analyze"]

SPLITS = {TRAIN: "train", VALIDATION: "val"}
"""Pico's name of each batch."""


def write_pico_analyze(run_folder: Path, target_folder: Path) -> list[int]:
    """Write the learning dynamics of a run as pico-analyze reads them, and return the steps that there are.

    Args:
        run_folder: The run's folder.
        target_folder: Is made, whole or not at all; pico-analyze's ``--run_path``.

    Raises:
        DataError: If no step of the run has learning dynamics, or one is damaged.
        OutputError: If ``target_folder`` is there already, or cannot be written.
    """
    steps = dynamics_steps(run_folder)
    if not steps:
        raise DataError(
            f"{run_folder}: got no step with learning dynamics; allowed: at least one. Train with "
            "--checkpointing.learning_dynamics.enabled true."
        )
    config = to_mapping(read_config(run_folder / "config.yaml"))
    with staged_folder(target_folder) as folder, StagedFiles() as staged:
        with staged.open(folder / "training_config.yaml") as file:
            file.write(yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())
        for step in steps:
            own = checkpoint_folder(folder, step) / DYNAMICS_FOLDER
            own.mkdir(parents=True)
            for name, tensors in _contents(read_dynamics(checkpoint_folder(run_folder, step))):
                with staged.open(own / f"{name}.pt") as file:
                    torch.save(tensors, file)
    return steps


def _contents(dynamics: Dynamics) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield what goes into each file of a step, by the file's name."""
    for batch, split in SPLITS.items():
        layers = dynamics.names(batch, "activations")
        if not layers:
            continue
        theirs = {layer: dynamics.layers[layer] for layer in layers}
        yield (
            f"{split}_activations",
            {name: dynamics.tensor(batch, "activations", layer).flatten(0, -2) for layer, name in theirs.items()},
        )
        yield f"{split}_weights", {name: dynamics.weights(layer) for layer, name in theirs.items()}
        yield (
            f"{split}_gradients",
            {name: dynamics.tensor(batch, "gradients", layer) for layer, name in theirs.items()},
        )
