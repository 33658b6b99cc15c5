"""The native Llama model folder: how its `config.json` names our sizes, and what of it this decoder can be.

Transformers 5 stores the rotary base under ``rope_parameters``, version 4 under ``rope_theta``, and each ignores the
other's key in silence; both are written, and either is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xenoglot.config import ModelConfig
from xenoglot.errors import DataError

__all__ = ["check_weights", "read_llama_config", "to_llama_config"]

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

FIXED_IN_LLAMA = {"model_type": "llama", "hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
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


def to_llama_config(config: ModelConfig) -> dict[str, Any]:
    """Return the `config.json` that native Llama reads; both the old and the new key of the rotary base are there."""
    renamed = {theirs: getattr(config, ours) for theirs, ours in LLAMA_KEYS.items()}
    return {
        "architectures": ["LlamaForCausalLM"],
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
    config = ModelConfig(**{ours: stored[theirs] for theirs, ours in LLAMA_KEYS.items()})
    fixed = {**FIXED_IN_LLAMA, "rope_scaling": None, "head_dim": config.d_model // config.attention_n_heads}
    got = {"rope_type": rope.get("rope_type", "default"), **stored}
    for key, allowed in {**fixed, "rope_type": "default"}.items():
        if got.get(key, allowed) != allowed:
            raise DataError(f"{path}: {key}: got {got[key]!r}; allowed: {allowed!r}. This decoder has no other.")
    return config
