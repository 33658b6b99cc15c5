"""Evaluations against models whose losses are known: the oracle, the uniform guess, and a table of byte pairs."""

from __future__ import annotations

import json
import math
import statistics

import numpy as np
import pytest
import torch
from torch import nn

from xenoglot import evaluations, predictors
from xenoglot.evaluations import measuring
from xenoglot.evaluations.base import Row, headline
from xenoglot.evaluations.in_context import FreshLanguages, HeldOutText
from xenoglot.languages.context_tree import ContextTreeSource
from xenoglot.languages.markov import Markov
from xenoglot.languages.metalm_v1 import MetaLMv1
from xenoglot.languages.metalm_v2 import MetaLMv2
from xenoglot.predictors.noisy_repeats import NoisyRepeats
from xenoglot.rng import MAX_SEED, generator
from xenoglot.text import ByteText

FAMILY = MetaLMv1(vocab_size=6, n_elements=2, element_length=4, error_rate=0.1, separator=True)
EVALUATION = FreshLanguages(family=FAMILY, length=24, n_languages=70)


class Uniform(nn.Module):
    """Gives every target the same probability."""

    def __init__(self, n_tokens=FAMILY.n_tokens):
        super().__init__()
        self.n_tokens = n_tokens

    def forward(self, input_ids):
        return torch.zeros(*input_ids.shape, self.n_tokens)


class Oracle(nn.Module):
    """Knows the language of each row that the evaluation will draw, and answers with its law."""

    def __init__(self, seed):
        super().__init__()
        self.laws = {}
        batch = FAMILY.batch(70, 24, seed)
        for row, language in zip(batch.inputs, batch.languages, strict=True):
            self.laws[row.tobytes()] = np.maximum(language.predict(row), -1e4)

    def forward(self, input_ids):
        rows = input_ids.numpy().astype(np.int32)
        return torch.from_numpy(np.stack([self.laws[row.tobytes()] for row in rows]))


class PairTable(nn.Module):
    """The next byte's logits depend on the last byte alone."""

    def __init__(self):
        super().__init__()
        self.table_VV = nn.Parameter(torch.randn(257, 257, generator=torch.Generator().manual_seed(0)))

    def forward(self, input_ids):
        return self.table_VV[input_ids]


def by_part(rows):
    return {row.slices["part"]: row.metrics for row in rows if "part" in row.slices}


def by_position(rows, name):
    return np.array([row.metrics[name] for row in rows if "tokens_read" in row.slices])


def test_the_oracle_has_no_excess():
    seed = int(generator(5, "evaluation").integers(MAX_SEED, endpoint=True))
    rows = EVALUATION(Oracle(seed), generator(5, "evaluation"))
    assert np.abs(by_position(rows, "excess_nats")).max() < 1e-5
    assert by_part(rows)["whole"]["loss_nats"] == pytest.approx(by_part(rows)["whole"]["floor_nats"], abs=1e-6)


def test_guessing_costs_the_logarithm_of_the_number_of_ids():
    rows = EVALUATION(Uniform(), generator(5, "evaluation"))
    assert by_position(rows, "loss_nats") == pytest.approx(np.full(24, math.log(8)), abs=1e-6)
    assert by_part(rows)["whole"]["uniform_nats"] == pytest.approx(math.log(7))  # MASK is never a target
    assert [row.slices["tokens_read"] for row in rows[:24]] == list(range(1, 25))


def test_parts_and_intervals_are_those_of_the_definition():
    rng = generator(5, "evaluation")
    rows = EVALUATION(Uniform(), generator(5, "evaluation"))
    batch = FAMILY.batch(70, 24, int(rng.integers(MAX_SEED, endpoint=True)), floor=True)
    last = [float(np.mean(floor[18:], dtype=np.float64)) for floor in batch.floor_nats]
    got = by_part(rows)["last quarter"]
    half_width = 1.96 * statistics.stdev(last) / math.sqrt(70)
    assert got["floor_nats"] == pytest.approx(statistics.fmean(last), abs=1e-9)
    assert got["floor_nats_high"] - got["floor_nats"] == pytest.approx(half_width, abs=1e-9)
    assert got["floor_nats"] - got["floor_nats_low"] == pytest.approx(half_width, abs=1e-9)


def test_the_same_generator_draws_the_same_languages():
    first, same, other = (
        by_position(EVALUATION(Uniform(), generator(seed, "evaluation")), "floor_nats") for seed in (5, 5, 6)
    )
    assert (first == same).all()
    assert (first != other).any()


def test_held_out_text_is_measured_whole_each_byte_once():
    content = bytes(np.random.default_rng(0).integers(97, 123, 1237, dtype=np.uint8))
    model = PairTable()
    rows = HeldOutText(text=ByteText(content, length=10))(model, generator(0))
    table = model.table_VV.detach().double().numpy()
    losses = []
    for before, after in zip(content[-124:-1], content[-123:], strict=True):
        scores = np.exp(table[before + 1])
        losses.append(-math.log(scores[after + 1] / scores.sum()))
    assert by_part(rows)["whole"]["loss_nats"] == pytest.approx(statistics.fmean(losses), abs=1e-6)
    # Position 4 (the fourth of each row) of twelve whole rows, and none of the rest of three.
    assert by_position(rows, "loss_nats")[3] == pytest.approx(statistics.fmean(losses[3::10]), abs=1e-6)
    assert by_position(rows, "loss_nats")[2] == pytest.approx(statistics.fmean(losses[2::10]), abs=1e-6)


def test_a_measured_model_stays_as_it_was():
    model = PairTable().train()
    model.table_VV.grad = torch.ones(257, 257)
    HeldOutText(text=ByteText(b"abcdefgh" * 40, length=4))(model, generator(0))
    assert model.training
    assert (model.table_VV.grad == 1).all()


def test_references_are_the_predictors_that_suit_on_the_model_s_own_rows():
    rows = EVALUATION.references(generator(5, "evaluation"))
    batch = FAMILY.batch(70, 24, int(generator(5, "evaluation").integers(MAX_SEED, endpoint=True)), floor=True)
    nats = NoisyRepeats(family=FAMILY).nats(batch.inputs, batch.targets)
    assert {(row.slices["predictor"], row.slices["exactness"]) for row in rows} == {("unknown-elements", "near-exact")}
    assert by_position(rows, "loss_nats") == pytest.approx(nats.mean(axis=0, dtype=np.float64))
    assert by_position(rows, "floor_nats") == pytest.approx(batch.floor_nats.mean(axis=0, dtype=np.float64))
    assert rows[-1].slices["summary"] == "learning in context"


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (FAMILY, {"unknown-elements"}),
        (Markov(vocab_size=4, order=1), {"dirichlet-markov"}),
        (ContextTreeSource(vocab_size=3), {"context-tree-weighting"}),
        (MetaLMv1(vocab_size=6), {"context-tree-weighting", "dirichlet-markov", "unknown-order-markov"}),
        (MetaLMv2(vocab_size=6), {"context-tree-weighting", "dirichlet-markov", "unknown-order-markov"}),
    ],
)
def test_bounds_are_drawn_only_where_nothing_better_is_known(family, expected):
    suiting = predictors.references(family)
    assert {predictor.name for predictor in suiting} == expected
    assert len({predictor.exactness == "bound" for predictor in suiting}) == 1
    assert {predictor.n_tokens for predictor in suiting} == {family.n_tokens}


def test_samples_show_what_each_token_cost():
    sample = EVALUATION.samples(Uniform(), generator(7, "samples"), 3)
    batch = FAMILY.batch(3, 24, int(generator(7, "samples").integers(MAX_SEED, endpoint=True)), floor=True)
    assert sample["of"] == "metalm-v1"
    assert len(sample["rows"]) == 3
    for row, inputs, targets, floor in zip(sample["rows"], batch.inputs, batch.targets, batch.floor_nats, strict=True):
        assert ["_abcdef|".index(letter) for letter in row["read"]] == inputs[1:].tolist()
        assert ["_abcdef|".index(letter) for letter in row["targets"]] == targets[:-1].tolist()
        assert row["loss_nats"] == pytest.approx([math.log(8)] * 23, abs=1e-4)
        assert row["floor_nats"] == pytest.approx(floor[:-1].tolist(), abs=1e-4)
    assert json.loads(json.dumps(sample)) == sample


def test_many_ids_are_written_as_numbers():
    family = MetaLMv1(vocab_size=40, n_elements=2, element_length=4)
    [row] = FreshLanguages(family=family, length=16, n_languages=2).samples(Uniform(41), generator(7, "s"), 1)["rows"]
    assert {int(word) for word in row["targets"]} <= set(range(1, 41))


def test_samples_of_a_text_are_its_characters():
    text = ByteText("naïve café, ".encode() * 60, length=20)
    sample = HeldOutText(text=text).samples(PairTable(), generator(0), 2)
    for row in sample["rows"]:
        assert len(row["targets"]) == len(row["loss_nats"]) == 20
        assert "".join(row["targets"]).strip("\ufffd") in "naïve café, " * 3


class Ids:
    """Held-out rows of ids, of which some stand for text."""

    length, n_tokens = 4, 257

    def __init__(self, spelled):
        self.spelled = spelled

    def held_out_windows(self):
        yield np.array([[1, 2, 3, 250]] * 2, np.int32), np.array([[2, 3, 250, 4]] * 2, np.int32)

    def token_bytes(self, token):
        return self.spelled.get(token, b"")


def test_ids_without_text_are_written_as_numbers():
    for spelled, expected in (
        ({}, ["2", "3", "250", "4"]),
        ({2: b"the", 3: b" quick", 4: b"."}, ["the", " quick", "<250>", "."]),
    ):
        sample = HeldOutText(text=Ids(spelled)).samples(PairTable(), generator(0), 1)
        assert sample["rows"][0]["targets"] == expected
    rows = HeldOutText(text=Ids({}))(PairTable(), generator(0))
    assert Row(slices={}, metrics=by_part(rows)["whole"]).to_mapping()["metrics"]["bits_per_byte"] is None


def test_bits_per_byte_are_nats_over_the_logarithm_of_two():
    metrics = by_part(HeldOutText(text=ByteText(b"abcdefgh" * 40, length=4))(PairTable(), generator(0)))["whole"]
    assert metrics["bits_per_byte"] == pytest.approx(metrics["loss_nats"] / math.log(2))
    assert metrics["bits_per_byte_high"] == pytest.approx(metrics["loss_nats_high"] / math.log(2))


def test_large_vocabularies_are_measured_a_few_rows_at_a_time(monkeypatch):
    sizes = []

    class Recorder(Uniform):
        def forward(self, input_ids):
            sizes.append(input_ids.numel() * 8)
            return super().forward(input_ids)

    monkeypatch.setattr(measuring, "LOGITS_AT_ONCE", 1000)
    EVALUATION(Recorder(), generator(5, "evaluation"))
    assert max(sizes) <= 1000
    assert sum(sizes) == 70 * 24 * 8


def test_a_model_in_half_precision_is_measured_in_full():
    class Half(Uniform):
        def forward(self, input_ids):
            return super().forward(input_ids).bfloat16()

    rows = EVALUATION(Half(), generator(5, "evaluation"))
    assert by_part(rows)["whole"]["loss_nats"] == pytest.approx(math.log(8), abs=1e-6)


def test_evaluations_are_found_by_name():
    assert evaluations.get("fresh-languages") is FreshLanguages
    assert evaluations.get("held-out-text") is HeldOutText


def test_the_headline_has_no_positions_and_no_intervals():
    numbers = headline(EVALUATION(Uniform(), generator(5, "evaluation")))
    assert numbers["evaluation/last_quarter/loss_nats"] == pytest.approx(math.log(8))
    assert numbers["evaluation/in_context_score_nats"] == pytest.approx(0, abs=1e-6)
    assert math.isnan(numbers["evaluation/tokens_to_epsilon"])
    assert not any(name.endswith(("_low", "_high")) or "tokens_read" in name for name in numbers)
    assert len(numbers) < 16
