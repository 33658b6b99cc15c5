"""What measures make of nothing, of zeros, of NaN and infinities, of too few examples; and of wrong shapes.

Warnings are errors here, as in all tests: a measure has none.
"""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from xenoglot import measures
from xenoglot.errors import DataError, UnknownNameError
from xenoglot.measures import Measure, Product, measure
from xenoglot.rng import generator

NAN, INF = math.nan, math.inf
NAMES = measures.names()
N_GIVEN = {"matrix": 1, "pair": 2, "gradients": 2, "parts": 1}


def get(name):
    return measures.get(name)


def normal(*shape, seed=0):
    return generator(seed, "test").standard_normal(shape)


def given_of(name, one):
    """What a measure is given if it is of this thing, with another where it is of two."""
    return [one] if N_GIVEN[get(name).of] == 1 else [one, normal(*np.shape(one), seed=9)]


# condition_number, frobenius_norm, gini, hoyer, infinity_norm, nuclear_norm, per
MATRICES = {
    "zeros": (np.zeros((4, 3)), (NAN, 0, NAN, NAN, 0, 0, NAN)),
    "constant": (np.full((4, 3), -0.1), (INF, math.sqrt(0.12), 0, 0, 0.3, math.sqrt(0.12), 1 / 3)),
    "rank one": (
        np.outer([1, 2, 2, 0], [3, 4, 0]),
        (INF, 15, 247 / 420, (math.sqrt(12) - 35 / 15) / (math.sqrt(12) - 1), 14, 15, 1 / 3),
    ),
    "one entry": (np.full((1, 1), 7), (1, 7, 0, NAN, 7, 7, 1)),
    "one row": (np.array([[3, 4]]), (1, 5, 1 / 14, (math.sqrt(2) - 7 / 5) / (math.sqrt(2) - 1), 7, 5, 1)),
    "one column": (np.array([[3], [4]]), (1, 5, 1 / 14, (math.sqrt(2) - 7 / 5) / (math.sqrt(2) - 1), 4, 5, 1)),
    "huge": (np.diag([1e308, -1e308]), (1, math.sqrt(2) * 1e308, 1 / 2, (2 - math.sqrt(2)), 1e308, INF, 1)),
    "tiny": (np.diag([1e-300, 1e-300]), (1, math.sqrt(2) * 1e-300, 1 / 2, (2 - math.sqrt(2)), 1e-300, 2e-300, 1)),
    "least of all": (np.full((1, 2), 5e-324), (1, 5e-324, 0, 0, 1e-323, 5e-324, 1)),
    "a NaN": (np.array([[NAN, 1], [0, 1]]), (NAN,) * 7),
    "an infinity": (np.array([[INF, 1], [0, 1]]), (NAN,) * 7),
    "minus infinity": (np.array([[-INF, 1], [0, 1]]), (NAN,) * 7),
    "no rows": (np.zeros((0, 3)), (NAN,) * 7),
    "no columns": (np.zeros((3, 0)), (NAN,) * 7),
}


@pytest.mark.parametrize("what", MATRICES)
def test_matrices(what):
    matrix_DE, expected = MATRICES[what]
    got = [get(name)(matrix_DE) for name in measures.names("matrix")]
    assert got == pytest.approx(list(expected), rel=1e-12, nan_ok=True)


LINE = np.arange(6.0)[:, None]
GROUPS = np.array([[0.0], [0], [0], [0], [0], [1]])

# cka, cka_debiased, cka_rbf, cka_rbf_debiased, pwcca
PAIRS = {
    "zeros": (np.zeros((6, 3)), normal(6, 2), (NAN,) * 5),
    "zeros second": (normal(6, 2), np.zeros((6, 3)), (NAN,) * 5),
    "constant": (np.full((6, 3), 0.1), normal(6, 2), (NAN,) * 5),
    "constant rows of numbers that round": (np.tile([1 / 3, 1e9 / 7], (6, 1)), normal(6, 2), (NAN,) * 5),
    "one example": (normal(1, 3), normal(1, 2), (NAN,) * 5),
    "two examples": (normal(2, 3), normal(2, 2), (1, NAN, 1, NAN, 1)),
    "three examples of one number": (LINE[:3], LINE[:3] * 7 - 2, (1, NAN, 1, NAN, 1)),
    "rank one": (LINE * [1, 2, 3], LINE * [5, 5], (1,) * 5),
    "nearly all the same": (GROUPS, LINE, (3 / 7, NAN, NAN, NAN, math.sqrt(3 / 7))),
    "all at one distance": (np.eye(6), np.eye(6), (1, NAN, 1, NAN, 1)),
    "no examples": (np.zeros((0, 3)), np.zeros((0, 3)), (NAN,) * 5),
    "no numbers": (np.zeros((6, 0)), normal(6, 3), (NAN,) * 5),
    "a NaN": (np.where(normal(6, 2) > 0.5, NAN, 1), normal(6, 2), (NAN,) * 5),
    "an infinity second": (normal(6, 2), np.full((6, 2), INF), (NAN,) * 5),
    "huge": (LINE * 1e307, LINE * 1e-307, (1,) * 5),
}


@pytest.mark.parametrize("what", PAIRS)
def test_pairs(what):
    first_ND, second_NE, expected = PAIRS[what]
    got = [get(name)(first_ND, second_NE) for name in measures.names("pair")]
    assert got == pytest.approx(list(expected), abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("shape", [(3, 8), (8, 8), (9, 8)])
def test_pwcca_is_one_where_there_are_too_few_examples(shape):
    assert get("pwcca")(normal(*shape), normal(*shape, seed=1)) == pytest.approx(1)


def test_a_direction_that_is_there_twice_counts_once():
    x_ND, y_NE = normal(40, 3), normal(40, 2, seed=1) + normal(40, 3)[:, :2]
    twice = np.concatenate([y_NE, y_NE, y_NE @ normal(2, 2)], axis=1)
    assert get("pwcca")(x_ND, twice) == pytest.approx(get("pwcca")(x_ND, y_NE))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (np.zeros(3), np.ones(3), NAN),
        (np.ones(3), np.zeros(3), NAN),
        ([1e200, 0], [1e-200, 0], 1),
        ([NAN, 1], [1, 1], NAN),
        ([1, 1], [1, -INF], NAN),
        ([], [], NAN),
        (3, -2, -1),
    ],
)
def test_cosines(first, second, expected):
    assert get("gradient_cosine")(first, second) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (np.zeros((4, 3)), NAN),
        (np.ones((4, 3)), 0),
        (np.full((3, 2), 0.1), 0),
        ([[1, 2]], NAN),  # one part
        ([[1, 0], [-1, 0]], NAN),  # the gradient is lost in noise
        ([2, 4], 2 / 8),
        ([[[1e200], [1e200]], [[3e200], [1e200]]], 1 / 2),
        ([[NAN], [1]], NAN),
        ([[INF], [1]], NAN),
        (np.zeros((0, 3)), NAN),
        (np.zeros((3, 0)), NAN),
    ],
)
def test_noise_scales(parts, expected):
    assert get("gradient_noise_scale")(parts) == pytest.approx(expected, abs=1e-12, nan_ok=True)


ANY_NUMBERS = arrays.arrays(np.float64, arrays.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=6))


@given(name=st.sampled_from(NAMES), numbers=ANY_NUMBERS, seed=st.integers(0, 9))
@settings(max_examples=250, deadline=None)
def test_whatever_comes_the_result_is_a_number_in_range_or_nan(name, numbers, seed):
    value = get(name)(*given_of(name, numbers))
    least, greatest = get(name).range
    assert isinstance(value, float)
    assert math.isnan(value) or least <= value <= greatest
    if not numbers.size or not np.isfinite(numbers).all():
        assert math.isnan(value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("convert", ["list", "float16", "float32", "int", "bool", "bfloat16", "grad", "strided", "cut"])
def test_what_holds_the_numbers_does_not_matter(name, convert):
    whole = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 1], [0, 1, 0], [1, 1, 1]])
    other = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]])
    tensors = {"bfloat16": torch.bfloat16, "grad": torch.float32, "strided": torch.float64}

    def converted(values):
        if convert == "list":
            return values.tolist()
        if convert == "cut":
            return np.repeat(values, 2, axis=1)[:, ::2]
        if convert in tensors:
            tensor = torch.tensor(values, dtype=tensors[convert], requires_grad=convert == "grad")
            return tensor.T.contiguous().T if convert == "strided" else tensor
        return values.astype(convert)

    things = [whole, other][: N_GIVEN[get(name).of]]
    expected = get(name)(*(thing.astype(float) for thing in things))
    assert math.isfinite(expected)
    assert get(name)(*(converted(thing) for thing in things)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_given_is_not_changed(name):
    given = [each * 3.7 for each in given_of(name, normal(6, 2))]
    before = [each.copy() for each in given]
    get(name)(*given)
    assert all(np.array_equal(one, other) for one, other in zip(given, before, strict=True))


WRONG = {
    "matrix": [[], [np.zeros(3)], [np.zeros((2, 3, 4))], [np.zeros((2, 2)), np.zeros((2, 2))], [3.0],
               [Product(np.zeros((4, 2)), np.zeros((3, 4)))], [Product(np.zeros(4), np.zeros(4))]],
    "pair": [[], [np.zeros((3, 2))], [np.zeros((3, 2)), np.zeros((4, 2))], [np.zeros(3), np.zeros(3)],
             [np.zeros((2, 3, 4)), np.zeros((2, 3, 4))]],
    "gradients": [[], [np.zeros(3)], [np.zeros(3), np.zeros(4)], [np.zeros((2, 3)), np.zeros((3, 2))]],
    "parts": [[], [3.0], [np.zeros((2, 3)), np.zeros((2, 3))]],
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_wrong_shapes_are_said(name):
    for things in WRONG[get(name).of]:
        with pytest.raises(DataError, match=rf"^{name}: got .*; allowed: "):
            get(name)(*things)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("entries", [["a", "b"], [1j, 2], [[1], [2, 3]], [None, 1]])
def test_what_are_no_numbers_are_said(name, entries):
    with pytest.raises(DataError, match=rf"^{name}: got .*; allowed: "):
        get(name)(*([entries] * N_GIVEN[get(name).of]))


def test_a_spectrum_that_does_not_converge_is_nan(monkeypatch):
    def fails(*_, **__):
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(np.linalg, "svd", fails)
    assert math.isnan(get("per")(normal(3, 3)))


# The registry.


def test_measures_are_found_by_name():
    assert measures.names("pair") == ("cka", "cka_debiased", "cka_rbf", "cka_rbf_debiased", "pwcca")
    assert get("per").name == "per"
    assert (get("per").of, get("per").label, get("per").range) == ("matrix", "Proportional effective rank", (0, 1))
    with pytest.raises(UnknownNameError, match="Did you mean 'pwcca'"):
        get("pwca")


@measure(of="matrix", label="Greatest entry", range=(-INF, INF), scales=True)
def greatest_entry(matrix_DE):
    """The greatest entry."""
    return float(matrix_DE.max())


def test_a_measure_of_one_s_own_is_named_by_its_path():
    own = get(f"{__name__}:greatest_entry")
    assert own([[1, 8], [3, 5]]) == 8
    assert own(Product(np.array([[1], [2]]), np.array([[3, 5]]))) == 10
    with pytest.raises(DataError, match=r"not a measure.*a function under the decorator"):
        get(f"{__name__}:normal")


@pytest.mark.parametrize("name", NAMES)
def test_every_measure_says_what_it_is(name):
    member = get(name)
    documented = inspect.getdoc(member)
    for part in (".. math::", "Source", "pico-analyze" if name not in ("cka_rbf", "cka_rbf_debiased") else "", ">>> "):
        assert part in documented
    assert isinstance(member, Measure)
    assert member.label[0].isupper()
    assert name in (member.__name__, member.__wrapped__.__name__)
