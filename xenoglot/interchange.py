"""Models out of this package and into it: native Llama folders are written, Llama and Pico folders are read.

```python
config, weights = read_model(model_folder("pico-lm/pico-decoder-tiny"))
write_model_folder(Path("as_llama"), config, weights)
```
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from xenoglot.config import ModelConfig
from xenoglot.errors import DataError, OptionError, OutputError
from xenoglot.model_folders import CONFIG_FILE, model_folder, read_description, read_sizes, to_llama_config
from xenoglot.model_folders.pico import PICO_TYPE, from_pico_weights, pico_name
from xenoglot.storage.files import StagedFiles
from xenoglot.storage.tensor_files import write_tensors
from xenoglot.stored_weights import WEIGHTS_FILE, read_weights, refuse_damage

__all__ = [
    "CONFIG_FILE",
    "EMBEDDING",
    "OUTPUT_MATRIX",
    "WEIGHTS_FILE",
    "model_folder",
    "read_model",
    "write_model_folder",
]

EMBEDDING = "model.embed_tokens.weight"
OUTPUT_MATRIX = "lm_head.weight"
DERIVED = ".rotary_emb.inv_freq"
"""How a tensor's name ends that early writers stored, and that follows from the rotary base."""


def write_model_folder(folder: Path, config: ModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Write a native Llama model folder: `config.json` and `model.safetensors`, on the disk and both whole, or neither.

    Args:
        folder: Is made if it does not exist.
        config: The model's sizes.
        weights: Its state dict; the output matrix may be left out if it is the embedding.

    Raises:
        OutputError: If the folder or a file cannot be written.
    """
    stored = dict(weights)
    if config.tie_word_embeddings:
        stored.pop(OUTPUT_MATRIX, None)  # the format stores shared weights once
    dtype = str(stored[EMBEDDING].dtype).removeprefix("torch.")
    description = {**to_llama_config(dataclasses.asdict(config)), "torch_dtype": dtype}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {str(folder)!r}: {error.strerror}.") from error
    with StagedFiles() as staged:
        with staged.open(folder / WEIGHTS_FILE) as file:
            write_tensors(file, stored, {"format": "pt"})
        with staged.open(folder / CONFIG_FILE) as file:
            file.write(f"{json.dumps(description, indent=2)}\n".encode())


def read_model(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Read a model folder, Llama's or Pico's, as sizes and a state dict of `Decoder`, in float32.

    Raises:
        DataError: If a file is missing, damaged or pickled, the model is of another kind, or weights are missing,
            unknown or of another shape; all of them are listed.
    """
    refuse_damage(folder, (CONFIG_FILE, WEIGHTS_FILE))
    description, config = read_description(folder), _read_config(folder)
    is_pico = description["model_type"] == PICO_TYPE
    weights = {name: weight for name, weight in read_weights(folder).items() if not name.endswith(DERIVED)}
    if config.n_layers > len(weights):  # before all that they should be is listed
        raise DataError(f"{folder}: {CONFIG_FILE} says {config.n_layers:,} layers; there are {len(weights)} weights.")
    shapes = _shapes_of(config)
    names = {ours: pico_name(ours) if is_pico else ours for ours in shapes}
    if config.tie_word_embeddings:
        _tie(folder, weights)
    expected = {names[ours]: shape for ours, shape in shapes.items()}
    _check_weights(folder, expected, {name: weight.shape for name, weight in weights.items()})
    head_size = config.d_model // config.attention_n_heads
    return config, from_pico_weights(weights, names, head_size) if is_pico else weights


def _read_config(folder: Path) -> ModelConfig:
    sizes = read_sizes(folder)
    try:
        config = ModelConfig(**sizes)
    except OptionError as error:
        raise DataError(f"{folder / CONFIG_FILE}: its sizes are not allowed: {error}") from error
    if config.vocab_size is None:
        raise DataError(f"{folder / CONFIG_FILE}: vocab_size: got none; allowed: a whole number, at least 2.")
    return config


def _shapes_of(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight, without making any, so that an absurd description costs no memory."""
    width, hidden, n_ids = config.d_model, config.activation_hidden_dim, config.vocab_size or 0
    shared_width = width // config.attention_n_heads * config.attention_n_kv_heads
    of_a_layer: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj": (width, width),
        "self_attn.k_proj": (shared_width, width),
        "self_attn.v_proj": (shared_width, width),
        "self_attn.o_proj": (width, width),
        "mlp.gate_proj": (hidden, width),
        "mlp.up_proj": (hidden, width),
        "mlp.down_proj": (width, hidden),
        "input_layernorm": (width,),
        "post_attention_layernorm": (width,),
    }
    return {
        EMBEDDING: (n_ids, width),
        **{
            f"model.layers.{layer}.{name}.weight": shape
            for layer in range(config.n_layers)
            for name, shape in of_a_layer.items()
        },
        "model.norm.weight": (width,),
        OUTPUT_MATRIX: (n_ids, width),
    }


def _tie(folder: Path, weights: dict[str, Tensor]) -> None:
    """Put the embedding in the output matrix's place too, where it may be stored a second time."""
    if EMBEDDING not in weights:
        return
    stored = weights.setdefault(OUTPUT_MATRIX, weights[EMBEDDING])
    if not torch.equal(stored, weights[EMBEDDING]):
        raise DataError(
            f"{folder}: {CONFIG_FILE} says tie_word_embeddings, but {OUTPUT_MATRIX} is not {EMBEDDING}; allowed: the "
            "same matrix, or tie_word_embeddings false."
        )


def _check_weights(folder: Path, expected: Mapping[str, Sequence[int]], got: Mapping[str, Sequence[int]]) -> None:
    """Compare the shapes of a folder's weights with those of the model that it describes."""
    shared = expected.keys() & got.keys()
    faults = {
        "missing": sorted(expected.keys() - got.keys()),
        "unknown": sorted(got.keys() - expected.keys()),
        "of another shape": [
            f"{name} {list(got[name])} instead of {list(expected[name])}"
            for name in sorted(shared)
            if list(got[name]) != list(expected[name])
        ],
    }
    if any(faults.values()):
        found = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in faults.items() if names)
        raise DataError(f"{folder / WEIGHTS_FILE}: the weights are not those that {CONFIG_FILE} describes. {found}.")
