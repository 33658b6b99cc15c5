"""What a run left to be measured: its checkpoints' weights at every step, activations and gradients at some."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from xenoglot.analysis.config import (
    ACTIVATIONS,
    OV_CIRCUIT,
    WEIGHTS,
    ComponentConfig,
    StepsConfig,
)
from xenoglot.batches import TokenBatch
from xenoglot.checkpoint_folders import checkpoint_folder, saved_steps
from xenoglot.config import RunConfig, resolve
from xenoglot.config.files import read_layer
from xenoglot.decoder import Decoder
from xenoglot.dynamics_files import TRAIN, VALIDATION, Dynamics, dynamics_steps, has_dynamics, read_dynamics
from xenoglot.errors import DataError, OptionError
from xenoglot.interchange import WEIGHTS_FILE
from xenoglot.layer_names import layer_names, matching_names
from xenoglot.measures import Product
from xenoglot.mechanisms.circuits import ov_activations, ov_circuits
from xenoglot.storage.manifest import damage_of_file

__all__ = ["RunSource", "Target", "weight_of"]

FILES = {"val": VALIDATION, "train": TRAIN}
BLOCK = "model.layers."


class Target(NamedTuple):
    """What is measured: a layer, or one head's circuit.

    Attributes:
        layer: The layer's name; the number of the block for a circuit.
        head: The head, from 0; None for a layer.
    """

    layer: str
    head: int | None = None


class RunSource:
    """One run's checkpoints, of which the few last opened ones stay in memory.

    Args:
        folder: The run's folder.
        steps: Which of its checkpoints are meant.

    Raises:
        DataError: If it is no run, or has no such checkpoint.
    """

    def __init__(self, folder: Path, steps: StepsConfig) -> None:
        if not (folder / "config.yaml").is_file():
            raise DataError(f"{folder}: got no run; allowed: a run's folder, with its config.yaml and checkpoints.")
        self.folder = folder
        self.name = folder.resolve().name
        saved = saved_steps(folder)
        self.steps = steps.chosen(saved)
        self.are_steps_chosen = steps != StepsConfig()
        if not self.steps:
            there = f"steps {', '.join(map(str, saved))}" if saved else "none"
            raise DataError(f"{folder}: got no checkpoint to look at; there are: {there}. Choose other steps.")
        self.dynamics_steps = [step for step in dynamics_steps(folder) if step in set(self.steps)]
        self.model = functools.lru_cache(maxsize=2)(self._open_model)
        self.dynamics = functools.lru_cache(maxsize=2)(self._open_dynamics)
        self.layers = layer_names(self.model(self.steps[-1]))

    @functools.cached_property
    def config(self) -> RunConfig:
        """What the run was told."""
        return resolve(read_layer(self.folder / "config.yaml"))

    def steps_with(self, data_type: str) -> list[int]:
        """Return the steps at which there is data of a type: all that were chosen, where they were.

        Raises:
            DataError: If there is none, or not at all the steps that were chosen; with the steps that have some.
        """
        if data_type == WEIGHTS:
            return self.steps
        lacking = [step for step in self.steps if not has_dynamics(checkpoint_folder(self.folder, step))]
        if lacking and (self.are_steps_chosen or not self.dynamics_steps):
            read_dynamics(checkpoint_folder(self.folder, lacking[0]))  # which says what there is, and what to do
        return self.dynamics_steps

    def targets(self, component: ComponentConfig) -> list[Target]:
        """Return what a component stands for: layers by name, or every head of blocks.

        Raises:
            OptionError: If suffixes match no layer, or there is no such block; with what there is.
        """
        sizes = self.model(self.steps[-1]).config
        for block in component.layers or ():
            if block >= sizes.n_layers:
                raise OptionError("layers", block, f"0 to {sizes.n_layers - 1}, the blocks of {self.name}")
        if component.component_name == OV_CIRCUIT:
            blocks = component.layers if component.layers is not None else range(sizes.n_layers)
            return [Target(str(block), head) for block in blocks for head in range(sizes.attention_n_heads)]
        names = matching_names(self.layers, component.layer_suffixes)
        wanted = None if component.layers is None else {f"{BLOCK}{block}" for block in component.layers}
        return [Target(name) for name in names if wanted is None or _block_of(name) in wanted]

    def read(self, step: int, data_type: str, data_split: str, target: Target) -> Tensor | Product:
        """Read what a measure is of.

        Args:
            step: One of `steps_with` this type.
            data_type: "weights", "activations" or "gradients".
            data_split: "val" or "train"; of no account for weights.
            target: One of `targets`.

        Raises:
            DataError: If the checkpoint is damaged, or lacks that layer's dynamics; with what it has.
        """
        if target.head is not None:
            return self._circuit(step, data_type, data_split, int(target.layer), target.head)
        if data_type == WEIGHTS:
            return weight_of(self.model(step), target.layer).detach()
        tensor = self.dynamics(step).tensor(FILES[data_split], data_type, target.layer)
        return tensor.flatten(0, -2) if data_type == ACTIVATIONS else tensor

    def batch(self, step: int, data_split: str) -> TokenBatch:
        """Return the rows that a step's activations and gradients were taken on."""
        inputs, targets = (
            self.dynamics(step).tensor(FILES[data_split], "batch", name).numpy() for name in ("inputs", "targets")
        )
        return TokenBatch.from_arrays(inputs, targets)

    def batch_identity(self, step: int, data_split: str) -> object:
        """Return what tells a step's batch from others."""
        return self.dynamics(step).batches[FILES[data_split]].get("identity")

    def _circuit(self, step: int, data_type: str, data_split: str, block: int, head: int) -> Product:
        model = self.model(step)
        if data_type == WEIGHTS:
            return ov_circuits(model, block)[head]
        attention = f"{BLOCK}{block}.self_attn"
        values = self.dynamics(step).tensor(FILES[data_split], ACTIVATIONS, f"{attention}.v_proj")
        return ov_activations(
            values.flatten(0, -2),
            weight_of(model, f"{attention}.o_proj").detach(),
            n_heads=model.config.attention_n_heads,
            n_kv_heads=model.config.attention_n_kv_heads,
        )[head]

    def _open_model(self, step: int) -> Decoder:
        folder = checkpoint_folder(self.folder, step)
        damage = damage_of_file(folder, WEIGHTS_FILE)
        if damage is not None:
            raise DataError(f"{folder}: the checkpoint is damaged: {damage}. Leave it out: steps in --config_path.")
        return Decoder.from_pretrained(folder).eval()

    def _open_dynamics(self, step: int) -> Dynamics:
        return read_dynamics(checkpoint_folder(self.folder, step))


def weight_of(model: Decoder, layer: str) -> Tensor:
    """Return the weight of a model's layer."""
    weight = model.get_submodule(layer).weight
    assert isinstance(weight, Tensor)
    return weight


def _block_of(name: str) -> str:
    """Return a layer's block, as ``model.layers.3``; the layer itself where it is in none."""
    return ".".join(name.split(".")[:3]) if name.startswith(BLOCK) else name
