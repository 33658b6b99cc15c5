"""The native Llama model folder: how its `config.json` names our sizes, and what of it this decoder can be.

Transformers 5 stores the rotary base under ``rope_parameters``, version 4 under ``rope_theta``, and each ignores the
other's key in silence; both are written, and either is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from xenoglot.config import ModelConfig
from xenoglot.errors import DataError, OutputError
from xenoglot.files import StagedFiles
from xenoglot.tensor_files import write_tensors

__all__ = ["check_weights", "read_llama_config", "to_llama_config", "write_model_folder"]

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
EMBEDDING = "model.embed_tokens.weight"
OUTPUT_MATRIX = "lm_head.weight"

LLAMA_KEYS = {
    "hidden_size": "d_model",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "attention_n_heads",
    "num_key_value_heads": "attention_n_kv_heads",
    "intermediate_size": "activation_hidden_dim",
    "max_position_embeddings": "max_seq_len",
    "vocab_size": "vocab_size",
    "rms_norm_eps": "norm_eps",
    "rope_theta": "position_emb_theta",
    "tie_word_embeddings": "tie_word_embeddings",
}
"""Native Llama's name of each of our sizes."""

MODEL_TYPES = {"causal": "llama", "bidirectional": "xenoglot_bidirectional"}
"""What a folder says it is, by its attention: readers of a Llama would mask what a bidirectional model has to see."""

FIXED_IN_LLAMA = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
"""What a Llama may vary and this decoder does not."""


def check_weights(folder: Path, expected: Mapping[str, Sequence[int]], got: Mapping[str, Sequence[int]]) -> None:
    """Compare the shapes of a folder's weights with those of the model that it describes.

    Raises:
        DataError: Listing every weight that is missing, unknown or of another shape.
    """
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
    description = {**to_llama_config(config), "torch_dtype": str(stored[EMBEDDING].dtype).removeprefix("torch.")}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {str(folder)!r}: {error.strerror}.") from error
    with StagedFiles() as staged:
        with staged.open(folder / WEIGHTS_FILE) as file:
            write_tensors(file, stored, {"format": "pt"})
        with staged.open(folder / CONFIG_FILE) as file:
            file.write(f"{json.dumps(description, indent=2)}\n".encode())


def to_llama_config(config: ModelConfig) -> dict[str, Any]:
    """Return the `config.json` that native Llama reads; both the old and the new key of the rotary base are there."""
    renamed = {theirs: getattr(config, ours) for theirs, ours in LLAMA_KEYS.items()}
    return {
        "model_type": MODEL_TYPES[config.attention],
        "architectures": ["LlamaForCausalLM" if config.attention == "causal" else "Decoder"],
        "head_dim": config.d_model // config.attention_n_heads,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.position_emb_theta},
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "torch_dtype": "float32",
        **FIXED_IN_LLAMA,
        **renamed,
    }


def read_llama_config(path: Path) -> ModelConfig:
    """Read the sizes of a Llama model from its `config.json`, of an old or a new writer.

    Raises:
        DataError: If it cannot be read, or describes something that this decoder is not.
    """
    try:
        stored = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: got no readable model description ({error}).") from error
    rope = stored.get("rope_parameters") or {}
    stored = {"rope_theta": rope.get("rope_theta", 10000.0), "tie_word_embeddings": False, **stored}
    stored.setdefault("num_key_value_heads", stored.get("num_attention_heads"))
    missing = sorted({"model_type", *LLAMA_KEYS} - stored.keys())
    if missing:
        raise DataError(f"{path}: got no {', '.join(missing)}; allowed: the description of a Llama model.")
    attentions = {model_type: attention for attention, model_type in MODEL_TYPES.items()}
    if stored["model_type"] not in attentions:
        raise DataError(f"{path}: model_type: got {stored['model_type']!r}; allowed: {' or '.join(attentions)}.")
    sizes = {ours: stored[theirs] for theirs, ours in LLAMA_KEYS.items()}
    config = ModelConfig(attention=attentions[stored["model_type"]], **sizes)
    fixed = {**FIXED_IN_LLAMA, "rope_scaling": None, "head_dim": config.d_model // config.attention_n_heads}
    got = {"rope_type": rope.get("rope_type", "default"), **stored}
    for key, allowed in {**fixed, "rope_type": "default"}.items():
        if got.get(key, allowed) != allowed:
            raise DataError(f"{path}: {key}: got {got[key]!r}; allowed: {allowed!r}. This decoder has no other.")
    return config
