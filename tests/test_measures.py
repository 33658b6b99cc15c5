"""Every measure against its definition written out, by hand-worked values, and under what must not change it."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial.distance
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot import measures
from xenoglot.measures import Product
from xenoglot.measures.gradient_noise_scale import noise_scale_of_norms
from xenoglot.rng import generator

OF_MATRIX = measures.names("matrix")
OF_PAIR = measures.names("pair")
ALIGNMENTS = [name for name in OF_PAIR if name.startswith("cka")]


def get(name):
    return measures.get(name)


def normal(*shape, seed=0):
    return generator(seed, "test").standard_normal(shape)


def rotation(size, seed=0):
    return scipy.linalg.qr(normal(size, size, seed=seed))[0]


# Definitions, as slowly as they are written.


def centring(n):
    return np.eye(n) - np.ones((n, n)) / n


def median_kernel(x_ND):
    distances = scipy.spatial.distance.pdist(x_ND)
    width = statistics.median(distances)
    return np.exp(-(scipy.spatial.distance.squareform(distances) ** 2) / (2 * width**2))


def biased(k_NN, l_NN):
    h_NN = centring(len(k_NN))
    return np.trace(k_NN @ h_NN @ l_NN @ h_NN)


def u_statistic(k_NN, l_NN):
    """The unbiased criterion as the mean over all orders of four different examples."""
    quadruples = list(itertools.permutations(range(len(k_NN)), 4))
    return sum(k_NN[i, j] * (l_NN[i, j] + l_NN[q, r] - 2 * l_NN[i, q]) for i, j, q, r in quadruples) / len(quadruples)


def cosine_of(criterion, k_NN, l_NN):
    return criterion(k_NN, l_NN) / math.sqrt(criterion(k_NN, k_NN) * criterion(l_NN, l_NN))


def naive_pwcca(x_ND, y_NE):
    """Canonical correlations as an eigenproblem of covariances."""
    x_ND, y_NE = x_ND - x_ND.mean(axis=0), y_NE - y_NE.mean(axis=0)
    between_DE = x_ND.T @ y_NE
    reached_DD = between_DE @ scipy.linalg.inv(y_NE.T @ y_NE) @ between_DE.T
    squares, directions_DD = scipy.linalg.eigh(reached_DD, x_ND.T @ x_ND)
    kept = np.argsort(squares)[::-1][: min(x_ND.shape[1], y_NE.shape[1])]
    top, bottom = 0.0, 0.0
    for number in kept:
        variable_N = x_ND @ directions_DD[:, number]
        variable_N /= math.sqrt(variable_N @ variable_N)
        weight = sum(abs(variable_N @ column_N) for column_N in x_ND.T)
        top += weight * math.sqrt(max(0.0, squares[number]))
        bottom += weight
    return top / bottom


NAIVE_PAIRS = {
    "cka": lambda x, y: cosine_of(biased, x @ x.T, y @ y.T),
    "cka_debiased": lambda x, y: cosine_of(u_statistic, x @ x.T, y @ y.T),
    "cka_rbf": lambda x, y: cosine_of(biased, median_kernel(x), median_kernel(y)),
    "cka_rbf_debiased": lambda x, y: cosine_of(u_statistic, median_kernel(x), median_kernel(y)),
    "pwcca": naive_pwcca,
}


def naive_per(w_DE):
    gram = w_DE @ w_DE.T if len(w_DE) <= w_DE.shape[1] else w_DE.T @ w_DE
    values = np.sqrt(np.maximum(scipy.linalg.eigvalsh(gram), 0))
    return math.exp(scipy.stats.entropy(values)) / len(values)


def naive_gini(w_DE):
    sizes = [abs(entry) for entry in w_DE.flat]
    return sum(abs(a - b) for a in sizes for b in sizes) / (2 * len(sizes) ** 2 * statistics.fmean(sizes))


def naive_infinity_norm(w_DE):
    """By how much the greatest entry of a vector can grow: over all corners of the cube."""
    return max(np.abs(w_DE @ corner).max() for corner in itertools.product([-1, 1], repeat=w_DE.shape[1]))


def naive_hoyer(w_DE):
    root = math.sqrt(w_DE.size)
    return (root - sum(map(abs, w_DE.flat)) / math.sqrt(sum(entry**2 for entry in w_DE.flat))) / (root - 1)


NAIVE_MATRICES = {
    "condition_number": lambda w: scipy.linalg.norm(w, 2) * scipy.linalg.norm(scipy.linalg.pinv(w), 2),
    "frobenius_norm": lambda w: math.sqrt(sum(entry**2 for entry in w.flat)),
    "gini": naive_gini,
    "hoyer": naive_hoyer,
    "infinity_norm": naive_infinity_norm,
    "nuclear_norm": lambda w: np.trace(scipy.linalg.sqrtm(w @ w.T)) if len(w) <= w.shape[1] else np.nan,
    "per": naive_per,
}


def test_every_measure_has_a_twin_here():
    assert set(OF_PAIR) == set(NAIVE_PAIRS)
    assert set(OF_MATRIX) == set(NAIVE_MATRICES)
    assert measures.names() == tuple(sorted([*OF_PAIR, *OF_MATRIX, "gradient_cosine", "gradient_noise_scale"]))


@pytest.mark.parametrize("name", OF_PAIR)
@pytest.mark.parametrize("shapes", [(9, 3, 2), (8, 2, 4), (7, 3, 3)])
def test_pairs_are_as_they_are_defined(name, shapes):
    n, d, e = shapes
    shared = normal(n, 2, seed=3)
    x_ND = normal(n, d, seed=1) + shared @ normal(2, d, seed=4) + 5
    y_NE = normal(n, e, seed=2) + shared @ normal(2, e, seed=5) - 3
    assert get(name)(x_ND, y_NE) == pytest.approx(NAIVE_PAIRS[name](x_ND, y_NE), abs=1e-9)


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_fewer_examples_than_numbers_are_as_defined_too(name):
    x_ND, y_NE = normal(6, 11, seed=1), normal(6, 9, seed=2)
    assert get(name)(x_ND, y_NE) == pytest.approx(NAIVE_PAIRS[name](x_ND, y_NE), abs=1e-9)


@pytest.mark.parametrize("name", OF_MATRIX)
@pytest.mark.parametrize("shape", [(3, 7), (5, 5), (2, 4)])
def test_matrices_are_as_they_are_defined(name, shape):
    matrix_DE = normal(*shape, seed=2) * 3
    assert get(name)(matrix_DE) == pytest.approx(NAIVE_MATRICES[name](matrix_DE), rel=1e-9)


def test_the_cosine_is_as_defined():
    g, h = normal(3, 4, 5, seed=1), normal(3, 4, 5, seed=2)
    expected = sum(a * b for a, b in zip(g.flat, h.flat, strict=True))
    expected /= math.sqrt(sum(a * a for a in g.flat)) * math.sqrt(sum(b * b for b in h.flat))
    assert get("gradient_cosine")(g, h) == pytest.approx(expected, rel=1e-12)
    assert get("gradient_cosine")(g, -2 * g) == pytest.approx(-1)


def test_the_noise_scale_is_what_the_batches_lengths_say():
    parts_PD = normal(6, 20, seed=1) + 2
    small = statistics.fmean(float(part @ part) for part in parts_PD)
    mean_D = sum(parts_PD) / 6
    signal, noise = noise_scale_of_norms(small, float(mean_D @ mean_D), n_small=1, n_large=6)
    assert get("gradient_noise_scale")(parts_PD) == pytest.approx(noise / signal, rel=1e-9)


def test_both_estimates_of_the_noise_scale_are_unbiased():
    """Known truth: G of length 2, covariance diag(1, 4, 9) for a row; batches of 2 rows and of 10."""
    rng, gradient, spread = generator(5, "noise"), np.array([0.0, 0.0, 2.0]), np.array([1.0, 2.0, 3.0])
    rows = gradient + spread * rng.standard_normal((20_000, 5, 2, 3))
    small = np.square(rows.mean(axis=2)).sum(axis=-1).mean(axis=1)
    large = np.square(rows.mean(axis=(1, 2))).sum(axis=-1)
    estimates = np.array(
        [noise_scale_of_norms(*both, n_small=2, n_large=10) for both in zip(small, large, strict=True)]
    )
    errors = estimates.std(axis=0) / math.sqrt(len(estimates))
    assert np.all(np.abs(estimates.mean(axis=0) - [4, 14]) < 4 * errors)
    assert np.all(errors < [0.05, 0.1])


# Worked by hand, beyond those of the docstrings.


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("cka", ([[1, 0], [0, 1]], [[5], [7]]), 1),  # two examples differ in one direction only
        ("cka", ([[-1], [0], [1]], [[1], [-2], [1]]), 0),
        ("cka_debiased", ([[0], [0], [1], [1]], [[0], [1], [0], [1]]), -0.5),
        ("pwcca", ([[1, 1], [1, -1], [-1, 1], [-1, -1]], [[2], [0], [0], [-2]]), 1),
        ("pwcca", ([[1], [1], [-1], [-1]], [[1], [-1], [1], [-1]]), 0),
        ("per", ([[2, 0], [0, 2], [0, 0]],), 1),
        ("per", ([[1, 2], [2, 4]],), 1 / 2),
        ("gini", ([[0, 0, 0, -7]],), 3 / 4),
        ("gini", ([[1, 2, 3, 4]],), 1 / 4),
        ("hoyer", ([[0, -7], [0, 0]],), 1),
        ("hoyer", ([[1, -1], [1, 1]],), 0),
        ("frobenius_norm", ([[1, 2], [2, 4]],), 5),
        ("nuclear_norm", ([[1, 2], [2, 4]],), 5),  # rank one: the same
        ("nuclear_norm", ([[0, 1], [1, 0]],), 2),
        ("infinity_norm", ([[1, 2], [2, 4]],), 6),
        ("condition_number", ([[0, 5], [10, 0]],), 2),
        ("gradient_cosine", ([1, 0], [-1, 0]), -1),
        ("gradient_cosine", ([[1, 0], [0, 0]], [[0, 1], [1, 1]]), 0),
        ("gradient_noise_scale", ([[2, 0], [4, 0], [6, 0]],), 4 / (16 - 4 / 3)),
    ],
)
def test_hand_worked_values(name, given, expected):
    assert get(name)(*given) == pytest.approx(expected, abs=1e-12)


def test_normal_entries_have_the_sparsity_that_the_docstrings_say():
    matrix_DE = normal(1000, 1000, seed=1)
    assert get("gini")(matrix_DE) == pytest.approx(math.sqrt(2) - 1, abs=2e-3)
    assert get("hoyer")(matrix_DE) == pytest.approx(1 - math.sqrt(2 / math.pi), abs=2e-3)


# What must not change a value.

SEEDS = st.integers(0, 2**32)
FACTORS = st.floats(1e-30, 1e30)


@given(name=st.sampled_from(ALIGNMENTS), seed=SEEDS, factor=FACTORS, n=st.integers(5, 12), d=st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_alignments_do_not_see_turns_shifts_sizes_and_orders(name, seed, factor, n, d):
    x_ND, y_NE = normal(n, d, seed=seed), normal(n, 3, seed=seed + 1)
    expected = get(name)(x_ND, y_NE)
    assert -1 <= expected <= 1
    turned = factor * (x_ND @ rotation(d, seed) + normal(d, seed=seed + 2))
    assert get(name)(turned, y_NE) == pytest.approx(expected, abs=1e-6)
    assert get(name)(y_NE, x_ND) == pytest.approx(expected, abs=1e-9)
    order = generator(seed, "order").permutation(n)
    assert get(name)(x_ND[order], y_NE[order]) == pytest.approx(expected, abs=1e-9)
    assert get(name)(x_ND, turned) == pytest.approx(1, abs=1e-6)


@given(seed=SEEDS, factor=FACTORS, d=st.integers(1, 5), e=st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_pwcca_does_not_see_what_is_linear_in_the_second(seed, factor, d, e):
    x_ND, y_NE = normal(20, d, seed=seed), normal(20, e, seed=seed + 1)
    expected = get("pwcca")(x_ND, y_NE)
    mixed_NE = factor * (y_NE @ (rotation(e, seed) @ np.diag(np.arange(1, e + 1))) + 3)
    assert get("pwcca")(x_ND, mixed_NE) == pytest.approx(expected, abs=1e-9)
    assert get("pwcca")(factor * x_ND - 7 * factor, y_NE) == pytest.approx(expected, abs=1e-6)
    assert get("pwcca")(x_ND, x_ND @ (rotation(d, seed) * 3)) == pytest.approx(1)
    assert 0 <= expected <= 1


@given(name=st.sampled_from(OF_MATRIX), seed=SEEDS, factor=FACTORS, d=st.integers(2, 6), e=st.integers(2, 6))
@settings(max_examples=60, deadline=None)
def test_matrices_turned_and_scaled(name, seed, factor, d, e):
    measure, matrix_DE = get(name), normal(d, e, seed=seed)
    expected = measure(matrix_DE)
    growth = factor if name.endswith("norm") else 1
    assert measure(factor * matrix_DE) == pytest.approx(growth * expected, rel=1e-9)
    assert measure(-matrix_DE[::-1]) == pytest.approx(expected, rel=1e-9)
    if name in ("condition_number", "frobenius_norm", "nuclear_norm", "per"):
        turned = rotation(d, seed) @ matrix_DE @ rotation(e, seed + 1)
        assert measure(turned) == pytest.approx(expected, rel=1e-6)
    if name != "infinity_norm":
        assert measure(matrix_DE.T) == pytest.approx(expected, rel=1e-6)
    least, greatest = measure.range
    assert least <= expected <= greatest


@given(seed=SEEDS, factor=FACTORS)
@settings(max_examples=15, deadline=None)
def test_gradients_turned_and_scaled(seed, factor):
    g, h, parts_PD = normal(6, seed=seed), normal(6, seed=seed + 1), normal(5, 6, seed=seed + 2) + 1
    turn = rotation(6, seed)
    cosine, noise_scale = get("gradient_cosine"), get("gradient_noise_scale")
    assert cosine(factor * g @ turn, h @ turn) == pytest.approx(cosine(g, h), abs=1e-9)
    assert noise_scale(factor * parts_PD @ turn) == pytest.approx(noise_scale(parts_PD), rel=1e-6, nan_ok=True)
    assert noise_scale(parts_PD[::-1]) == pytest.approx(noise_scale(parts_PD), rel=1e-6, nan_ok=True)


@given(name=st.sampled_from(OF_MATRIX), seed=SEEDS, inner=st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_a_product_measures_as_what_it_comes_to(name, seed, inner):
    left, right = normal(7, inner, seed=seed), normal(inner, 5, seed=seed + 1)
    assert get(name)(Product(left, right)) == pytest.approx(get(name)(left @ right), rel=1e-6)


# What the docstrings warn of.


def test_debiasing_takes_the_bias_of_few_examples_away():
    """Independent representations, as many examples as numbers: the biased ones are far from 0, the others are not."""
    values = {
        name: np.array([get(name)(normal(24, 24, seed=2 * i), normal(24, 24, seed=2 * i + 1)) for i in range(40)])
        for name in OF_PAIR
    }
    assert values["cka"].mean() > 0.4
    assert values["cka_rbf"].mean() > 0.6
    assert get("cka_rbf")(normal(24, 2000), normal(24, 2000, seed=1)) > 0.95
    assert values["pwcca"].min() > 1 - 1e-9
    for name in ("cka_debiased", "cka_rbf_debiased"):
        assert abs(values[name].mean()) < 4 * values[name].std() / math.sqrt(40)
        assert values[name].std() < 0.1


def test_equal_correlations_leave_nothing_to_chance():
    """30 examples of 20 numbers: 11 correlations are 1. Examples turned about their mean are the same to PWCCA."""
    x_ND, y_NE = normal(30, 20, seed=1) * np.arange(1, 21), normal(30, 20, seed=2)
    basis_NN = scipy.linalg.qr(np.column_stack([np.ones(30), normal(30, 29, seed=3)]))[0]
    turn_NN = basis_NN @ scipy.linalg.block_diag(1, rotation(29, seed=4)) @ basis_NN.T
    assert np.allclose(turn_NN @ np.ones(30), 1)
    expected = get("pwcca")(x_ND, y_NE)
    assert expected < 0.99
    assert get("pwcca")(turn_NN @ x_ND, turn_NN @ y_NE) == pytest.approx(expected, abs=1e-6)


def test_pwcca_is_another_one_the_other_way_round():
    x_ND, y_NE = normal(30, 4, seed=1) * [9, 1, 1, 1], normal(30, 4, seed=1) * [1, 1, 1, 9] + normal(30, 4, seed=2)
    assert abs(get("pwcca")(x_ND, y_NE) - get("pwcca")(y_NE, x_ND)) > 0.01
