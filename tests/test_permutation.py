"""The random-access order: one to one by enumeration, uniform by counting, and the same however it is asked."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from xenoglot.errors import OptionError
from xenoglot.permutation import Permutation


@pytest.mark.parametrize("size", [*range(1, 70), 1000, 1023, 1024, 1025, 4099])
def test_every_number_comes_once(size: int) -> None:
    assert sorted(Permutation(size, seed=3)(range(size)).tolist()) == list(range(size))


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(1, 2**62),
    seed=st.integers(0, 2**63 - 1),
    shares=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=50),
)
def test_numbers_of_any_size_are_within_and_distinct_and_independent_of_company(
    size: int, seed: int, shares: list[float]
) -> None:
    positions = sorted({min(int(share * size), size - 1) for share in shares})
    numbers = Permutation(size, seed)(positions)
    assert len(set(numbers.tolist())) == len(positions)
    assert numbers.min() >= 0
    assert numbers.max() < size
    alone = [int(Permutation(size, seed)(position)) for position in positions]
    assert alone == numbers.tolist()


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_every_order_of_few_things_is_equally_likely(size: int) -> None:
    n_seeds = 30 * math.factorial(size)
    counts = Counter(tuple(Permutation(size, seed)(range(size)).tolist()) for seed in range(n_seeds))
    observed = [counts[order] for order in itertools.permutations(range(size))]
    assert stats.chisquare(observed).pvalue > 1e-4


def test_where_a_number_goes_and_which_follows_it_is_uniform() -> None:
    size, n_seeds = 101, 2000
    orders = np.stack([Permutation(size, seed)(range(size)) for seed in range(n_seeds)])
    for column in (0, 1, 50, 100):
        assert stats.chisquare(np.bincount(orders[:, column], minlength=size)).pvalue > 1e-4
    steps = np.diff(orders, axis=1).ravel() % size
    assert stats.chisquare(np.bincount(steps, minlength=size)[1:]).pvalue > 1e-4


def test_neighbours_are_torn_apart_in_a_long_order() -> None:
    size = 10**12
    numbers = Permutation(size, seed=1)(range(20_000)) / size
    assert stats.kstest(numbers, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 4 / math.sqrt(len(numbers))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(OptionError, match="size: got 0"):
        Permutation(0, seed=0)
    with pytest.raises(IndexError):
        Permutation(5, seed=0)([5])
