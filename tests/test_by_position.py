"""How fast a language was learned: against loops that follow the definitions word by word."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot.evaluations.by_position import in_context_scores, learning_row, rows_by_position, tokens_to_epsilon
from xenoglot.rng import generator


def tokens_needed(curve: list[float], epsilon: float) -> float:
    """The least t such that after t tokens or any more the next w predictions stay within epsilon on average."""
    width = max(1, len(curve) // 16)
    starts = range(len(curve) - width + 1)
    is_near = [statistics.fmean(curve[start : start + width]) <= epsilon for start in starts]
    return next((start + 1.0 for start in starts if all(is_near[start:])), math.nan)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.05, 0.2, 1.0]), min_size=1, max_size=70), st.floats(0.01, 0.5))
def test_tokens_to_epsilon_are_those_of_the_definition(curve, epsilon):
    epsilon += 1e-4 * math.pi  # on no sum's edge, where rounding decides
    got = tokens_to_epsilon(np.array([curve, curve]), epsilon)
    assert got == pytest.approx([tokens_needed(curve, epsilon)] * 2, nan_ok=True)


@pytest.mark.parametrize("length", [1, 7, 19, 40, 500])
def test_the_in_context_score_is_late_minus_early(length):
    losses = generator(1, "losses").uniform(size=(3, length))
    width = max(1, length // 20)
    ends = (length, max(1, length // 10))
    late, early = ([statistics.fmean(row[end - width : end]) for row in losses.tolist()] for end in ends)
    assert in_context_scores(losses) == pytest.approx([a - b for a, b in zip(late, early, strict=True)])


def test_at_olsson_s_length_it_compares_the_fiftieth_with_the_five_hundredth():
    losses = np.zeros((1, 500))
    losses[0, 499], losses[0, 49] = 25.0, 50.0
    assert in_context_scores(losses) == pytest.approx([1.0 - 2.0])


def test_a_learner_s_interval_holds_the_tokens_it_needs():
    """Languages learned after 32 tokens on average, each at a time of its own."""
    rng = generator(2, "learners")
    learned_at = rng.integers(20, 45, size=200)
    excess = np.where(np.arange(160) < learned_at[:, None], 2.0, 0.02)
    row = learning_row(excess + 0.5, excess, 0.1, rng, {"predictor": "it"})
    assert row.slices == {"predictor": "it", "summary": "learning in context"}
    needed = row.metrics["tokens_to_epsilon"]
    assert needed == tokens_needed(excess.mean(axis=0).tolist(), 0.1)
    assert 20 < row.metrics["tokens_to_epsilon_low"] <= needed <= row.metrics["tokens_to_epsilon_high"] < 46
    assert row.metrics["epsilon_nats"] == 0.1
    assert row.metrics["in_context_score_nats"] == pytest.approx(-1.98)


def test_one_who_never_learns_needs_no_number_of_tokens():
    row = learning_row(np.ones((5, 64)), np.ones((5, 64)), 0.1, generator(0, "x"))
    assert math.isnan(row.metrics["tokens_to_epsilon"])
    assert row.to_mapping()["metrics"]["tokens_to_epsilon"] is None  # JSON has no word for nan
    assert row.metrics["in_context_score_nats"] == 0


def test_rows_that_ended_early_count_where_they_were():
    losses = np.array([[1.0, 2.0, 3.0, 4.0], [3.0, 4.0, np.nan, np.nan]])
    rows = rows_by_position({"loss_nats": losses}, {"uniform_nats": 5.0})
    assert [row.metrics["loss_nats"] for row in rows[:4]] == [2.0, 3.0, 3.0, 4.0]
    assert math.isnan(rows[2].metrics["loss_nats_low"])  # one row tells nothing about the others
    assert rows[-1].metrics["loss_nats"] == pytest.approx(17 / 6)
    assert math.isnan(learning_row(losses[1:], None, math.nan, generator(0, "x")).metrics["in_context_score_nats"])
