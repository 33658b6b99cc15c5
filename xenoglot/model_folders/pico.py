"""Pico's model folders, of pico-train and Pico-MAML: their `config.json`, and what their weights are called here.

The model is a Llama under other names. Only the rotary pairs lie otherwise: Pico turns numbers 2i and 2i + 1 of a
head as one complex number, native Llama numbers i and i + C/2. The same function comes of the same weights with the
rows of the query and key matrices in another order, because both sides of every product q . k are reordered alike.

Source: https://github.com/pico-lm/pico-train, `src/model/pico_decoder.py`, and its fork Pico-MAML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from xenoglot.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PICO_TYPE", "from_pico_weights", "pico_name", "pico_sizes"]

PICO_TYPE = "pico_decoder"
KEYS = (
    "d_model",
    "n_layers",
    "vocab_size",
    "max_seq_len",
    "attention_n_heads",
    "attention_n_kv_heads",
    "activation_hidden_dim",
    "norm_eps",
    "position_emb_theta",
)
WHOLE_MODEL = {
    "model.embed_tokens.weight": "pico_decoder.embedding_proj.weight",
    "model.norm.weight": "pico_decoder.output_norm.weight",
    "lm_head.weight": "pico_decoder.de_embedding_proj.weight",
}
OF_A_LAYER = {
    "self_attn.q_proj": "attention.q_proj",
    "self_attn.k_proj": "attention.k_proj",
    "self_attn.v_proj": "attention.v_proj",
    "self_attn.o_proj": "attention.o_proj",
    "mlp.gate_proj": "swiglu.w_0",
    "mlp.up_proj": "swiglu.w_1",
    "mlp.down_proj": "swiglu.w_2",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "swiglu_norm",
}
LAYER_NAME = re.compile(r"model\.layers\.(\d+)\.(.+)\.weight")
TURNED = (".q_proj.weight", ".k_proj.weight")


def pico_sizes(stored: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return the options of `ModelConfig` that Pico's `config.json` stands for: the names are the same.

    Args:
        stored: What stands in it.
        place: How to call that file in an error.

    Raises:
        DataError: If sizes are missing.
    """
    given = {"attention_n_kv_heads": stored.get("attention_n_heads"), **stored}
    missing = [key for key in KEYS if given.get(key) is None]
    if missing:
        raise DataError(f"{place}: got no {', '.join(missing)}; allowed: the description of a Pico model.")
    return {key: given[key] for key in KEYS} | {"tie_word_embeddings": False, "attention": "causal"}


def pico_name(name: str) -> str:
    """Return what Pico calls a weight.

    Example:
        >>> pico_name("model.layers.3.mlp.down_proj.weight")
        'pico_decoder.layers.3.swiglu.w_2.weight'
    """
    found = LAYER_NAME.fullmatch(name)
    return f"pico_decoder.layers.{found[1]}.{OF_A_LAYER[found[2]]}.weight" if found else WHOLE_MODEL[name]


def from_pico_weights(weights: Mapping[str, Tensor], names: Mapping[str, str], head_size: int) -> dict[str, Tensor]:
    """Return Pico's weights under our names, the rows of queries and keys in our order.

    Args:
        weights: By Pico's names, all of which are there and of the right shapes.
        names: Pico's name of each of ours.
        head_size: Numbers of a head, C.
    """
    return {
        ours: _half_split(weights[theirs], head_size) if ours.endswith(TURNED) else weights[theirs]
        for ours, theirs in names.items()
    }


def _half_split(rows_ED: Tensor, head_size: int) -> Tensor:
    """Put, within each head, the even rows before the odd ones."""
    n_rows, width = rows_ED.shape
    by_pair = rows_ED.view(n_rows // head_size, head_size // 2, 2, width)
    return by_pair.transpose(1, 2).reshape(n_rows, width)
