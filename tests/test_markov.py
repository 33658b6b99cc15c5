"""Markov languages against their own table, read and counted."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from xenoglot.errors import OptionError
from xenoglot.languages import Markov


@pytest.mark.parametrize("order", [0, 1, 2])
def test_the_floor_is_the_row_of_the_context(order: int) -> None:
    family = Markov(vocab_size=4, order=order, alpha=0.7)
    language = family.draw(6)
    batch = language.batch(3, 60, seed=2, floor=True)
    for i in range(3):
        row = batch.inputs[i].tolist()
        for t in range(60):
            if t + 1 < order:
                expected = 0.25
            else:
                context = tuple(row[t + 1 - order : t + 1])
                expected = language.row(context)[batch.targets[i, t] - 1]
            assert batch.floor_nats[i, t] == pytest.approx(-np.log(expected), rel=1e-6)


def test_the_order_is_the_order() -> None:
    language = Markov(vocab_size=5, order=2).draw(0)
    np.testing.assert_array_equal(language.predict([1, 2, 3])[-1], language.predict([4, 2, 3])[-1])
    assert not np.allclose(language.predict([1, 2, 3])[-1], language.predict([1, 5, 3])[-1])


@pytest.mark.parametrize("alpha", [0.05, 1.0, 20.0])
def test_rows_are_dirichlet(alpha: float) -> None:
    family = Markov(vocab_size=6, order=1, alpha=alpha)
    first_weights = [family.draw(seed).row((1 + seed % 6,))[2] for seed in range(3000)]
    assert scipy.stats.kstest(first_weights, scipy.stats.beta(alpha, 5 * alpha).cdf).pvalue > 1e-4


def test_first_tokens_are_uniform_even_where_the_table_is_sharp() -> None:
    batch = Markov(vocab_size=4, order=3, alpha=0.02).batch(4000, 3, seed=1)
    for t in range(3):
        assert scipy.stats.chisquare(np.bincount(batch.inputs[:, t], minlength=5)[1:]).pvalue > 1e-4


def test_tables_that_no_whole_number_can_count_are_refused() -> None:
    with pytest.raises(OptionError, match="order: got 12; allowed: at most 10 with vocab_size 64"):
        Markov(vocab_size=64, order=12)
