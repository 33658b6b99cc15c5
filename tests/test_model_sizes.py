"""Counts in closed form against the modules themselves, and against what their makers say."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot import model_sizes
from xenoglot.config import ModelConfig
from xenoglot.decoder import Decoder
from xenoglot.errors import UnknownNameError
from xenoglot.model_sizes import PICO_VOCAB_SIZE, matrix_parameters_of, parameters_of


@settings(max_examples=15, deadline=None)
@given(
    n_kv_heads=st.sampled_from([1, 2, 4]),
    n_layers=st.integers(1, 3),
    hidden=st.integers(1, 20),
    vocab_size=st.integers(2, 30),
    tied=st.booleans(),
)
def test_parameters_are_those_of_the_module(n_kv_heads, n_layers, hidden, vocab_size, tied):
    config = ModelConfig(
        d_model=16,
        n_layers=n_layers,
        attention_n_heads=4,
        attention_n_kv_heads=n_kv_heads,
        activation_hidden_dim=hidden,
        max_seq_len=4,
        vocab_size=vocab_size,
        tie_word_embeddings=tied,
    )
    decoder = Decoder(config)
    assert parameters_of(config) == sum(weight.numel() for weight in decoder.parameters())
    linear = [module for module in decoder.modules() if isinstance(module, torch.nn.Linear)]
    assert matrix_parameters_of(config) == sum(module.weight.numel() for module in linear)


@pytest.mark.parametrize(("name", "millions"), [("tiny", 11), ("small", 65), ("medium", 181), ("large", 570)])
def test_pico_has_the_parameters_that_pico_states(name, millions):
    config = ModelConfig(vocab_size=PICO_VOCAB_SIZE, **model_sizes.get(f"pico-{name}"))
    assert round(parameters_of(config) / 1e6) == millions


def test_the_ladder_is_what_its_names_say():
    units = {"m": 1e6, "b": 1e9}
    rungs = [name for name in model_sizes.names() if name.startswith("xenoglot-")]
    counts = [parameters_of(ModelConfig(**model_sizes.get(name))) for name in rungs]
    assert counts == sorted(counts)
    for name, count in zip(rungs, counts, strict=True):
        stated = name.removeprefix("xenoglot-")
        assert count == pytest.approx(float(stated[:-1]) * units[stated[-1]], rel=0.07), name
        size = model_sizes.get(name)
        assert size["d_model"] == 64 * size["attention_n_heads"], name


def test_sizes_say_neither_ids_nor_length():
    for name in model_sizes.names():
        assert not {"vocab_size", "max_seq_len"} & set(model_sizes.get(name)), name


def test_an_unknown_size_names_the_nearest():
    with pytest.raises(UnknownNameError, match="pico-tiny"):
        model_sizes.get("pico-tinny")
