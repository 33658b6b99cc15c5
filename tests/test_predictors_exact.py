"""Every predictor against brute force that shares no code with it: enumeration, numerical integration, closed forms."""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from xenoglot.kernels import open_stream
from xenoglot.languages.context_tree import ContextTreeSource
from xenoglot.languages.markov import Markov
from xenoglot.languages.metalm_v1 import MetaLMv1, MetaLMv1Language
from xenoglot.predictors import (
    ContextTreeWeighting,
    DirichletMarkov,
    FinitePool,
    KnownLanguage,
    NoisyRepeats,
    UnknownOrderMarkov,
)
from xenoglot.predictors.noisy_repeats import ending_hazards
from xenoglot.predictors.partitions import select

# --- MetaLM-1: every way in which elements can have made the segments -------------------------------------------------


@functools.cache
def channel(family: MetaLMv1, read: int, clean: int) -> float:
    e, m = family.error_rate, family.mask_ratio
    if read == clean:
        return 1 - e
    return e * m if read == 0 else e * (1 - m) / (family.vocab_size - 1)


@functools.cache
def length_law(family: MetaLMv1, longest: int) -> dict[int, float]:
    """P(length) for max(3, Poisson); all lengths beyond the longest count as one more than it."""
    poisson = scipy.stats.poisson(family.element_length)
    law = {3: poisson.cdf(3), **{length: poisson.pmf(length) for length in range(4, longest + 1)}}
    return law | {longest + 1: poisson.sf(longest)}


@functools.cache
def probability_of_element(
    family: MetaLMv1, visits: tuple[tuple[int, ...], ...], begun: tuple[int, ...] | None, following: int | None
) -> float:
    """P(what was read of one element): complete visits, perhaps one that has begun, and the clean token after it."""
    words = range(1, family.vocab_size + 1)
    separator = family.vocab_size + 1
    total = 0.0
    for length, weight in length_law(family, 24).items():
        if any(len(visit) != length for visit in visits):
            continue
        if begun is not None and (len(begun) > length or (following == separator) != (len(begun) == length)):
            continue
        readings = visits + ((begun,) if begun is not None else ())
        product = weight
        for i in range(length):
            product *= sum(
                math.prod(channel(family, reading[i], y) for reading in readings if i < len(reading)) / len(words)
                for y in words
                if begun is None or i != len(begun) or y == following
            )
        total += product
    return total


def joint_by_enumeration(family: MetaLMv1, inputs: list[int], following: int) -> float:
    """P(inputs, following): the sum over which of the n elements made each segment."""
    separator = family.vocab_size + 1
    segments: list[tuple[int, ...]] = [()]
    for token in inputs:
        if token == separator:
            segments.append(())
        else:
            segments[-1] = (*segments[-1], token)
    total = 0.0
    for choice in itertools.product(range(family.n_elements), repeat=len(segments)):
        product = family.n_elements ** -float(len(segments))
        for k in set(choice):
            visits = tuple(
                sorted(segment for segment, made_by in zip(segments[:-1], choice, strict=False) if made_by == k)
            )
            is_current = choice[-1] == k
            product *= probability_of_element(
                family, visits, segments[-1] if is_current else None, following if is_current else None
            )
        total += product
    return total


@pytest.mark.parametrize(
    ("family", "length"),
    [
        (MetaLMv1(vocab_size=2, n_elements=3, element_length=4, error_rate=0.2, separator=True), 20),
        (MetaLMv1(vocab_size=3, n_elements=2, element_length=5, error_rate=0.4, mask_ratio=0.8, separator=True), 20),
        (MetaLMv1(vocab_size=2, n_elements=1, element_length=4, error_rate=0.1, separator=True), 14),
        (MetaLMv1(vocab_size=2, n_elements=2, element_length=4, error_rate=0.0, separator=True), 18),
        (MetaLMv1(vocab_size=3, n_elements=2, element_length=3, error_rate=0.3, mask_ratio=1.0, separator=True), 12),
    ],
)
def test_unknown_elements_equal_the_sum_over_all_partitions(family: MetaLMv1, length: int) -> None:
    batch = family.batch(4, length, seed=4)
    law_BLV = np.exp(NoisyRepeats(family=family).predict(batch.inputs))
    for row, t in itertools.product(range(4), range(length)):
        read = batch.inputs[row, : t + 1].tolist()
        joint = np.array([joint_by_enumeration(family, read, v) for v in range(1, family.n_tokens)])
        np.testing.assert_allclose(law_BLV[row, t, 1:], joint / joint.sum(), rtol=0, atol=1e-6)


def test_one_unknown_element_equals_a_pool_of_all_elements() -> None:
    """With n = 1 the languages can be listed: every element up to a length that nothing read reaches."""
    family = MetaLMv1(vocab_size=2, n_elements=1, element_length=3, error_rate=0.25, separator=True)
    pool, weights = [], []
    for length, weight in length_law(family, 7).items():
        for element in itertools.product((1, 2), repeat=length):
            pool.append(MetaLMv1Language.from_elements(family, [element]))
            weights.append(weight / 2**length)
    inputs = family.batch(4, 60, seed=2).inputs
    is_short = [max(map(len, "".join(map(str, row)).split("3"))) <= 7 for row in inputs.tolist()]
    assert sum(is_short) >= 2
    listed = FinitePool(pool, weights).predict(inputs[is_short][:, :7])
    np.testing.assert_allclose(
        np.exp(NoisyRepeats(family=family).predict(inputs[is_short][:, :7])), np.exp(listed), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("mean_length", [0.7, 3.0, 32.0, 2000.0])
def test_hazards_equal_scipy_s(mean_length: float) -> None:
    n_positions = int(mean_length + 4 * math.sqrt(mean_length)) + 5
    poisson = scipy.stats.poisson(mean_length)
    j = np.arange(4, n_positions)
    hazards = ending_hazards(mean_length, n_positions)
    np.testing.assert_allclose(hazards[:4], [0, 0, 0, poisson.cdf(3)], rtol=1e-12)
    np.testing.assert_allclose(hazards[4:], poisson.pmf(j) / poisson.sf(j - 1), rtol=1e-8, atol=1e-300)


def test_resampling_keeps_every_weight_on_average() -> None:
    weights = np.array([0.5, 0.2, 0.1, 0.08, 0.05, 0.04, 0.02, 0.01])
    sums = np.zeros(len(weights))
    n_draws = 4000
    for draw in range(n_draws):
        chosen, new_weights = select(weights, 4, open_stream(draw, 0, 0))
        assert len(set(chosen.tolist())) == len(chosen) <= 4
        assert {0, 1} <= set(chosen.tolist()), "the heavy ones always survive"
        np.testing.assert_allclose(new_weights[:2], weights[:2], rtol=1e-12)
        np.add.at(sums, chosen, new_weights)
    error = np.sqrt(weights * 0.15 / n_draws)  # a light one weighs 0 or 0.15, and so varies by at most w * 0.15
    assert np.all(np.abs(sums / n_draws - weights) <= 4 * error)


@pytest.mark.parametrize(("n_elements", "error_rate"), [(10, 0.10), (5, 0.05)])
def test_elements_are_known_in_the_end(n_elements: int, error_rate: float) -> None:
    family = MetaLMv1(vocab_size=64, n_elements=n_elements, element_length=32, error_rate=error_rate, separator=True)
    batch = family.batch(32, 4096, seed=21, floor=True)
    nats = NoisyRepeats(family=family).nats(batch.inputs, batch.targets)
    assert nats[:, -1024:].mean() - batch.floor_nats[:, -1024:].mean() < 0.005
    assert nats[:, :128].mean() > batch.floor_nats[:, :128].mean() + 1.0, "at first they are not"


def test_few_particles_lose_little() -> None:
    family = MetaLMv1(vocab_size=4, n_elements=4, element_length=5, error_rate=0.2, separator=True)
    batch = family.batch(200, 256, seed=22)
    mean_nats = [
        NoisyRepeats(family=family, n_particles=n).nats(batch.inputs, batch.targets).mean() for n in (1, 16, 256)
    ]
    assert np.all(np.isfinite(mean_nats)), "even one particle must think everything possible"
    assert mean_nats[0] > mean_nats[1] > mean_nats[2] - 1e-3
    assert mean_nats[1] - mean_nats[2] < 0.02


# --- Markov ----------------------------------------------------------------------------------------------------------


def log_evidence(tokens: list[int], order: int, vocab_size: int, alpha: float) -> float:
    """Logarithm of the Dirichlet-multinomial evidence, by gamma functions; the first tokens are uniform."""
    counts: dict[tuple[int, ...], Counter[int]] = {}
    for t in range(order, len(tokens)):
        counts.setdefault(tuple(tokens[t - order : t]), Counter())[tokens[t]] += 1
    total = -min(order, len(tokens)) * math.log(vocab_size)
    return total + sum(log_row_evidence(row, vocab_size, alpha) for row in counts.values())


def log_row_evidence(row: Counter[int], vocab_size: int, alpha: float) -> float:
    total = math.lgamma(alpha * vocab_size) - math.lgamma(alpha * vocab_size + sum(row.values()))
    return total + sum(math.lgamma(alpha + count) - math.lgamma(alpha) for count in row.values())


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_known_order_equals_the_ratio_of_evidences(order: int) -> None:
    tokens = Markov(vocab_size=3, order=order, alpha=0.4).batch(1, 40, seed=order).inputs[0].tolist()
    law = DirichletMarkov(vocab_size=3, order=order, alpha=0.4).predict(tokens)
    for t, v in itertools.product(range(40), (1, 2, 3)):
        expected = log_evidence([*tokens[: t + 1], v], order, 3, 0.4) - log_evidence(tokens[: t + 1], order, 3, 0.4)
        assert law[t, v] == pytest.approx(expected, abs=1e-9)


def test_known_order_equals_numerical_integration() -> None:
    """V = 2, order 1: the mean of theta under its posterior, by quadrature over theta."""
    alpha, tokens = 0.7, [1, 2, 2, 1, 2, 1, 1, 1, 2]
    law = np.exp(DirichletMarkov(vocab_size=2, order=1, alpha=alpha).predict(tokens))
    for t, context in enumerate(tokens):
        followers = [b for a, b in itertools.pairwise(tokens[: t + 1]) if a == context]
        ones, twos = followers.count(1), followers.count(2)

        def weighed(theta: float, extra: int, ones: int = ones, twos: int = twos) -> float:
            return theta ** (alpha - 1 + ones + extra) * (1 - theta) ** (alpha - 1 + twos)

        above, below = (scipy.integrate.quad(weighed, 0, 1, args=(extra,))[0] for extra in (1, 0))
        assert law[t, 1] == pytest.approx(above / below, abs=1e-6)


def test_unknown_order_equals_the_sum_over_orders() -> None:
    tokens = Markov(vocab_size=3, order=2, alpha=0.3).batch(1, 60, seed=5).inputs[0].tolist()
    law = np.exp(UnknownOrderMarkov(vocab_size=3, greatest_order=3, alpha=0.3).predict(tokens))

    def mixture(row: list[int]) -> float:
        return sum(math.exp(log_evidence(row, order, 3, 0.3)) for order in range(4))

    for t, v in itertools.product(range(60), (1, 2, 3)):
        assert law[t, v] == pytest.approx(mixture([*tokens[: t + 1], v]) / mixture(tokens[: t + 1]), abs=1e-9)


def test_the_order_is_learned() -> None:
    batch = Markov(vocab_size=4, order=2, alpha=0.3).batch(40, 2000, seed=6)
    known = DirichletMarkov(vocab_size=4, order=2, alpha=0.3).nats(batch.inputs, batch.targets)
    unknown = UnknownOrderMarkov(vocab_size=4, greatest_order=4, alpha=0.3).nats(batch.inputs, batch.targets)
    assert abs(unknown[:, 1000:].mean() - known[:, 1000:].mean()) < 1e-3


# --- context trees ---------------------------------------------------------------------------------------------------


def all_trees(
    symbols: range, depth: int, context: tuple[int, ...] = ()
) -> Iterator[tuple[float, list[tuple[int, ...]]]]:
    """Every tree below a node, with its prior probability and its leaves."""
    if len(context) == depth:
        yield 1.0, [context]
        return
    yield 0.5, [context]
    branches = [list(all_trees(symbols, depth, (*context, symbol))) for symbol in symbols]
    for combination in itertools.product(*branches):
        yield (
            0.5 * math.prod(weight for weight, _ in combination),
            [leaf for _, leaves in combination for leaf in leaves],
        )


def evidence_of_trees(tokens: list[int], depth: int, vocab_size: int, alpha: float) -> float:
    padded = [0] * depth + tokens
    total = 0.0
    for weight, leaves in all_trees(range(vocab_size + 1), depth):
        rows = {leaf: Counter[int]() for leaf in leaves}
        for t in range(depth, len(padded)):
            recent_first = padded[t - depth : t][::-1]
            (leaf,) = [leaf for leaf in leaves if list(leaf) == recent_first[: len(leaf)]]
            rows[leaf][padded[t]] += 1
        total += weight * math.exp(sum(log_row_evidence(row, vocab_size, alpha) for row in rows.values()))
    return total


def test_trees_split_with_probability_one_half() -> None:
    """Two contexts that agree on their last d tokens have one law exactly if the leaf is no deeper than d."""
    family = ContextTreeSource(vocab_size=3, depth=3)
    n_languages = 2000
    for agreeing, expected in [(0, 1 / 2), (1, 3 / 4), (2, 7 / 8), (3, 1.0)]:
        ending = [2] * agreeing
        share = np.mean(
            [
                np.array_equal(language.predict([1, 1, 1, *ending])[-1], language.predict([3, 3, 3, *ending])[-1])
                for language in (family.draw(seed=0, row=row) for row in range(n_languages))
            ]
        )
        assert abs(share - expected) <= 4 * math.sqrt(expected * (1 - expected) / n_languages)


def test_leaves_are_dirichlet() -> None:
    """E theta_v = 1 / V and E sum theta_v^2 = (alpha + 1) / (alpha V + 1)."""
    for alpha in (0.1, 2.0):
        family = ContextTreeSource(vocab_size=4, depth=1, alpha=alpha)
        rows = np.exp([family.draw(seed=1, row=row).predict([2])[0, 1:] for row in range(3000)])
        squares = (rows**2).sum(axis=1)
        assert np.all(np.abs(rows.mean(axis=0) - 1 / 4) <= 4 * rows.std(axis=0) / math.sqrt(3000))
        assert abs(squares.mean() - (alpha + 1) / (4 * alpha + 1)) <= 4 * squares.std() / math.sqrt(3000)


def test_a_context_tree_s_rows_follow_its_law() -> None:
    language = ContextTreeSource(vocab_size=3, depth=2, alpha=0.5).draw(seed=5)
    batch = language.batch(4000, 4, seed=0, floor=True)
    np.testing.assert_allclose(language.nats(batch.inputs, batch.targets), batch.floor_nats, rtol=1e-6)
    first = np.exp([language.input_log_probs([v])[0] for v in (1, 2, 3)])
    assert first.sum() == pytest.approx(1.0)
    surprise = np.eye(4)[batch.targets] - np.exp(language.predict(batch.inputs))
    starts = np.eye(3)[batch.inputs[:, 0] - 1] - first
    for deviation in (surprise[:, :, 1:], starts):
        error = deviation.std(axis=0) / math.sqrt(4000)
        assert np.all(np.abs(deviation.mean(axis=0)) <= 4 * error + 1e-9)


@pytest.mark.parametrize(("depth", "alpha"), [(0, 0.5), (1, 0.5), (2, 0.5), (2, 0.2), (3, 1.0)])
def test_context_tree_weighting_equals_the_sum_over_all_trees(depth: int, alpha: float) -> None:
    tokens = ContextTreeSource(vocab_size=2, depth=depth, alpha=alpha).batch(1, 12, seed=depth).inputs[0].tolist()
    law = np.exp(ContextTreeWeighting(vocab_size=2, depth=depth, alpha=alpha).predict(tokens))
    evidences = [evidence_of_trees(tokens[: t + 1], depth, 2, alpha) for t in range(12)]
    for t, v in itertools.product(range(12), (1, 2)):
        expected = evidence_of_trees([*tokens[: t + 1], v], depth, 2, alpha) / evidences[t]
        assert law[t, v] == pytest.approx(expected, abs=1e-9)


def log_weighted_evidence(counts: dict[tuple[int, ...], Counter[int]], context: tuple[int, ...], depth: int) -> float:
    """Willems' block recursion: P_w = 1/2 P_e + 1/2 prod_children P_w, with P_e from the counts alone; alpha = 1/2."""
    own = log_row_evidence(counts[context], 2, 0.5)
    if len(context) == depth:
        return own
    children = [(*context, symbol) for symbol in range(3) if (*context, symbol) in counts]
    below = sum(log_weighted_evidence(counts, child, depth) for child in children)
    return float(np.logaddexp(own, below) - math.log(2))


def test_context_tree_weighting_stays_exact_for_a_hundred_thousand_tokens() -> None:
    """After a long certain half, a share kept as a plain number has rounded to one, and cannot come back."""
    half, depth = 50_000, 4
    certain = np.tile([1, 1, 2], half // 3 + 1)[:half]
    tokens = np.concatenate([certain, np.random.default_rng(0).integers(1, 3, half)]).tolist()
    law = ContextTreeWeighting(vocab_size=2, depth=depth, alpha=0.5).predict(tokens)
    np.testing.assert_allclose(np.exp(law).sum(axis=1), 1.0, rtol=0, atol=1e-12)
    log_probs = law[np.arange(2 * half - 1), tokens[1:]]

    padded = [0] * depth + tokens
    counts: dict[tuple[int, ...], Counter[int]] = {}
    for t in range(len(tokens)):
        for d in range(depth + 1):
            counts.setdefault(tuple(padded[t + depth - d : t + depth][::-1]), Counter())[tokens[t]] += 1
    expected = log_weighted_evidence(counts, (), depth)
    assert log_probs.sum() - math.log(2) == pytest.approx(expected, abs=1e-6)


def test_masked_inputs_are_contexts_but_not_counted() -> None:
    predictor = DirichletMarkov(vocab_size=2, order=0, alpha=1.0, bound=True)
    np.testing.assert_allclose(np.exp(predictor.predict([1, 0, 0, 1]))[:, 1], [2 / 3, 2 / 3, 2 / 3, 3 / 4])


# --- pools -----------------------------------------------------------------------------------------------------------


def joint_by_paths(language: MetaLMv1Language, inputs: list[int], following: int) -> float:
    """P(inputs, following clean token) by listing every sequence of elements long enough."""
    elements = [[*element.tolist()] for element in language.elements]
    separator = language.family.separator_id
    ending = [] if separator is None else [separator]
    total, shortest = 0.0, min(map(len, elements)) + len(ending)
    n_needed = -(-(len(inputs) + 1) // shortest)
    for choice in itertools.product(elements, repeat=n_needed):
        clean = [token for element in choice for token in [*element, *ending]]
        if clean[len(inputs)] != following:
            continue
        product = len(elements) ** -float(n_needed)
        for read, token in zip(inputs, clean, strict=False):
            if token == separator or read == separator:
                product *= float(token == read)
            else:
                product *= channel(language.family, read, token)
        total += product
    return total


@pytest.mark.parametrize("separator", [True, False])
def test_a_pool_equals_the_sum_over_its_languages(separator: bool) -> None:
    family = MetaLMv1(vocab_size=2, n_elements=2, element_length=3, error_rate=0.2, separator=separator)
    languages = [family.draw(seed) for seed in range(4)]
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    pool = FinitePool(languages, 10 * weights)
    inputs = pool.batch(2, 9, seed=3).inputs
    law = np.exp(pool.predict(inputs))
    for row, t in itertools.product(range(2), range(9)):
        read = inputs[row, : t + 1].tolist()
        joint = [
            sum(w * joint_by_paths(language, read, v) for w, language in zip(weights, languages, strict=True))
            for v in range(1, family.n_tokens)
        ]
        np.testing.assert_allclose(law[row, t, 1:], np.array(joint) / sum(joint), rtol=0, atol=1e-9)


def test_a_pool_starts_anew_where_nothing_explains_the_input() -> None:
    family = MetaLMv1(vocab_size=3, n_elements=1, element_length=3, error_rate=0.0)
    one, two = (MetaLMv1Language.from_elements(family, [[v] * 3]) for v in (1, 2))
    law = np.exp(FinitePool([one, two], [1, 3]).predict([1, 1, 3, 2]))
    np.testing.assert_allclose(law[0], [0, 1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(law[2], [0, 0.25, 0.75, 0], atol=1e-12)
    np.testing.assert_allclose(law[3], [0, 0, 1, 0], atol=1e-12)


def test_a_pool_of_one_is_the_known_language() -> None:
    language = Markov(vocab_size=4, order=1).draw(seed=0)
    batch = language.batch(3, 50, seed=0)
    expected = KnownLanguage(language).nats(batch.inputs, batch.targets)
    np.testing.assert_allclose(FinitePool([language]).nats(batch.inputs, batch.targets), expected, rtol=1e-6)
    np.testing.assert_allclose(expected, batch.floor_nats, rtol=1e-6)
