"""Pico's folders: the logits of a twin that turns interleaved pairs as complex numbers, and back out as a Llama."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xenoglot.applying.adapting import open_model
from xenoglot.applying.exporting import export
from xenoglot.decoder import Decoder
from xenoglot.errors import DataError

transformers = pytest.importorskip("transformers")

PICO = {
    "model_type": "pico_decoder",
    "architectures": ["PicoDecoderHF"],
    "auto_map": {"AutoModelForCausalLM": "pico_decoder.PicoDecoderHF"},
    "d_model": 48,
    "n_layers": 2,
    "vocab_size": 61,
    "batch_size": 1024,
    "max_seq_len": 40,
    "attention_n_heads": 6,
    "attention_n_kv_heads": 2,
    "activation_hidden_dim": 80,
    "norm_eps": 1e-6,
    "position_emb_theta": 10000.0,
    "torch_dtype": "float32",
}


def pico_weights(config: dict[str, Any], seed: int = 0) -> dict[str, Tensor]:
    """Random weights under Pico's names: every matrix another one, gains that are not 1."""
    width, hidden, n_ids = config["d_model"], config["activation_hidden_dim"], config["vocab_size"]
    shared = width // config["attention_n_heads"] * config["attention_n_kv_heads"]
    shapes = {"embedding_proj": (n_ids, width), "output_norm": (width,), "de_embedding_proj": (n_ids, width)}
    for layer in range(config["n_layers"]):
        shapes |= {
            f"layers.{layer}.attention.q_proj": (width, width),
            f"layers.{layer}.attention.k_proj": (shared, width),
            f"layers.{layer}.attention.v_proj": (shared, width),
            f"layers.{layer}.attention.o_proj": (width, width),
            f"layers.{layer}.swiglu.w_0": (hidden, width),
            f"layers.{layer}.swiglu.w_1": (hidden, width),
            f"layers.{layer}.swiglu.w_2": (width, hidden),
            f"layers.{layer}.attention_norm": (width,),
            f"layers.{layer}.swiglu_norm": (width,),
        }
    rng = torch.Generator().manual_seed(seed)
    return {
        f"pico_decoder.{name}.weight": torch.randn(shape, generator=rng) * (1.5 * shape[-1] ** -0.5)
        if len(shape) == 2
        else 1 + 0.2 * torch.randn(shape, generator=rng)
        for name, shape in shapes.items()
    }


def twin_logits(config: dict[str, Any], weights: dict[str, Tensor], ids_T: Tensor) -> Tensor:
    """What Pico computes, one row and one head at a time in float64: logits [T, V]."""
    exact = {name.removeprefix("pico_decoder."): weight.double() for name, weight in weights.items()}
    n_heads, n_kv_heads = config["attention_n_heads"], config["attention_n_kv_heads"]
    size = config["d_model"] // n_heads
    angles = torch.arange(len(ids_T)).double()[:, None] * (
        config["position_emb_theta"] ** (-torch.arange(0, size, 2).double() / size)
    )

    def normed(x_TD: Tensor, name: str) -> Tensor:
        return x_TD / (x_TD.square().mean(1, keepdim=True) + config["norm_eps"]).sqrt() * exact[f"{name}.weight"]

    def turned(x_TC: Tensor) -> Tensor:
        """Numbers 2i and 2i + 1 are one complex number, turned by the position's angle."""
        as_complex = torch.complex(x_TC[:, 0::2], x_TC[:, 1::2]) * torch.exp(1j * angles)
        return torch.stack([as_complex.real, as_complex.imag], dim=2).reshape(len(x_TC), size)

    x_TD = exact["embedding_proj.weight"][ids_T]
    future = torch.ones(len(ids_T), len(ids_T)).triu(1).bool()
    for layer in range(config["n_layers"]):
        at = f"layers.{layer}"
        h_TD = normed(x_TD, f"{at}.attention_norm")
        q, k, v = (h_TD @ exact[f"{at}.attention.{name}_proj.weight"].T for name in "qkv")
        gathered = []
        for head in range(n_heads):
            mine, shared = (
                slice(number * size, (number + 1) * size) for number in (head, head * n_kv_heads // n_heads)
            )
            scores = turned(q[:, mine]) @ turned(k[:, shared]).T / size**0.5
            gathered.append(scores.masked_fill(future, -torch.inf).softmax(1) @ v[:, shared])
        x_TD = x_TD + torch.cat(gathered, 1) @ exact[f"{at}.attention.o_proj.weight"].T
        h_TD = normed(x_TD, f"{at}.swiglu_norm")
        gate = h_TD @ exact[f"{at}.swiglu.w_0.weight"].T
        inner = gate * torch.sigmoid(gate) * (h_TD @ exact[f"{at}.swiglu.w_1.weight"].T)
        x_TD = x_TD + inner @ exact[f"{at}.swiglu.w_2.weight"].T
    return normed(x_TD, "output_norm") @ exact["de_embedding_proj.weight"].T


def pico_folder(folder: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def ids_of(config: dict[str, Any]) -> Tensor:
    n_ids, length = config["vocab_size"], config["max_seq_len"]
    return torch.randint(0, n_ids, (length,), generator=torch.Generator().manual_seed(1))


@settings(max_examples=8, deadline=None)
@given(
    heads=st.sampled_from([(6, 2, 8), (4, 4, 4), (3, 1, 32), (12, 4, 2)]),
    theta=st.sampled_from([100.0, 10_000.0, 500_000.0]),
    seed=st.integers(0, 99),
)
def test_logits_are_those_of_a_twin_with_complex_pairs(tmp_path_factory, heads, theta, seed):
    n_heads, n_kv_heads, size = heads
    sizes = {"d_model": n_heads * size, "attention_n_heads": n_heads, "attention_n_kv_heads": n_kv_heads}
    config = {**PICO, **sizes, "position_emb_theta": theta}
    weights = pico_weights(config, seed)
    decoder = Decoder.from_pretrained(pico_folder(tmp_path_factory.mktemp("pico"), config, weights))
    with torch.no_grad():
        ours = decoder(ids_of(config)[None])[0]
    torch.testing.assert_close(ours.double(), twin_logits(config, weights, ids_of(config)), atol=1e-4, rtol=0)


def test_without_the_permutation_logits_would_differ():
    """The tolerance above tells the two layouts apart: a twin that is given half-split rows is far off."""
    weights, ids = pico_weights(PICO), ids_of(PICO)
    name = "pico_decoder.layers.0.attention.q_proj.weight"
    mixed = {**weights, name: weights[name].view(6, 2, 4, 48).transpose(1, 2).reshape(48, 48)}
    assert (twin_logits(PICO, mixed, ids) - twin_logits(PICO, weights, ids)).abs().max() > 0.01


def test_it_survives_the_way_through_a_native_llama(tmp_path):
    weights, ids = pico_weights(PICO), ids_of(PICO)
    place = pico_folder(tmp_path / "pico", PICO, weights)
    exported = export(place, tmp_path / "llama")
    llama = transformers.AutoModelForCausalLM.from_pretrained(exported.folder)
    again = Decoder.from_pretrained(exported.folder)
    with torch.no_grad():
        ours, theirs = again(ids[None])[0], llama(ids[None]).logits[0]
        assert torch.equal(ours, Decoder.from_pretrained(place)(ids[None])[0])
    assert type(llama).__name__ == "LlamaForCausalLM"
    expected = twin_logits(PICO, weights, ids)
    torch.testing.assert_close(ours.double(), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(theirs.double(), expected, atol=1e-4, rtol=0)


def test_it_is_opened_as_any_model_is(tmp_path):
    opened = open_model(pico_folder(tmp_path / "pico-tiny", PICO, pico_weights(PICO)))
    assert (opened.name, opened.config, opened.tokenizer) == ("pico-tiny", None, None)
    assert opened.decoder.config.attention_n_kv_heads == 2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"norm_eps": None}, "norm_eps"),
        ({"d_model": 50}, "d_model"),
        ({"d_model": "48"}, "d_model"),
        ({"n_layers": 3}, r"missing: pico_decoder\.layers\.2\.attention\.k_proj\.weight"),
        ({"n_layers": 1}, r"unknown: pico_decoder\.layers\.1\.attention\.k_proj\.weight"),
        ({"vocab_size": 60}, r"de_embedding_proj\.weight \[61, 48\] instead of \[60, 48\]"),
    ],
)
def test_a_description_that_its_weights_contradict_is_refused(tmp_path, change, named):
    place = pico_folder(tmp_path / "pico", {**PICO, **change}, pico_weights(PICO))
    with pytest.raises(DataError, match=named) as caught:
        Decoder.from_pretrained(place)
    assert str(place) in str(caught.value)
