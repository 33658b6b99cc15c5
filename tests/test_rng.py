"""Streams: functions of (seed, path) alone, unrelated to each other and to any global state."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot.errors import OptionError
from xenoglot.rng import MAX_SEED, check_seed, derive, generator

SEEDS = st.integers(0, MAX_SEED)
PATHS = st.lists(st.text(max_size=5) | st.integers(0, 1000), max_size=3)


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS, path=PATHS)
def test_a_derived_seed_is_a_seed_and_a_function(seed: int, path: list[str | int]) -> None:
    derived = derive(seed, *path)
    assert check_seed(derived) == derived == derive(seed, *path)


def test_derived_seeds_differ_by_seed_name_index_and_kind() -> None:
    paths: list[tuple[str | int, ...]] = [(), ("a",), ("b",), ("a", 0), ("a", 1), ("a", "0"), ("a", "b"), ("ab",), (0,)]
    derived = [derive(seed, *path) for seed in (0, 1, MAX_SEED) for path in paths]
    assert len(set(derived)) == len(derived)


def test_derived_seeds_use_all_63_bits_evenly() -> None:
    seeds = np.array([derive(0, "bits", index) for index in range(4096)], dtype=np.uint64)
    shares = [float(((seeds >> np.uint64(bit)) & np.uint64(1)).mean()) for bit in range(63)]
    assert max(abs(share - 0.5) for share in shares) < 5 * 0.5 / 64  # 5 standard errors of 4,096 throws


def test_generators_repeat_and_are_unrelated() -> None:
    first, again, other = (generator(3, "x", index).standard_normal(2000) for index in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert abs(np.corrcoef(first, other)[0, 1]) < 5 / np.sqrt(2000)


def test_global_random_state_is_neither_read_nor_written() -> None:
    before = (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002 - the state that must not change
    first = generator(0, "a").integers(1 << 60)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert generator(0, "a").integers(1 << 60) == first
    random.setstate(before[0])
    assert random.getstate() == before[0]


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 1.0, "1", True, None])
def test_what_is_no_seed_is_refused(seed: object) -> None:
    with pytest.raises(OptionError, match=r"^seed: got"):
        check_seed(seed)
