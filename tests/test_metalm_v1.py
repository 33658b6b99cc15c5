"""MetaLM-1: rates over a million tokens, and its filter against the enumeration of every hidden path."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats

from xenoglot.errors import DataError
from xenoglot.languages import MetaLMv1
from xenoglot.languages.metalm_v1 import MetaLMv1Language


def channel(family: MetaLMv1, read: int, clean: int) -> float:
    """c(read | clean), written down once more."""
    if clean == family.vocab_size + 1 or read == family.vocab_size + 1:
        return float(read == clean)
    if read == clean:
        return 1 - family.error_rate
    if read == 0:
        return family.error_rate * family.mask_ratio
    return family.error_rate * (1 - family.mask_ratio) / (family.vocab_size - 1)


def enumerated_law(language: MetaLMv1Language, inputs: list[int]) -> np.ndarray:
    """P(next clean token | inputs), by going through every sequence of elements long enough to cover them."""
    family = language.family
    ends = [[family.vocab_size + 1]] if family.separator else [[]]
    elements = [[*map(int, element), *ends[0]] for element in language.elements]
    shortest = min(map(len, elements))
    wanted = len(inputs) + 1
    joint = np.zeros(family.n_tokens)
    for picks in itertools.product(elements, repeat=-(-wanted // shortest)):
        clean = list(itertools.chain(*picks))[:wanted]
        likelihood = np.prod([channel(family, read, token) for read, token in zip(inputs, clean, strict=False)])
        joint[clean[-1]] += likelihood  # every sequence of picks is as likely as any other
    return joint / joint.sum()


@pytest.mark.parametrize("separator", [False, True])
@pytest.mark.parametrize("error_rate", [0.0, 0.25, 1.0])
def test_the_filter_equals_enumeration(separator: bool, error_rate: float) -> None:
    family = MetaLMv1(vocab_size=3, n_elements=2, element_length=3, error_rate=error_rate, separator=separator)
    for seed in range(3):
        language = family.draw(seed)
        inputs = language.batch(1, 7, seed=100).inputs[0]
        log_probs_LV = language.predict(inputs)
        for t in range(7):
            expected = enumerated_law(language, inputs[: t + 1].tolist())
            np.testing.assert_allclose(np.exp(log_probs_LV[t]), expected, atol=1e-9)


def test_the_filter_of_elements_of_our_own_with_one_token() -> None:
    family = MetaLMv1(vocab_size=3, error_rate=0.2)
    language = MetaLMv1Language.from_elements(family, [[1], [2, 3], [3, 3, 1]])
    inputs = [1, 3, 0, 2, 3]
    expected = [enumerated_law(language, inputs[: t + 1]) for t in range(5)]
    np.testing.assert_allclose(np.exp(language.predict(inputs)), expected, atol=1e-9)


@pytest.mark.parametrize("elements", [[], [[]], [[0, 1]], [[1, 5]], [[1.5]], [[[1]]]])
def test_elements_that_are_none_are_refused(elements: list[list[int]]) -> None:
    with pytest.raises(DataError, match="elements"):
        MetaLMv1Language.from_elements(MetaLMv1(vocab_size=4), elements)


@pytest.fixture(scope="module")
def million() -> tuple[MetaLMv1, np.ndarray, np.ndarray]:
    """A million and more positions as x and y; separators show where the elements end."""
    family = MetaLMv1(vocab_size=11, n_elements=7, element_length=9, error_rate=0.2, mask_ratio=0.3, separator=True)
    batch = family.draw(3).batch(256, 4501, seed=1)
    return family, batch.inputs[:, 1:], batch.targets[:, :-1]


def within_four_errors(share: float, expected: float, count: int) -> bool:
    return abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / count)


def test_noise_mask_and_replacement_rates(million: tuple[MetaLMv1, np.ndarray, np.ndarray]) -> None:
    family, x, y = million
    separator = family.separator_id
    assert np.array_equal(x == separator, y == separator), "separators are never disturbed"
    ordinary = y != separator
    x, y = x[ordinary], y[ordinary]
    assert x.size > 10**6
    disturbed = x != y
    assert within_four_errors(disturbed.mean(), 0.2, x.size)
    assert within_four_errors((x[disturbed] == 0).mean(), 0.3, disturbed.sum())
    replaced = disturbed & (x > 0)
    steps = (x[replaced] - y[replaced]) % 11
    assert scipy.stats.chisquare(np.bincount(steps, minlength=11)[1:]).pvalue > 1e-4, "any of the other V - 1 tokens"
    together = disturbed[1:] & disturbed[:-1]
    assert within_four_errors(together.mean(), 0.04, x.size - 1), "positions are disturbed independently"


def test_every_element_is_used_equally_often_and_every_token_occurs(
    million: tuple[MetaLMv1, np.ndarray, np.ndarray],
) -> None:
    family, _, y = million
    elements = family.draw(3).elements
    assert len({tuple(element) for element in elements}) == 7
    numbers = {tuple(map(int, element)): k for k, element in enumerate(elements)}
    counts = np.zeros(7, int)
    for row in y:
        ends = np.flatnonzero(row == family.separator_id)
        for first, last in itertools.pairwise(ends):
            counts[numbers[tuple(map(int, row[first + 1 : last]))]] += 1
    for count in counts:
        assert within_four_errors(count / counts.sum(), 1 / 7, counts.sum())
    assert set(np.unique(y)) == set(np.unique(np.concatenate(elements))) | {family.separator_id}


def test_elements_have_the_poisson_lengths_and_uniform_tokens() -> None:
    family = MetaLMv1(vocab_size=5, n_elements=20_000, element_length=6)
    elements = family.draw(1).elements
    lengths = np.array([len(element) for element in elements])
    law = scipy.stats.poisson(6)
    expected = np.array([law.cdf(3), *(law.pmf(k) for k in range(4, 14)), law.sf(13)])
    counts = np.array([(lengths == 3).sum(), *((lengths == k).sum() for k in range(4, 14)), (lengths > 13).sum()])
    assert scipy.stats.chisquare(counts, expected * 20_000).pvalue > 1e-4
    assert scipy.stats.chisquare(np.bincount(np.concatenate(elements), minlength=6)[1:]).pvalue > 1e-4


@pytest.mark.parametrize(
    ("options", "length", "rows", "expected", "tolerance"),
    [
        ({"vocab_size": 64, "n_elements": 10, "element_length": 32, "error_rate": 0.10}, 4096, 200, 0.080, 0.003),
        ({"vocab_size": 64, "n_elements": 5, "element_length": 32, "error_rate": 0.05}, 4096, 200, 0.052, 0.002),
        ({"vocab_size": 16, "n_elements": 4, "element_length": 8, "error_rate": 0.05}, 256, 2000, 0.169, 0.006),
    ],
)
def test_mean_floors_are_the_known_ones(
    options: dict[str, float], length: int, rows: int, expected: float, tolerance: float
) -> None:
    batch = MetaLMv1(separator=True, **options).batch(rows, length, seed=2026, floor=True)
    assert batch.floor_nats.mean() == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("separator", [False, True])
def test_a_hundred_thousand_tokens_neither_underflow_nor_drift(separator: bool) -> None:
    family = MetaLMv1(vocab_size=8, n_elements=5, element_length=6, error_rate=0.3, separator=separator)
    language = family.draw(2)
    batch = language.batch(1, 100_000, seed=4, floor=True)
    assert np.isfinite(batch.floor_nats).all()
    # the filter forgets: started 400 tokens before the end, at an element's beginning, it says the same by then
    clean = np.concatenate([[0], batch.targets[0]])
    late = 99_600
    if separator:
        late += int(np.argmax(clean[late : late + 200] == family.separator_id)) + 1
        tolerance = 1e-6
    else:
        tolerance = 1e-4
    again = language.nats(batch.inputs[0, late:], batch.targets[0, late:])
    np.testing.assert_allclose(again[-100:], batch.floor_nats[0, -100:], atol=tolerance)


def test_impossible_prefixes_start_the_filter_anew() -> None:
    family = MetaLMv1(vocab_size=9, n_elements=3, element_length=4, error_rate=0.0, separator=True)
    language = family.draw(0)
    fresh = language.predict([family.separator_id])[-1]
    too_long = [int(language.elements[0][0])] * 40
    assert np.isfinite(language.predict(too_long)).any(axis=-1).all()
    np.testing.assert_allclose(language.predict([*too_long, family.separator_id])[-1], fresh)
