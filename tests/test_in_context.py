"""Evaluations against models whose losses are known: the oracle, the uniform guess, and a table of byte pairs."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch
from torch import nn

from xenoglot import evaluations
from xenoglot.evaluations.in_context import FreshLanguages, HeldOutText
from xenoglot.languages.metalm_v1 import MetaLMv1
from xenoglot.rng import MAX_SEED, generator
from xenoglot.text import ByteText

FAMILY = MetaLMv1(vocab_size=6, n_elements=2, element_length=4, error_rate=0.1, separator=True)
EVALUATION = FreshLanguages(family=FAMILY, length=24, n_languages=70)


class Uniform(nn.Module):
    """Gives every target the same probability."""

    def forward(self, input_ids):
        return torch.zeros(*input_ids.shape, FAMILY.n_tokens)


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


def test_evaluations_are_found_by_name():
    assert evaluations.get("fresh-languages") is FreshLanguages
    assert evaluations.get("held-out-text") is HeldOutText
