"""The learner who does not know MetaLM-1's elements, at the published sizes: what it loses is the least possible.

What it is compared with stands in docs/results/unknown_elements_bound.py; it shares no code with it, and is tested too.
"""

from __future__ import annotations

import importlib
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xenoglot.languages import MetaLMv1
from xenoglot.predictors import NoisyRepeats

RESULTS = Path(__file__).parent.parent / "docs" / "results"
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(RESULTS))
    bound: Any = importlib.import_module("unknown_elements_bound")
    page: Any = importlib.import_module("unknown_elements")

PREDICTOR_S_PAGE = (RESULTS.parent / "predictors" / "unknown-elements.md").read_text(encoding="utf-8")

every_setting = pytest.mark.parametrize("setting", list(page.SETTINGS), ids=page.name_of)


def told(family: MetaLMv1, batch: Any) -> np.ndarray:
    """What one loses who is told which element each finished segment was."""
    return np.asarray(page.told_rows(family, batch))


@every_setting
def test_at_the_published_settings_nothing_is_lost_for_not_being_told(setting: tuple[int, int, float]) -> None:
    family = page.as_named(*setting)
    batch = family.batch(2, 4096, seed=7)
    least_nats = told(family, batch)
    for n_particles in (1, 64):
        nats = NoisyRepeats(family=family, n_particles=n_particles).nats(batch.inputs, batch.targets)
        np.testing.assert_allclose(nats, least_nats, rtol=1e-5, atol=1e-5)


def test_with_one_element_there_is_nothing_to_be_told() -> None:
    family = MetaLMv1(vocab_size=3, n_elements=1, element_length=5, error_rate=0.4, separator=True)
    batch = family.batch(8, 300, seed=2)
    nats = NoisyRepeats(family=family).nats(batch.inputs, batch.targets)
    np.testing.assert_allclose(nats, told(family, batch), rtol=1e-5, atol=1e-5)


def test_where_segments_are_hard_to_tell_apart_little_is_lost() -> None:
    family = MetaLMv1(vocab_size=8, n_elements=6, element_length=8, error_rate=0.3, separator=True)
    batch = family.batch(16, 512, seed=5)
    least_nats = told(family, batch).mean()
    one, few, many = (
        NoisyRepeats(family=family, n_particles=n).nats(batch.inputs, batch.targets).mean() - least_nats
        for n in (1, 64, 1024)
    )
    assert 0.0 < few < 0.01
    assert abs(few - many) < 0.001, "with 64 partitions it is as good as with all that matter"
    assert one > 2.0 * few, "one is too few here: the comparison can tell"


def test_what_is_unknown_of_a_word_after_some_copies_is_what_drawing_them_says() -> None:
    family = MetaLMv1(vocab_size=5, error_rate=0.3, mask_ratio=0.4)
    random = np.random.default_rng(0)
    kept, masked, replaced = 0.7, 0.12, 0.18 / 4
    for n_copies in range(4):
        strike = random.random((200_000, n_copies))
        others = 1 + random.integers(1, 5, strike.shape)  # the word is 1
        copies = np.where(strike < kept, 1, np.where(strike < kept + masked, 0, others))
        votes = (copies[:, :, None] == np.arange(1, 6)).sum(axis=1)
        posterior = (kept / replaced) ** votes
        nats = -np.log(posterior[:, 0] / posterior.sum(axis=1))
        tolerance = 4.0 * nats.std() / math.sqrt(len(nats)) + 1e-9
        assert bound.entropy_nats(family, n_copies) == pytest.approx(nats.mean(), abs=tolerance)


@every_setting
def test_a_visit_costs_what_is_unknown_of_its_words(setting: tuple[int, int, float]) -> None:
    """Behind the first four words of a segment, where it is settled which element it is."""
    family = page.as_named(*setting)
    batch = family.batch(96, 1536, seed=3, floor=True)
    nats = NoisyRepeats(family=family).nats(batch.inputs, batch.targets)
    visits = np.array([bound.visits_before(family, *row) for row in zip(batch.inputs, batch.targets, strict=True)])
    is_settled = batch.targets != family.separator_id
    for t in range(4):
        is_settled[:, t:] &= batch.inputs[:, : 1536 - t] != family.separator_id
    for n_copies in range(1, 4):
        is_there = is_settled & (visits == n_copies)
        excess = (nats - batch.floor_nats) * is_there
        mean = excess.sum() / is_there.sum()
        error = (excess - mean * is_there).sum(axis=1).std() * math.sqrt(96) / is_there.sum()
        assert mean == pytest.approx(bound.entropy_nats(family, n_copies), abs=4.0 * error)
        assert error < 0.05 * bound.entropy_nats(family, n_copies) + 0.001, "the comparison can tell"


def test_the_formula_is_what_is_measured() -> None:
    """Where excesses are still large, so that few rows say enough: tokens 1,025 to 2,048."""
    family = page.as_named(10, 64, 0.10)
    batch = family.batch(128, 2048, seed=4, floor=True)
    nats = NoisyRepeats(family=family).nats(batch.inputs, batch.targets) - batch.floor_nats
    excess = nats[:, 1024:].mean(axis=1, dtype=np.float64)
    error = float(excess.std()) / math.sqrt(len(excess))
    assert error < 0.03 * excess.mean() + 0.01
    assert excess.mean() == pytest.approx(bound.expected_excess_nats(family, 1025, 2049), abs=4.0 * error)


@every_setting
def test_metagym_s_sampler_is_the_family_that_the_page_says(setting: tuple[int, int, float]) -> None:
    n_elements, element_length, error_rate = setting
    family, random = page.as_sampled(*setting), np.random.default_rng(1)
    inputs, targets = map(np.array, zip(*(row_of_metagym(random, *setting) for _ in range(48)), strict=True))
    own = family.batch(48, 2048, seed=6)
    for x, y in ((inputs, targets), (own.inputs, own.targets)):
        clean, read = y[:, :-1], x[:, 1:]
        is_word = clean != family.separator_id
        shares = [(is_word & (read == 0)).sum(), (is_word & (read > 0) & (read != clean)).sum()] / is_word.sum()
        expected = family.error_rate * np.array([family.mask_ratio, 1.0 - family.mask_ratio])
        np.testing.assert_allclose(shares, expected, atol=4.0 * math.sqrt(error_rate / is_word.sum()))
        met = [len(set(bound.segments(family, *row)[1])) for row in zip(x, y, strict=True)]
        assert max(met) <= n_elements - 1
    theirs, ours = (
        NoisyRepeats(family=family).nats(x, y).mean(axis=1) for x, y in ((inputs, targets), (own.inputs, own.targets))
    )
    assert abs(theirs.mean() - ours.mean()) < 4.0 * math.sqrt((theirs.var() + ours.var()) / 48)
    assert element_length == family.element_length


def row_of_metagym(
    random: np.random.Generator, n_elements: int, element_length: int, error_rate: float
) -> tuple[np.ndarray, np.ndarray]:
    """A row as MetaGym's sampler draws it for V = 64, its separator written as 64, a word that it never draws."""
    elements = [random.integers(1, 64, max(3, random.poisson(element_length))) for _ in range(n_elements)]
    read, clean = [], []
    while len(read) <= 2048:
        element = elements[random.integers(0, n_elements - 1)]
        is_noisy, is_mask = random.random(len(element)) < error_rate, random.random(len(element)) < 0.3
        noise = np.where(is_mask, 0, random.integers(1, 64, len(element)))
        read += [*np.where(is_noisy, noise, element), 64]
        clean += [*element, 64]
    return np.array(read[:2048], np.int32), np.array(clean[1:2049], np.int32)


def test_the_predictor_s_page_says_what_was_measured() -> None:
    text = (RESULTS / "unknown_elements.md").read_text(encoding="utf-8")
    repeated = re.findall(r"^\| (n = .*?) \| (\S+) \| (\S+ ± \S+) \|", PREDICTOR_S_PAGE, re.MULTILINE)
    assert len(repeated) == len(page.SETTINGS)
    for setting, floor, learner in repeated:
        assert re.search(rf"^\| {re.escape(setting)} \| {floor} ± \S+ \| {learner} \|", text, re.MULTILINE), setting


def test_the_page_says_what_the_formula_gives() -> None:
    text = (RESULTS / "unknown_elements.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| n = (\d+), l = (\d+), e = (\S+) \|(?: \S+ ± \S+ \|){3} (\S+) \|", text, re.MULTILINE)
    assert len(rows) == len(page.SETTINGS)
    for n_elements, element_length, error_rate, written in rows:
        family = page.as_named(int(n_elements), int(element_length), float(error_rate))
        expected = bound.expected_excess_nats(family, page.LENGTH - page.LAST + 1, page.LENGTH + 1)
        assert float(written) == pytest.approx(expected, abs=5.1e-5)
