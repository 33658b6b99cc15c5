r"""OV circuits: what a head writes into the residual stream for whatever it attends to.

A head h of an attention layer multiplies what it reads by the values' matrix and what it gathered by its columns of the
output matrix. Whom it attends to only weighs the sum, so the two always act as one matrix [D, D] of rank C at most:

.. math::
    W_{OV}^h = W_O^h\, W_V^{k(h)}, \qquad k(h) = \lfloor h K / H \rfloor

for H query heads of C numbers, of which H/K neighbours share one of K heads of values. It is given as its two factors,
a `Product`, for which `xenoglot.measures` takes spectra in C^3 instead of D^3.

Where pico-analyze differs: its circuit of weights is the product in the other order, :math:`W_V^{k(h)} W_O^h`, of
[C, C], which has the same eigenvalues but for zeros, yet other singular values: a head's rank and norms are another
matter there. Its circuit of activations is `ov_activations`.

Source: Elhage et al. 2021, A Mathematical Framework for Transformer Circuits (transformer-circuits.pub/2021/framework).

Shapes: N rows, D = d_model, H query heads, K heads of values, C = D / H numbers per head.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from xenoglot.decoder import Decoder
from xenoglot.errors import DataError, OptionError
from xenoglot.measures import Product
from xenoglot.transformer.blocks import Block

__all__ = ["ov_activations", "ov_circuits", "ov_products"]


def ov_circuits(model: Decoder, layer: int) -> list[Product]:
    """Return each head's circuit [D, D] as two factors [D, C] and [C, D]: views of the model's weights.

    Args:
        model: Whose.
        layer: Which, from 0; -1 is the last.

    Raises:
        OptionError: If the model has no such layer.

    Example:
        >>> from xenoglot import measures
        >>> from xenoglot.config import ModelConfig
        >>> model = Decoder(ModelConfig(d_model=32, n_layers=2, attention_n_heads=4, attention_n_kv_heads=2,
        ...                             activation_hidden_dim=64, max_seq_len=16, vocab_size=18))
        >>> circuits = ov_circuits(model, layer=0)
        >>> [(list(circuit.left_DK.shape), list(circuit.right_KE.shape)) for circuit in circuits[:1]], len(circuits)
        ([([32, 8], [8, 32])], 4)
        >>> measures.get("per")(circuits[0]) < 8 / 32    # of rank 8
        True
    """
    layers = model.model.layers
    if not -len(layers) <= layer < len(layers):
        raise OptionError("layer", layer, f"a whole number from 0 to {len(layers) - 1}")
    attention = cast(Block, layers[layer]).self_attn
    config = model.config
    return ov_products(
        attention.v_proj.weight.detach(),
        attention.o_proj.weight.detach(),
        n_heads=config.attention_n_heads,
        n_kv_heads=config.attention_n_kv_heads,
    )


def ov_products(value_weight_KD: Tensor, output_weight_DH: Tensor, *, n_heads: int, n_kv_heads: int) -> list[Product]:
    """Return each head's circuit from the two weights, as learning dynamics keep them.

    Args:
        value_weight_KD: Of ``v_proj``, [K C, D].
        output_weight_DH: Of ``o_proj``, [D, H C].
        n_heads: H.
        n_kv_heads: K.

    Raises:
        DataError: If the weights are not of that many heads.
    """
    head_size = _head_size(value_weight_KD.shape[0], output_weight_DH.shape[1], n_heads, n_kv_heads)
    values = torch.split(value_weight_KD, head_size)
    outputs = torch.split(output_weight_DH, head_size, dim=1)
    return [Product(output, values[head * n_kv_heads // n_heads]) for head, output in enumerate(outputs)]


def ov_activations(values_NK: Tensor, output_weight_DH: Tensor, *, n_heads: int, n_kv_heads: int) -> list[Product]:
    """Return what each head would write if it attended to one position alone: [N, D] as two factors [N, C] and [C, D].

    Args:
        values_NK: What ``v_proj`` gave out at N positions, [N, K C].
        output_weight_DH: Of ``o_proj``, [D, H C].
        n_heads: H.
        n_kv_heads: K.

    Raises:
        DataError: If they are not of that many heads.
    """
    head_size = _head_size(values_NK.shape[1], output_weight_DH.shape[1], n_heads, n_kv_heads)
    values = torch.split(values_NK, head_size, dim=1)
    outputs = torch.split(output_weight_DH, head_size, dim=1)
    return [Product(values[head * n_kv_heads // n_heads], output.T) for head, output in enumerate(outputs)]


def _head_size(value_width: int, output_width: int, n_heads: int, n_kv_heads: int) -> int:
    head_size = output_width // max(1, n_heads)
    is_shared_evenly = n_kv_heads >= 1 and n_heads >= 1 and n_heads % n_kv_heads == 0
    if not is_shared_evenly or (output_width, value_width) != (n_heads * head_size, n_kv_heads * head_size):
        raise DataError(
            f"OV circuits: got {value_width} numbers of values and {output_width} of outputs for {n_heads} heads that "
            f"share {n_kv_heads} heads of values; allowed: n_kv_heads * C and n_heads * C, for heads of C numbers."
        )
    return head_size
