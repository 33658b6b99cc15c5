"""Which weights adapt, at which rates, and where sentences are read."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_tasks import VOCAB_SIZE, decoder, examples

from xenoglot.adaptation import AdaptationConfig
from xenoglot.adaptation.rates import InnerRates
from xenoglot.adaptation.reading import Reader, joined
from xenoglot.adaptation.selection import select
from xenoglot.decoder import Decoder
from xenoglot.errors import OptionError

NAMES = [*(name for name, _ in decoder().named_parameters()), "head.weight_0"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("all", set(NAMES)),
        ("head", {"lm_head.weight", "head.weight_0"}),
        ("all !head", set(NAMES) - {"lm_head.weight", "head.weight_0"}),
        ("top-2", set(NAMES) - {"model.embed_tokens.weight"}),
        ("top-1", {name for name in NAMES if "layers.0" not in name and "embed" not in name}),
        ("*.q_proj.*", {f"model.layers.{layer}.self_attn.q_proj.weight" for layer in (0, 1)}),
        ("all !all head", {"lm_head.weight", "head.weight_0"}),
        ("!head all", set(NAMES)),
    ],
)
def test_words_choose_weights_from_left_to_right(words, expected):
    assert set(select(NAMES, words)) == expected


@given(words=st.lists(st.sampled_from(["all", "head", "top-1", "top-2", "*.mlp.*", "model.norm.*"]), min_size=1))
def test_adding_words_adds_weights_and_taking_them_out_again_leaves_none(words):
    chosen = select(NAMES, " ".join(words))
    assert chosen == [name for name in NAMES if name in set(chosen)]  # in the model's own order
    assert set(chosen) == set().union(*(select(NAMES, word) for word in words))
    with pytest.raises(OptionError, match="Something must adapt"):
        select(NAMES, " ".join([*words, *(f"!{word}" for word in words)]))


def shapes() -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in decoder().named_parameters() if name.startswith("model.")}


def rates_of(learned: str, **options: object) -> InnerRates:
    return InnerRates(AdaptationConfig(learn_inner_lr=learned, **({"inner_lr": 0.2} | options)), shapes())


@pytest.mark.parametrize(
    ("learned", "n_numbers"),
    [
        ("none", 0),
        ("per-step", 3),
        ("per-layer", 2 + 2 + 1),  # two layers; the embedding and the last norm; the head
        ("per-layer-and-step", 3 * (2 + 2 + 1)),
        ("per-parameter", sum(shape.numel() for shape in shapes().values()) + 1),
    ],
)
def test_as_many_rates_are_learned_as_were_asked_for(learned, n_numbers):
    rates = rates_of(learned, inner_steps=3)
    assert sum(number.numel() for number in rates.parameters()) == n_numbers
    for at_step in rates.table(NAMES, n_steps=5):
        for name, weight in decoder().named_parameters():
            assert (at_step[name] * torch.ones(weight.shape)).shape == weight.shape
            assert (at_step[name] - 0.2).abs().max() < 1e-7


@settings(max_examples=10, deadline=None)
@given(
    learned=st.sampled_from(["per-step", "per-layer", "per-layer-and-step", "per-parameter"]), seed=st.integers(0, 99)
)
def test_rates_stay_positive_whatever_is_learned_and_the_last_step_s_is_repeated(learned, seed):
    rates, rng = rates_of(learned, inner_steps=2), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for number in rates.parameters():
            number.normal_(0.0, 10.0, generator=rng)
    table = rates.table(["model.norm.weight", "head.bias_0"], n_steps=4)
    assert all((rate > 0).all() for at_step in table for rate in at_step.values())
    for name in table[0]:
        assert torch.equal(table[1][name], table[3][name])
        assert torch.equal(table[0][name], table[1][name]) != learned.endswith("step")


def test_a_layer_s_weights_have_its_rate():
    rates = rates_of("per-layer")
    with torch.no_grad():
        rates.log_rates["layers/1"].fill_(math.log(3))
    [table] = rates.table(NAMES, n_steps=1)
    for name in NAMES[:-1]:
        if name != "lm_head.weight":
            assert table[name].item() == pytest.approx(0.6 if "layers.1" in name else 0.2)


def features(model: Decoder, readout: str, sentences) -> torch.Tensor:
    with torch.no_grad():
        return Reader(model.config, readout).features(model, sentences)


@pytest.mark.parametrize("readout", ["final", "mask", "mask-bidirectional"])
def test_a_sentence_is_read_as_if_it_were_alone(readout):
    model, sentences = decoder(), examples(4, 3, seed=1)
    together = features(model, readout, sentences)
    attention = "bidirectional" if readout == "mask-bidirectional" else "causal"
    alone = Decoder(dataclasses.replace(model.config, attention=attention)).double()
    alone.load_state_dict(model.state_dict())
    for i, length in enumerate(sentences.lengths_N.tolist()):
        with torch.no_grad():
            hidden_1TD = alone.model(sentences.token_ids_NT[i : i + 1, :length])
        position = length - 1 if readout == "final" else int(sentences.mask_positions_N[i])
        assert torch.allclose(together[i], hidden_1TD[0, position], atol=1e-12)


def test_a_bidirectional_model_s_padding_is_not_attended_to_either():
    model, sentences = decoder(attention="bidirectional"), examples(4, 3, seed=1)
    wider = dataclasses.replace(sentences, token_ids_NT=torch.nn.functional.pad(sentences.token_ids_NT, (0, 5)))
    for readout in ("final", "mask"):
        assert torch.allclose(features(model, readout, sentences), features(model, readout, wider), atol=1e-12)


def test_only_the_mask_under_the_causal_mask_is_blind_to_what_follows():
    model, sentences = decoder(), examples(4, 3, seed=1)
    changed = sentences.token_ids_NT.clone()
    rows = torch.arange(len(changed))
    changed[rows, sentences.lengths_N - 1] = VOCAB_SIZE - 1
    other = dataclasses.replace(sentences, token_ids_NT=changed)
    for readout, is_blind in (("mask", True), ("final", False), ("mask-bidirectional", False)):
        moved = (features(model, readout, sentences) - features(model, readout, other)).abs().amax(dim=1) > 1e-6
        assert not moved.any() if is_blind else moved.all()


def test_joined_sentences_are_padded_to_the_longest():
    first, second = examples(1, 2, seed=0), examples(2, 2, seed=1)
    shorter = dataclasses.replace(first, token_ids_NT=first.token_ids_NT[:, : int(first.lengths_N.max())])
    both = joined(shorter, second)
    assert len(both.labels_N) == 6
    assert torch.equal(both.token_ids_NT[:2, : shorter.token_ids_NT.shape[1]], shorter.token_ids_NT)
    assert (both.token_ids_NT[:2, shorter.token_ids_NT.shape[1] :] == 0).all()
    assert torch.equal(both.token_ids_NT[2:], second.token_ids_NT)
    assert torch.equal(both.mask_positions_N[2:], second.mask_positions_N)
