"""The names of layers: ours, which are native Llama's, and Pico's for the same layers.

```
model.embed_tokens                            embedding_proj
model.layers.N.input_layernorm                layers.N.attention_norm
model.layers.N.self_attn.{q,k,v,o}_proj       layers.N.attention.{q,k,v,o}_proj
model.layers.N.post_attention_layernorm       layers.N.swiglu_norm
model.layers.N.mlp.{gate,up,down}_proj        layers.N.swiglu.{w_0,w_1,w_2}
model.norm                                    output_norm
lm_head                                       de_embedding_proj
```

Which layers are meant is said by how their names end, in either system.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from torch import nn

from xenoglot.errors import OptionError

__all__ = ["layer_names", "matching_layers", "matching_names", "pico_name"]

WHOLE_NAMES = {
    "model.embed_tokens": "embedding_proj",
    "model.norm": "output_norm",
    "lm_head": "de_embedding_proj",
}
BLOCKS, PICO_BLOCKS = "model.layers.", "layers."
IN_BLOCKS = {
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "swiglu_norm",
    "self_attn.q_proj": "attention.q_proj",
    "self_attn.k_proj": "attention.k_proj",
    "self_attn.v_proj": "attention.v_proj",
    "self_attn.o_proj": "attention.o_proj",
    "mlp.gate_proj": "swiglu.w_0",
    "mlp.up_proj": "swiglu.w_1",
    "mlp.down_proj": "swiglu.w_2",
}


def pico_name(layer: str) -> str:
    """Return Pico's name of a layer, without the name of the whole model that it puts before; ours if it has none.

    Example:
        >>> pico_name("model.layers.3.mlp.down_proj"), pico_name("lm_head")
        ('layers.3.swiglu.w_2', 'de_embedding_proj')
    """
    if layer.startswith(BLOCKS):
        number, _, rest = layer.removeprefix(BLOCKS).partition(".")
        return f"{PICO_BLOCKS}{number}.{IN_BLOCKS.get(rest, rest)}"
    return WHOLE_NAMES.get(layer, layer)


def layer_names(model: nn.Module) -> list[str]:
    """Return the names of all layers that have weights of their own, in the order of the model.

    Example:
        >>> from xenoglot.config import ModelConfig
        >>> from xenoglot.decoder import Decoder
        >>> layer_names(Decoder(ModelConfig(vocab_size=18, n_layers=1)))[:3]
        ['model.embed_tokens', 'model.layers.0.input_layernorm', 'model.layers.0.self_attn.q_proj']
    """
    return [name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))]


def matching_layers(model: nn.Module, suffixes: Sequence[str]) -> list[str]:
    """Return the names of a decoder's layers that end in one of some suffixes, in the order of the model.

    Args:
        model: A `Decoder`.
        suffixes: Whole words at the end of a layer's name, ours or Pico's.

    Raises:
        OptionError: If a suffix matches no layer; with the nearest one that would.

    Example:
        >>> from xenoglot.config import ModelConfig
        >>> from xenoglot.decoder import Decoder
        >>> decoder = Decoder(ModelConfig(vocab_size=18, n_layers=2))
        >>> matching_layers(decoder, ["attention.v_proj", "1.mlp.down_proj"])
        ['model.layers.0.self_attn.v_proj', 'model.layers.1.self_attn.v_proj', 'model.layers.1.mlp.down_proj']
    """
    return matching_names(layer_names(model), suffixes)


def matching_names(names: Iterable[str], suffixes: Sequence[str]) -> list[str]:
    """Return those of some layers' names that end in one of some suffixes; `matching_layers` for names alone.

    Raises:
        OptionError: If a suffix matches none of them; with the nearest one that would.

    Example:
        >>> matching_names(["model.layers.0.self_attn.v_proj", "lm_head"], ["attention.v_prj"])
        Traceback (most recent call last):
        xenoglot.errors.OptionError: layer_suffixes: got 'attention.v_prj'; allowed: how a layer's name ends, ours or
        Pico's. Did you mean 'attention.v_proj'?
    """
    layers = list(names)
    if not suffixes:
        raise OptionError("layer_suffixes", list(suffixes), "at least one")
    for suffix in suffixes:
        if not any(_ends_in(layer, suffix) for layer in layers):
            raise OptionError(
                "layer_suffixes", suffix, "how a layer's name ends, ours or Pico's", _suggestion(layers, suffix)
            )
    return [layer for layer in layers if any(_ends_in(layer, suffix) for suffix in suffixes)]


def _ends_in(layer: str, suffix: str) -> bool:
    return any(f".{name}".endswith(f".{suffix}") for name in (layer, pico_name(layer)))


def _suggestion(layers: Sequence[str], suffix: str) -> str:
    """Name the suffix that is nearest, among all of as many words, and of fewer or more only if none is near."""
    endings = {
        ".".join(words[first:]): len(words) - first
        for layer in layers
        for words in (name.split(".") for name in (pico_name(layer), layer))
        for first in range(len(words))
    }
    n_words = suffix.count(".") + 1
    alike = [ending for ending, n in endings.items() if n == n_words]
    for candidates in (alike, list(endings)):
        if nearest := difflib.get_close_matches(suffix, candidates, n=1, cutoff=0.5):
            return f"Did you mean {nearest[0]!r}?"
    return f"There are {', '.join(sorted({_in_any_block(pico_name(layer)) for layer in layers}))}."


def _in_any_block(name: str) -> str:
    """Return a layer's name as a suffix that matches it in every block."""
    return name.removeprefix(PICO_BLOCKS).partition(".")[2] if name.startswith(PICO_BLOCKS) else name
