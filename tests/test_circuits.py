"""OV circuits against the attention layer itself, whose other heads are silenced."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xenoglot import measures
from xenoglot.config import ModelConfig
from xenoglot.decoder import Decoder
from xenoglot.errors import DataError, OptionError
from xenoglot.mechanisms.circuits import ov_activations, ov_circuits, ov_products

HEADS = [(4, 4), (4, 2), (4, 1), (6, 3), (6, 2)]


def a_decoder(n_heads: int, n_kv_heads: int) -> Decoder:
    config = ModelConfig(
        d_model=24,
        n_layers=2,
        attention_n_heads=n_heads,
        attention_n_kv_heads=n_kv_heads,
        activation_hidden_dim=16,
        max_seq_len=8,
        vocab_size=9,
    )
    return Decoder(config, torch.Generator().manual_seed(n_heads * 10 + n_kv_heads)).double()


def attended_to_alone(model: Decoder, layer: int, head: int, x_ND: torch.Tensor) -> torch.Tensor:
    """What one head writes for each position, if that is all there is to attend to."""
    attention, size = model.model.layers[layer].self_attn, model.config.d_model // model.config.attention_n_heads
    with torch.no_grad():
        silenced = torch.zeros_like(attention.o_proj.weight)
        own = slice(head * size, (head + 1) * size)
        silenced[:, own] = attention.o_proj.weight[:, own]
        kept, attention.o_proj.weight = attention.o_proj.weight, nn.Parameter(silenced)
        written_N1D = attention(x_ND[:, None], model.model.rotate)
        attention.o_proj.weight = kept
    return written_N1D[:, 0]


@pytest.mark.parametrize(("n_heads", "n_kv_heads"), HEADS)
def test_a_circuit_is_what_its_head_writes(n_heads, n_kv_heads):
    model = a_decoder(n_heads, n_kv_heads)
    x_ND = torch.randn(5, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for layer in (0, 1):
        circuits = ov_circuits(model, layer)
        assert len(circuits) == n_heads
        for head, (left_DK, right_KD) in enumerate(circuits):
            expected_ND = attended_to_alone(model, layer, head, x_ND)
            assert torch.allclose(x_ND @ (left_DK @ right_KD).T, expected_ND, atol=1e-12)
    assert all(torch.equal(one, other) for one, other in zip(ov_circuits(model, -1)[0], circuits[0], strict=True))


@pytest.mark.parametrize(("n_heads", "n_kv_heads"), HEADS)
def test_its_activations_are_what_its_head_writes(n_heads, n_kv_heads):
    model = a_decoder(n_heads, n_kv_heads)
    attention = model.model.layers[1].self_attn
    x_ND = torch.randn(5, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sizes = {"n_heads": n_heads, "n_kv_heads": n_kv_heads}
    written = ov_activations(attention.v_proj(x_ND).detach(), attention.o_proj.weight.detach(), **sizes)
    for head, (left_NC, right_CD) in enumerate(written):
        assert torch.allclose(left_NC @ right_CD, attended_to_alone(model, 1, head, x_ND), atol=1e-12)


@pytest.mark.parametrize("name", measures.names("matrix"))
def test_measures_of_a_circuit_are_those_of_its_matrix(name):
    for left_DK, right_KD in ov_circuits(a_decoder(4, 2), 0):
        whole = measures.get(name)((left_DK @ right_KD).numpy())
        assert measures.get(name)(measures.Product(left_DK, right_KD)) == pytest.approx(whole, rel=1e-9)


def test_circuits_are_views_of_the_weights_without_gradient():
    model = a_decoder(4, 2)
    left_DK, right_KD = ov_circuits(model, 0)[3]
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.zero_()
    assert not left_DK.any()
    assert right_KD.any()
    assert not right_KD.requires_grad


@pytest.mark.parametrize("layer", [2, -3])
def test_a_layer_that_is_not_there_is_said(layer):
    with pytest.raises(OptionError, match=rf"layer: got {layer}; allowed: a whole number from 0 to 1"):
        ov_circuits(a_decoder(4, 4), layer)


@pytest.mark.parametrize(("n_heads", "n_kv_heads"), [(4, 4), (5, 2), (4, 3), (7, 1), (0, 1)])
def test_weights_of_other_heads_are_said(n_heads, n_kv_heads):
    with pytest.raises(DataError, match=rf"for {n_heads} heads that\s+share {n_kv_heads} heads of values; allowed"):
        ov_products(torch.zeros(12, 24), torch.zeros(24, 24), n_heads=n_heads, n_kv_heads=n_kv_heads)
