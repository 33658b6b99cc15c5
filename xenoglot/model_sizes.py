r"""Named sizes of a decoder, and how many parameters a size has.

A name says the width and the depth. It says nothing of the vocabulary or the length of rows, which are the data's, so
any size learns any language; ``--model.size pico-tiny --model.max_seq_len 2048`` gives the rows as well.

The ladder `xenoglot-1m` to `xenoglot-1b` counts the parameters of the layers: with few ids, as languages have, that
is nearly all there are. Heads are 64 wide. Pico's sizes (pico-train's configuration) are told by their parameters with
its own 50,304 ids, in and out: 11, 65, 181 and 570 million.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from xenoglot.errors import UnknownNameError

if TYPE_CHECKING:  # the configuration reads this file
    from collections.abc import Mapping

    from xenoglot.config import ModelConfig

__all__ = ["PICO_VOCAB_SIZE", "SIZES", "get", "matrix_parameters_of", "names", "parameters_of"]

PICO_VOCAB_SIZE = 50304
"""The ids of Pico's tokenizer."""


def _size(d_model: int, n_layers: int, n_heads: int, n_kv_heads: int, hidden: int) -> Mapping[str, Any]:
    return MappingProxyType(
        {
            "d_model": d_model,
            "n_layers": n_layers,
            "attention_n_heads": n_heads,
            "attention_n_kv_heads": n_kv_heads,
            "activation_hidden_dim": hidden,
        }
    )


SIZES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "xenoglot-1m": _size(128, 5, 2, 2, 384),
        "xenoglot-3m": _size(192, 7, 3, 3, 512),
        "xenoglot-10m": _size(320, 8, 5, 5, 896),
        "xenoglot-30m": _size(512, 10, 8, 8, 1280),
        "xenoglot-100m": _size(768, 14, 12, 12, 2048),
        "xenoglot-300m": _size(1024, 24, 16, 8, 3072),
        "xenoglot-1b": _size(2048, 22, 32, 8, 5632),
        "pico-tiny": _size(96, 12, 12, 4, 384),
        "pico-small": _size(384, 12, 12, 4, 1536),
        "pico-medium": _size(768, 12, 12, 4, 3072),
        "pico-large": _size(1536, 12, 12, 4, 6144),
    }
)
"""Options of `ModelConfig` by the name of the size."""


def names() -> list[str]:
    """Return the names of all sizes, from small to large within each ladder."""
    return list(SIZES)


def get(name: str) -> Mapping[str, Any]:
    """Return the options of `ModelConfig` that a name stands for.

    Raises:
        UnknownNameError: If there is no such size; the nearest name is said.

    Example:
        >>> get("xenoglot-10m")["d_model"]
        320
    """
    if name not in SIZES:
        raise UnknownNameError("model size", name, SIZES)
    return SIZES[name]


def matrix_parameters_of(config: ModelConfig) -> int:
    r"""Count the weights that every token is multiplied with: all but the embedding and the gains of norms.

    .. math::
        N = L \left( 2 D^2 + 2 D K C + 3 D F \right) + D V

    with L layers, width D, K key-value heads of size C, inner width F and V ids.

    Args:
        config: The sizes; 0 ids if there is no ``vocab_size``.
    """
    head_size = config.d_model // config.attention_n_heads
    attention = 2 * config.d_model**2 + 2 * config.d_model * config.attention_n_kv_heads * head_size
    gated_network = 3 * config.d_model * config.activation_hidden_dim
    return config.n_layers * (attention + gated_network) + config.d_model * (config.vocab_size or 0)


def parameters_of(config: ModelConfig) -> int:
    r"""Count the parameters of a decoder, shared ones once, without making it.

    .. math::
        N + (2 L + 1) D + D V \text{ unless the embedding is the output matrix}

    with N as in `matrix_parameters_of`.

    Args:
        config: The sizes; without ``vocab_size``, what is counted is the layers and norms.

    Example:
        >>> from xenoglot.config import ModelConfig
        >>> parameters_of(ModelConfig(vocab_size=PICO_VOCAB_SIZE, **get("pico-tiny")))
        11282784
    """
    gains = (2 * config.n_layers + 1) * config.d_model
    embedding = 0 if config.tie_word_embeddings else config.d_model * (config.vocab_size or 0)
    return matrix_parameters_of(config) + gains + embedding
