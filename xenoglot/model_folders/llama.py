"""The native Llama folder's `config.json`: its names for our sizes, and what of it this decoder can be.

Transformers 5 stores the rotary base under ``rope_parameters``, version 4 under ``rope_theta``, and each ignores the
other's key in silence; both are written, and either is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xenoglot.errors import DataError

__all__ = ["llama_sizes", "to_llama_config"]

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

SAYS_NOTHING = ({"type": "default"}, {"rope_type": "default"})
"""Values of ``rope_scaling`` that scale nothing."""


def to_llama_config(sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `config.json` that native Llama reads; both the old and the new key of the rotary base are there.

    Args:
        sizes: Options of `ModelConfig` by name, all of them.
    """
    attention = sizes["attention"]
    return {
        "model_type": MODEL_TYPES[attention],
        "architectures": ["LlamaForCausalLM" if attention == "causal" else "Decoder"],
        "head_dim": sizes["d_model"] // sizes["attention_n_heads"],
        "rope_parameters": {"rope_type": "default", "rope_theta": sizes["position_emb_theta"]},
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "torch_dtype": "float32",
        **FIXED_IN_LLAMA,
        **{theirs: sizes[ours] for theirs, ours in LLAMA_KEYS.items()},
    }


def llama_sizes(stored: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return the options of `ModelConfig` that a Llama's description stands for, of an old or a new writer.

    Args:
        stored: What stands in `config.json`.
        place: How to call that file in an error.

    Raises:
        DataError: If sizes are missing, or it describes something that this decoder is not.
    """
    said = {key: value for key, value in stored.items() if value is not None}
    rope = said.get("rope_parameters", {})
    if not isinstance(rope, Mapping):
        raise DataError(f"{place}: rope_parameters: got {rope!r}; allowed: a mapping with rope_theta.")
    bases = [source["rope_theta"] for source in (said, rope) if "rope_theta" in source]
    if any(base != bases[0] for base in bases):
        raise DataError(f"{place}: rope_theta: got {' and '.join(map(str, bases))}; allowed: one, wherever it is said.")
    given = {"rope_theta": next(iter(bases), 10000.0), "tie_word_embeddings": False, **said}
    given.setdefault("num_key_value_heads", given.get("num_attention_heads"))
    missing = sorted(LLAMA_KEYS.keys() - given.keys())
    if missing:
        raise DataError(f"{place}: got no {', '.join(missing)}; allowed: the description of a Llama model.")
    _refuse_other_kinds(given, rope, place)
    attentions = {model_type: attention for attention, model_type in MODEL_TYPES.items()}
    return {ours: given[theirs] for theirs, ours in LLAMA_KEYS.items()} | {"attention": attentions[given["model_type"]]}


def _refuse_other_kinds(given: Mapping[str, Any], rope: Mapping[str, Any], place: str) -> None:
    """Complain about anything that would make the same weights another function."""
    if given.get("rope_scaling", {}) not in ({}, *SAYS_NOTHING):
        raise DataError(
            f"{place}: rope_scaling: got {given['rope_scaling']!r}; allowed: none. Positions are not scaled."
        )
    if "quantization_config" in given:
        raise DataError(f"{place}: quantization_config: got quantized weights; allowed: float32, float16 or bfloat16.")
    width, n_heads = given["hidden_size"], given["num_attention_heads"]
    is_countable = isinstance(width, int) and isinstance(n_heads, int) and n_heads > 0
    got = {
        **given,
        "rope_type": rope.get("rope_type", "default"),
        "partial_rotary_factor": rope.get("partial_rotary_factor", given.get("partial_rotary_factor", 1.0)),
    }
    fixed = {**FIXED_IN_LLAMA, "rope_type": "default", "partial_rotary_factor": 1.0}
    if is_countable:
        fixed["head_dim"] = width // n_heads
    for key, allowed in fixed.items():
        if got.get(key, allowed) != allowed:
            raise DataError(f"{place}: {key}: got {got[key]!r}; allowed: {allowed!r}. This decoder has no other.")
