"""Attention and its scores: against transformers, plain twins, closed forms, and heads that are built by hand."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xenoglot.config import ModelConfig
from xenoglot.decoder import Decoder
from xenoglot.errors import DataError, OptionError
from xenoglot.mechanisms.attention import attention_patterns
from xenoglot.mechanisms.induction import (
    copy_scores,
    matched_sources,
    previous_sources,
    repeated_sources,
    repeated_tokens,
    source_scores,
    uniform_score,
)
from xenoglot.rng import generator

GROUPED = ModelConfig(
    d_model=32,
    n_layers=2,
    attention_n_heads=4,
    attention_n_kv_heads=2,
    activation_hidden_dim=48,
    max_seq_len=24,
    vocab_size=18,
)
IDS = torch.from_numpy(generator(0, "ids").integers(0, 18, (3, 24)))
V, WIDTH = 16, 96


def with_busy_output(model: Decoder) -> Decoder:
    with torch.no_grad():
        model.lm_head.weight.normal_(generator=torch.Generator().manual_seed(5))
        for name, weight in model.named_parameters():
            if name.endswith("norm.weight"):
                weight.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(len(name)))
    return model


class TestAttentionPatterns:
    @pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
    def test_they_are_those_of_transformers(self, tmp_path: Path, n_kv_heads: int) -> None:
        from transformers import AutoModelForCausalLM

        model = with_busy_output(Decoder(dataclasses.replace(GROUPED, attention_n_kv_heads=n_kv_heads)))
        model.save_pretrained(tmp_path)
        other = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
        theirs = other(IDS, output_attentions=True).attentions
        ours = attention_patterns(model, IDS)
        assert len(ours) == len(theirs) == 2
        for mine, their in zip(ours, theirs, strict=True):
            assert (mine - their).abs().max() < 1e-5

    def test_what_is_gathered_with_them_is_what_the_layer_gathers(self) -> None:
        """The patterns times the values are what the fast kernel returns."""
        model = Decoder(GROUPED)
        attention, gathered = model.model.layers[1].self_attn, []
        hook = attention.o_proj.register_forward_pre_hook(lambda _, read: gathered.append(read[0]))
        values = []
        other = attention.v_proj.register_forward_hook(lambda _, read, written: values.append(written))
        model(IDS)
        hook.remove(), other.remove()
        values_BTKC = values[0].unflatten(2, (2, 8))
        pattern_BHTT = attention_patterns(model, IDS)[1]
        for head in range(4):
            expected = pattern_BHTT[:, head] @ values_BTKC[:, :, head // 2]
            assert torch.allclose(expected, gathered[0][..., head * 8 : head * 8 + 8], atol=1e-5)

    def test_nothing_of_the_model_changes(self) -> None:
        model = Decoder(GROUPED).train()
        heard: list[str] = []
        model.model.layers[0].self_attn.q_proj.register_forward_hook(lambda *_: heard.append("q"))
        before = {name: weight.clone() for name, weight in model.state_dict().items()}
        state = torch.get_rng_state()
        attention_patterns(model, IDS)
        assert heard == ["q"]
        assert model.training
        assert all(parameter.grad is None for parameter in model.parameters())
        assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
        assert torch.equal(state, torch.get_rng_state())
        assert not any(module._forward_pre_hooks for module in model.modules())

    def test_hooks_go_even_after_an_error(self) -> None:
        model = Decoder(GROUPED)
        with pytest.raises(DataError, match="max_seq_len"):
            attention_patterns(model, torch.zeros(1, 25, dtype=torch.long))
        assert not any(module._forward_pre_hooks for module in model.modules())

    def test_bidirectional_models_look_both_ways(self) -> None:
        [first, _] = attention_patterns(Decoder(dataclasses.replace(GROUPED, attention="bidirectional")), IDS)
        assert (first[..., 0, 1:] > 0).all()
        [first, _] = attention_patterns(Decoder(GROUPED), IDS)
        assert torch.equal(first, first.tril())


def as_lists(sources_BTT: np.ndarray) -> list[list[list[int]]]:
    return [[np.flatnonzero(from_t).tolist() for from_t in row] for row in sources_BTT]


def twin_of_matched_sources(ids: list[int], n_matched: int) -> list[list[int]]:
    """From the definition, with slices of every earlier place."""
    sources = []
    for t in range(len(ids)):
        newest = ids[t - n_matched + 1 : t + 1] if t >= n_matched - 1 else None
        sources.append([s + 1 for s in range(n_matched - 1, t) if ids[s - n_matched + 1 : s + 1] == newest])
    return sources


class TestSources:
    @given(st.lists(st.integers(0, 3), min_size=1, max_size=24), st.integers(1, 4))
    @settings(max_examples=60, deadline=None)
    def test_they_are_after_earlier_occurrences(self, ids: list[int], n_matched: int) -> None:
        assert as_lists(matched_sources(np.array([ids]), n_matched=n_matched)) == [
            twin_of_matched_sources(ids, n_matched)
        ]

    @pytest.mark.parametrize("n_readings", [1, 2, 4])
    def test_distinct_tokens_read_again_agree_with_both_definitions(self, n_readings: int) -> None:
        ids = np.tile(np.arange(7)[None], (2, n_readings))
        assert np.array_equal(matched_sources(ids), repeated_sources(2, 7, n_readings=n_readings))

    def test_repeated_tokens_repeat_and_stay_within_their_ids(self) -> None:
        ids = repeated_tokens(50, 20, 1, 4, generator(3, "test"), n_readings=3)
        assert ids.shape == (50, 60)
        assert np.array_equal(ids[:, :20], ids[:, 20:40])
        assert np.array_equal(ids[:, :20], ids[:, 40:])
        assert set(np.unique(ids)) == {1, 2, 3, 4}

    def test_what_cannot_be_matched_is_refused(self) -> None:
        with pytest.raises(DataError, match=r"whole numbers \[B, T\]"):
            matched_sources(np.array([1, 2, 3]))
        with pytest.raises(OptionError, match="n_matched"):
            matched_sources(np.array([[1, 2]]), n_matched=0)


class TestScores:
    def test_a_pattern_that_is_all_on_its_sources_scores_one(self) -> None:
        sources = repeated_sources(2, 5)
        patterns = torch.zeros(2, 1, 10, 10)
        patterns[:, :, torch.arange(5), 0] = 1.0
        patterns[:, :, torch.arange(5, 10), torch.arange(1, 6)] = 1.0
        assert source_scores(patterns, sources) == pytest.approx([1.0])
        assert source_scores(patterns, previous_sources(2, 10))[0] < 0.2

    def test_uniform_attention_scores_what_it_should(self) -> None:
        sources = matched_sources(generator(1, "t").integers(0, 4, (3, 20)))
        uniform = (torch.ones(20, 20).tril() / torch.arange(1.0, 21.0)[:, None]).expand(3, 2, 20, 20)
        assert source_scores(uniform, sources) == pytest.approx([uniform_score(sources)] * 2)

    def test_without_sources_there_is_no_score(self) -> None:
        nowhere = np.zeros((1, 4, 4), dtype=bool)
        assert np.isnan(source_scores(torch.ones(1, 3, 4, 4) / 4, nowhere)).all()
        assert math.isnan(uniform_score(nowhere))

    def test_shapes_must_belong_together(self) -> None:
        with pytest.raises(DataError, match="sources_BTT"):
            source_scores(torch.ones(1, 3, 4, 4), previous_sources(1, 5))


def an_induction_decoder(sign: float = 1.0) -> Decoder:
    """Two layers of two heads, the first ones built by hand: a previous-token head, then an induction head.

    Place 0 of the stream is always 1, places 1 to 16 are the token, and places 17 to 32 the token before it. The second
    head of each layer is zero: it attends to everything alike, and moves nothing. A base of 1e9 has a few fast
    frequencies to tell places by, and many slow ones that leave content in peace. Signs: what the induction head finds
    becomes likelier, or less likely.
    """
    config = ModelConfig(
        d_model=2 * WIDTH,
        n_layers=2,
        attention_n_heads=2,
        attention_n_kv_heads=2,
        activation_hidden_dim=2,
        max_seq_len=48,
        vocab_size=V,
        position_emb_theta=1e9,
    )
    model = Decoder(config)
    tokens, before = slice(1, 1 + V), slice(1 + V, 1 + 2 * V)
    half, n_fast = WIDTH // 2, 8
    frequencies = 1e9 ** (-torch.arange(half) / half)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(1.0) if weight.ndim == 1 else weight.zero_()
        model.model.embed_tokens.weight[:, 0] = 1.0
        model.model.embed_tokens.weight[:, tokens] = torch.eye(V)
        looks_back, induces = (layer.self_attn for layer in model.model.layers)
        looks_back.q_proj.weight[:n_fast, 0] = 8.0
        looks_back.k_proj.weight[:n_fast, 0] = 8.0 * frequencies[:n_fast].cos()  # turned on by one place
        looks_back.k_proj.weight[half : half + n_fast, 0] = 8.0 * frequencies[:n_fast].sin()
        looks_back.v_proj.weight[:V, tokens] = torch.eye(V)
        looks_back.o_proj.weight[before, :V] = torch.eye(V)
        slow = slice(half - V, half)
        induces.q_proj.weight[slow, tokens] = 8.0 * torch.eye(V)
        induces.k_proj.weight[slow, before] = 8.0 * torch.eye(V)
        induces.v_proj.weight[:V, tokens] = torch.eye(V)
        induces.o_proj.weight[tokens, :V] = sign * torch.eye(V)
        model.lm_head.weight[:, tokens] = torch.eye(V)
    return model


def scores_of(model: Decoder, ids: np.ndarray, sources: np.ndarray) -> np.ndarray:
    return np.stack([source_scores(layer, sources) for layer in attention_patterns(model, as_ids(ids))])


def as_ids(ids: np.ndarray) -> Tensor:
    return torch.from_numpy(ids).long()


class TestHeadsBuiltByHand:
    N_ROWS = 8

    def distinct_twice(self) -> np.ndarray:
        rng = generator(0, "orders")
        return np.stack([np.tile(rng.permutation(V), 2) for _ in range(self.N_ROWS)])

    def test_the_first_looks_back_and_the_second_induces(self) -> None:
        model, ids = an_induction_decoder(), self.distinct_twice()
        previous = scores_of(model, ids, previous_sources(*ids.shape))
        induction = scores_of(model, ids, repeated_sources(self.N_ROWS, V))
        assert previous[0, 0] > 0.95
        assert induction[1, 0] > 0.95
        assert previous[1, 0] < 0.2
        assert induction[0, 0] < 0.05

    def test_heads_of_zeros_score_as_uniform_attention_does(self) -> None:
        model, ids = an_induction_decoder(), self.distinct_twice()
        for sources in (previous_sources(*ids.shape), repeated_sources(self.N_ROWS, V)):
            assert scores_of(model, ids, sources)[:, 1] == pytest.approx([uniform_score(sources)] * 2, rel=1e-5)

    def test_without_repeats_there_is_nothing_to_find(self) -> None:
        """The null: the second reading in another order. The head attends elsewhere than where it would have been."""
        model, rng = an_induction_decoder(), generator(1, "orders")
        ids = np.stack([np.concatenate([rng.permutation(V), rng.permutation(V)]) for _ in range(self.N_ROWS)])
        assert scores_of(model, ids, repeated_sources(self.N_ROWS, V))[1, 0] < 0.25
        assert scores_of(model, ids, matched_sources(ids))[1, 0] > 0.95

    def test_it_finds_all_earlier_occurrences(self) -> None:
        model = an_induction_decoder()
        ids = generator(2, "few ids").integers(0, 4, (self.N_ROWS, 40))
        assert scores_of(model, ids, matched_sources(ids))[1, 0] > 0.9

    @pytest.mark.parametrize("sign", [1.0, -1.0])
    def test_what_it_finds_becomes_likelier_or_less_likely(self, sign: float) -> None:
        model, ids = an_induction_decoder(sign), self.distinct_twice()
        copies = copy_scores(model)
        assert copies[1] == pytest.approx([sign, 0.0])
        assert copies[0] == pytest.approx([0.0, 0.0], abs=1e-9)  # what it writes, the output does not read
        logits = model(as_ids(ids)).detach().numpy()
        correct = np.take_along_axis(logits[:, V:-1], ids[:, V + 1 :, None], axis=2)[..., 0]
        others = (logits[:, V:-1].sum(axis=2) - correct) / (V - 1)
        assert np.sign(correct - others).mean() == pytest.approx(sign)


class TestCopyScores:
    def test_they_are_those_of_all_eigenvalues_of_the_whole_matrix(self) -> None:
        """A plain twin: V x V matrices, token by token, through the layer's own modules."""
        model = with_busy_output(Decoder(GROUPED)).double()
        found = copy_scores(model)
        for layer, block in enumerate(model.model.layers):
            for head in range(4):
                vectors = model.model.embed_tokens.weight * block.input_layernorm.weight
                values = block.self_attn.v_proj(vectors)[:, 8 * (head // 2) : 8 * (head // 2) + 8]
                gathered = torch.zeros(18, 32, dtype=torch.float64)
                gathered[:, 8 * head : 8 * head + 8] = values
                logits = model.lm_head(block.self_attn.o_proj(gathered) * model.model.norm.weight)
                eigenvalues = np.linalg.eigvals(logits.detach().numpy().T)
                expected = eigenvalues.sum().real / np.abs(eigenvalues).sum()
                assert found[layer, head] == pytest.approx(expected, abs=1e-6)

    def test_an_untrained_model_copies_nothing(self) -> None:
        assert (copy_scores(Decoder(GROUPED)) == 0.0).all()
