"""Reading in pieces against reading at once, and drawn tokens against the law in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from decoders import random_decoder
from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot.config import ModelConfig
from xenoglot.errors import DataError, OptionError
from xenoglot.transformer.generation import Sampling
from xenoglot.transformer.key_values import KeyValueCache

CONFIG = ModelConfig(
    d_model=16,
    n_layers=2,
    attention_n_heads=4,
    attention_n_kv_heads=2,
    activation_hidden_dim=24,
    max_seq_len=24,
    vocab_size=11,
)


def ids(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 11, shape, generator=torch.Generator().manual_seed(seed))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- the cache --------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(pieces=st.lists(st.integers(1, 9), min_size=1, max_size=6), n_positions=st.sampled_from([None, 1, 5, 24]))
def test_reading_in_pieces_is_reading_at_once(pieces, n_positions):
    pieces = [n for i, n in enumerate(pieces) if sum(pieces[: i + 1]) <= 24]
    decoder, tokens = random_decoder(CONFIG), ids(3, sum(pieces))
    cache = KeyValueCache(max_positions=24, n_positions=n_positions)
    with torch.no_grad():
        read = [decoder(piece, cache=cache) for piece in tokens.split(pieces, dim=1)]
        torch.testing.assert_close(torch.cat(read, dim=1), decoder(tokens), atol=1e-5, rtol=0)
    assert cache.n_read == sum(pieces)


def test_what_inference_mode_began_can_be_read_on_outside():
    decoder, tokens = random_decoder(CONFIG), ids(2, 9)
    cache = KeyValueCache(max_positions=24, n_positions=4)
    with torch.inference_mode():
        decoder(tokens[:, :5], cache=cache)
    rest = decoder(tokens[:, 5:], cache=cache)  # gradients on: nothing that was remembered is written into by them
    torch.testing.assert_close(rest, decoder(tokens)[:, 5:], atol=1e-5, rtol=0)
    rest.sum().backward()


def test_a_cache_knows_its_rows_and_its_end():
    decoder = random_decoder(CONFIG)
    cache = KeyValueCache(max_positions=24)
    with torch.no_grad():
        decoder(ids(2, 20), cache=cache)
        with pytest.raises(DataError, match="5 more tokens after 20; allowed: 24"):
            decoder(ids(2, 5), cache=cache)
        with pytest.raises(DataError, match="3 rows; allowed: 2"):
            decoder(ids(3, 1), cache=cache)
        decoder(ids(2, 4), cache=cache)  # neither refusal has changed it
    assert cache.n_read == 24


def test_bidirectional_models_neither_write_nor_read_in_pieces():
    decoder = random_decoder(ModelConfig(d_model=16, n_layers=1, vocab_size=11, attention="bidirectional"))
    with pytest.raises(OptionError, match="causal"):
        decoder.generate(ids(1, 3), max_new_tokens=2)
    with pytest.raises(OptionError, match="causal"):
        decoder(ids(1, 3), cache=KeyValueCache(max_positions=24))


# --- the law ----------------------------------------------------------------------------------------------------------


def twin_law(weights: list[float], temperature: float, top_k: int | None, top_p: float | None) -> list[float]:
    """Plain Python over probabilities that are all different: no logits, no tensors, no sorting of ties."""
    sharpened = [weight ** (1 / temperature) for weight in weights]
    ranked = sorted(range(len(weights)), key=lambda v: -sharpened[v])[: top_k or len(weights)]
    if top_p is not None:
        kept, mass, total = [], 0.0, math.fsum(sharpened[v] for v in ranked)
        for v in ranked:
            kept.append(v)
            mass += sharpened[v] / total
            if mass >= top_p:
                break
        ranked = kept
    total = math.fsum(sharpened[v] for v in ranked)
    return [sharpened[v] / total if v in ranked else 0.0 for v in range(len(weights))]


@settings(max_examples=60, deadline=None)
@given(
    weights=st.lists(st.integers(1, 1000), min_size=2, max_size=9, unique=True),
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_k=st.none() | st.integers(1, 12),
    top_p=st.none() | st.sampled_from([1e-6, 0.31, 0.77, 0.993]),
)
def test_the_law_is_the_closed_form(weights, temperature, top_k, top_p):
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    law = sampling.law(torch.tensor([weights]).float().log() + 7.0)[0]
    assert law.tolist() == pytest.approx(twin_law([float(w) for w in weights], temperature, top_k, top_p), abs=1e-5)


def test_the_law_is_that_of_transformers():
    warpers = pytest.importorskip("transformers").generation.logits_process
    logits = torch.randn(50, 40, generator=rng())
    expected = warpers.TemperatureLogitsWarper(0.7)(None, logits)
    expected = warpers.TopKLogitsWarper(12)(None, expected)
    expected = warpers.TopPLogitsWarper(0.8)(None, expected).softmax(1)
    torch.testing.assert_close(Sampling(temperature=0.7, top_k=12, top_p=0.8).law(logits), expected)


def test_drawn_tokens_follow_the_law():
    decoder, prompt = random_decoder(CONFIG), ids(1, 6)
    n_rows = 4000
    options = {"temperature": 0.8, "top_k": 6, "top_p": 0.9}
    drawn = decoder.generate(prompt.expand(n_rows, 6), max_new_tokens=1, rng=rng(5), **options)[:, 6]
    weights = decoder(prompt)[0, -1].detach().double().exp().tolist()
    for token, probability in enumerate(twin_law(weights, 0.8, 6, 0.9)):
        deviation = math.sqrt(probability * (1 - probability) / n_rows)
        assert float((drawn == token).double().mean()) == pytest.approx(probability, abs=4 * deviation + 1e-12)


# --- writing on -------------------------------------------------------------------------------------------------------


def test_every_token_is_drawn_from_the_law_of_all_before_it():
    decoder = random_decoder(CONFIG)
    with_cache, without = (
        decoder.generate(ids(6, 4), max_new_tokens=21, rng=rng(2), use_cache=use_cache) for use_cache in (True, False)
    )
    assert with_cache.shape == (6, 25)  # one more than the model reads: the last is not read
    assert torch.equal(with_cache, without)
    assert torch.equal(with_cache[:, :4], ids(6, 4))


def test_the_generator_alone_decides_and_no_other_state_is_read():
    decoder, state = random_decoder(CONFIG), torch.get_rng_state()
    first, again, other = (decoder.generate(ids(2, 4), max_new_tokens=12, rng=rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(decoder.generate(ids(2, 4), max_new_tokens=12), decoder.generate(ids(2, 4), max_new_tokens=12))


def test_rows_that_have_ended_are_filled_and_the_rest_go_on():
    decoder = random_decoder(CONFIG)
    free = decoder.generate(ids(8, 4), max_new_tokens=20, rng=rng(1))
    stopped = decoder.generate(ids(8, 4), max_new_tokens=20, rng=rng(1), stop_ids=[3, 7], pad_id=10)
    ends = []
    for row, whole in zip(stopped.tolist(), free.tolist(), strict=True):
        places = [t for t in range(4, len(row)) if whole[t] in (3, 7)]
        end = places[0] + 1 if places else len(row)
        ends.append(end)
        assert row[:end] == whole[:end]
        assert row[end:] == [10] * (len(row) - end)
    assert stopped.shape[1] == max(ends)
    assert len(set(ends)) > 1


def test_greedy_is_the_limit_of_cold():
    decoder = random_decoder(CONFIG)
    greedy = decoder.generate(ids(4, 4), max_new_tokens=12, temperature=0)
    for temperature in (1e-30, 1e-46, 5e-324):  # the last two are zero in float32
        assert torch.equal(greedy, decoder.generate(ids(4, 4), max_new_tokens=12, temperature=temperature))
    assert torch.equal(greedy, decoder.generate(ids(4, 4), max_new_tokens=12, top_k=1))


def test_writing_leaves_the_model_as_it_was():
    decoder = random_decoder(CONFIG)
    before = {name: weight.clone() for name, weight in decoder.state_dict().items()}
    written = decoder.generate(ids(2, 4), max_new_tokens=3)
    assert not written.requires_grad
    assert all(torch.equal(weight, before[name]) for name, weight in decoder.state_dict().items())
    assert all(weight.grad is None for weight in decoder.parameters())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"max_new_tokens": 1.5}, "max_new_tokens"),
        ({"max_new_tokens": 3, "temperature": -1}, "temperature"),
        ({"max_new_tokens": 3, "temperature": math.nan}, "temperature"),
        ({"max_new_tokens": 3, "temperature": math.inf}, "temperature"),
        ({"max_new_tokens": 3, "top_k": 0}, "top_k"),
        ({"max_new_tokens": 3, "top_k": 2.5}, "top_k"),
        ({"max_new_tokens": 3, "top_p": 0.0}, "top_p"),
        ({"max_new_tokens": 3, "top_p": 1.1}, "top_p"),
    ],
)
def test_bad_options_are_refused(options, named):
    with pytest.raises(OptionError, match=named):
        random_decoder(CONFIG).generate(ids(1, 4), **options)


def test_bad_prompts_are_refused():
    with pytest.raises(DataError, match="ids from 0 to 11; allowed: 0 to 10"):
        random_decoder(CONFIG).generate(torch.tensor([[0, 11]]), max_new_tokens=2)
    with pytest.raises(DataError, match="shape"):
        random_decoder(CONFIG).generate(ids(4), max_new_tokens=2)
    with pytest.raises(DataError, match="22 after 4 tokens; allowed: 21"):
        random_decoder(CONFIG).generate(ids(1, 4), max_new_tokens=22)
