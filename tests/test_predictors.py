"""One suite for every registered predictor: what the contract of `xenoglot.predictors.base` promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xenoglot import languages, predictors
from xenoglot.errors import DataError, OptionError, UnknownNameError
from xenoglot.languages.base import Family
from xenoglot.languages.metalm_v1 import MetaLMv1
from xenoglot.predictors import ContextTreeWeighting, DirichletMarkov, FinitePool, UnknownOrderMarkov
from xenoglot.predictors.base import Predictor, Prior
from xenoglot.predictors.dirichlet import MarkovOfAnyOrder

EXAMPLES = [
    pytest.param(example, id=f"{name}-{index}")
    for name in predictors.names()
    for index, example in enumerate(predictors.get(name).examples())
]
every_predictor = pytest.mark.parametrize("predictor", EXAMPLES)
few_examples = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def any_tokens(draw: st.DrawFn, n_tokens: int) -> np.ndarray:
    """Ids in any order: sensible or not, a predictor must read them."""
    n_rows, length = draw(st.integers(1, 3)), draw(st.integers(1, 24))
    ids = draw(st.lists(st.integers(0, n_tokens - 1), min_size=n_rows * length, max_size=n_rows * length))
    return np.array(ids, np.int32).reshape(n_rows, length)


def rows_of(predictor: Predictor, n_rows: int, length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the predictor's own prior, or of ids if it has none."""
    if predictor.prior is None:
        ids = np.random.default_rng(seed).integers(0, predictor.n_tokens, (2, n_rows, length))
        return ids[0].astype(np.int32), ids[1].astype(np.int32)
    batch = predictor.prior.batch(n_rows, length, seed)
    return batch.inputs, batch.targets


def test_the_issue_s_predictors_are_found_by_name() -> None:
    expected = {
        "context-tree-weighting",
        "dirichlet-markov",
        "finite-pool",
        "known-language",
        "unknown-elements",
        "unknown-order-markov",
    }
    assert expected <= set(predictors.names())
    with pytest.raises(UnknownNameError, match="Did you mean 'unknown-elements'"):
        predictors.get("unknown-element")


@every_predictor
def test_it_says_what_it_is(predictor: Predictor) -> None:
    assert predictor.exactness in {"exact", "near-exact", "bound"}
    assert (predictor.prior is None) == (predictor.exactness == "bound")
    assert len(predictor.method) > 10


@every_predictor
@given(data=st.data())
@few_examples
def test_laws_sum_to_one_whatever_is_read(predictor: Predictor, data: st.DataObject) -> None:
    inputs = data.draw(any_tokens(predictor.n_tokens))
    log_probs_BLV = predictor.predict(inputs)
    assert log_probs_BLV.shape == (*inputs.shape, predictor.n_tokens)
    assert log_probs_BLV.dtype == np.float64
    np.testing.assert_allclose(np.exp(log_probs_BLV).sum(axis=2), 1.0, rtol=0, atol=1e-9)
    assert np.all(log_probs_BLV[:, :, 0] == -np.inf), "MASK is never a target"


@every_predictor
@given(data=st.data())
@few_examples
def test_nats_are_the_law_of_the_target(predictor: Predictor, data: st.DataObject) -> None:
    inputs = data.draw(any_tokens(predictor.n_tokens))
    targets = np.roll(inputs, 1)
    nats = predictor.nats(inputs, targets)
    assert nats.shape == inputs.shape
    assert nats.dtype == np.float32
    expected = -np.take_along_axis(predictor.predict(inputs), targets[..., None], axis=2)[..., 0]
    is_possible = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(nats), is_possible)
    np.testing.assert_allclose(nats[is_possible], expected[is_possible], rtol=2e-6, atol=2e-6)


@every_predictor
@given(data=st.data())
@few_examples
def test_later_inputs_change_nothing_earlier(predictor: Predictor, data: st.DataObject) -> None:
    inputs = data.draw(any_tokens(predictor.n_tokens))
    cut = data.draw(st.integers(0, inputs.shape[1] - 1))
    changed = inputs.copy()
    changed[:, cut + 1 :] = (changed[:, cut + 1 :] + 1) % predictor.n_tokens
    np.testing.assert_array_equal(predictor.predict(inputs)[:, : cut + 1], predictor.predict(changed)[:, : cut + 1])
    np.testing.assert_array_equal(
        predictor.nats(inputs, inputs)[:, : cut + 1], predictor.nats(inputs[:, : cut + 1], inputs[:, : cut + 1])
    )


@every_predictor
def test_a_row_does_not_depend_on_its_batch(predictor: Predictor) -> None:
    inputs, targets = rows_of(predictor, 5, 40, seed=3)
    together, law = predictor.nats(inputs, targets), predictor.predict(inputs)
    for row in range(5):
        np.testing.assert_array_equal(predictor.nats(inputs[row], targets[row]), together[row])
        np.testing.assert_array_equal(predictor.predict(inputs[row : row + 1])[0], law[row])


@every_predictor
def test_unusable_tokens_are_refused(predictor: Predictor) -> None:
    with pytest.raises(DataError, match="inputs"):
        predictor.predict([[predictor.n_tokens]])
    with pytest.raises(DataError, match="targets"):
        predictor.nats([[1, 1]], [[1, -1]])
    with pytest.raises(DataError, match="shape"):
        predictor.nats([[1, 1]], [[1]])
    with pytest.raises(DataError, match="inputs"):
        predictor.nats([[0.5]], [[1]])


# --- generator and predictor share one prior --------------------------------------------------------------------------


class Uniform(Predictor):
    """A learner who never learns."""

    def __init__(self, n_tokens: int) -> None:
        self._n_tokens = n_tokens

    n_tokens = property(lambda self: self._n_tokens)
    exactness = property(lambda self: "bound")
    method = property(lambda self: "every word alike")
    prior = property(lambda self: None)

    @classmethod
    def examples(cls) -> list[Predictor]:
        return [cls(4)]

    def _predict(self, inputs: np.ndarray) -> np.ndarray:
        log_probs = np.full((*inputs.shape, self._n_tokens), -np.log(self._n_tokens - 1.0))
        log_probs[:, :, 0] = -np.inf
        return log_probs


def rivals_of(predictor: Predictor) -> list[Predictor]:
    """Other learners that can read the same rows."""
    n_words = predictor.n_tokens - 1
    rivals = [FinitePool.of(predictor.prior, 60, seed=99)] if isinstance(predictor.prior, Family) else []
    return [
        *rivals,
        Uniform(predictor.n_tokens),
        DirichletMarkov(vocab_size=n_words, order=0, alpha=1.0, bound=True),
        DirichletMarkov(vocab_size=n_words, order=1, alpha=0.25, bound=True),
        UnknownOrderMarkov(vocab_size=n_words, greatest_order=2, alpha=1.0, bound=True),
        ContextTreeWeighting(vocab_size=n_words, depth=2, alpha=0.5, bound=True),
        ContextTreeWeighting(vocab_size=n_words, depth=3, alpha=0.3, bound=True),
    ]


@every_predictor
def test_no_other_learner_loses_less_on_its_prior(predictor: Predictor) -> None:
    if predictor.prior is None:
        pytest.skip("a bound has no prior of its own")
    inputs, targets = rows_of(predictor, 1500, 32, seed=11)
    own_nats = predictor.nats(inputs, targets)
    for rival in rivals_of(predictor):
        rival_nats = np.minimum(rival.nats(inputs, targets), 50.0)  # a pool may think the truth impossible
        gain = (own_nats - rival_nats).astype(np.float64)
        error = gain.std(axis=0) / np.sqrt(len(gain))
        assert np.all(gain.mean(axis=0) <= 3.0 * error + 1e-6), rival.method


@every_predictor
def test_targets_come_as_often_as_it_says(predictor: Predictor) -> None:
    """E[sum_v g(v) (1[y = v] - p(v))] = 0 for any g that is a function of what was read: here, any learner's law."""
    if predictor.prior is None:
        pytest.skip("a bound has no prior of its own")
    inputs, targets = rows_of(predictor, 4000, 12, seed=12)
    law = np.exp(predictor.predict(inputs))
    surprise = np.eye(predictor.n_tokens)[targets] - law
    assert np.all(np.take_along_axis(law, targets[..., None], axis=2) > 0), "what the prior generates is possible"
    for learner in [predictor, *rivals_of(predictor)]:
        score = (np.exp(learner.predict(inputs)) * surprise).sum(axis=2)
        error = score.std(axis=0) / np.sqrt(len(score))
        assert np.all(np.abs(score.mean(axis=0)) <= 4.0 * error + 1e-9), learner.method


def channel_of(prior: Prior, n_tokens: int) -> np.ndarray:
    """P(read | clean), [clean, read]: the identity but for MetaLM-1, whose words are disturbed."""
    channel = np.eye(n_tokens)
    family = getattr(prior, "family", prior)
    if isinstance(family, MetaLMv1):
        words, e, m = slice(1, family.vocab_size + 1), family.error_rate, family.mask_ratio
        channel[words, words] *= 1 - e
        channel[words, words] += (1 - np.eye(family.vocab_size)) * e * (1 - m) / (family.vocab_size - 1)
        channel[words, 0] = e * m
    return channel


@pytest.mark.parametrize(
    "predictor", [example for example in EXAMPLES if isinstance(example.values[0].prior, Family | MarkovOfAnyOrder)]
)
def test_its_evidence_is_a_proper_mixture(predictor: Predictor) -> None:
    """For short rows, the mean of Q(x) / P(x) over the prior is 1 for any law Q of rows that P thinks possible.

    Pools and single languages are left out: no other law of rows is sure to be within their support.
    """
    prior = predictor.prior
    assert prior is not None
    inputs, _ = rows_of(predictor, 6000, 6, seed=13)
    channel = channel_of(prior, predictor.n_tokens)

    def probability(learner: Predictor) -> np.ndarray:
        law_of_inputs = np.exp(learner.predict(inputs[:, :-1])) @ channel
        return np.take_along_axis(law_of_inputs, inputs[:, 1:, None], axis=2)[..., 0].prod(axis=1)

    own = probability(predictor)
    for rival in rivals_of(predictor):
        is_within_support = isinstance(rival, FinitePool) or not isinstance(prior, MetaLMv1)
        if is_within_support:
            ratio = probability(rival) / own
            assert abs(ratio.mean() - 1.0) <= 4.0 * ratio.std() / np.sqrt(len(ratio)), rival.method


# --- made for a family -----------------------------------------------------------------------------------------------


def test_a_predictor_made_for_its_family_shares_its_prior() -> None:
    for name, family_name, options in [
        ("unknown-elements", "metalm-v1", {"separator": True}),
        ("dirichlet-markov", "markov", {"order": 2}),
        ("context-tree-weighting", "context-tree", {"depth": 2}),
    ]:
        family = languages.get(family_name)(vocab_size=5, **options)
        assert predictors.get(name).for_family(family).prior == family


@pytest.mark.parametrize("name", ["dirichlet-markov", "unknown-order-markov", "context-tree-weighting"])
def test_a_counting_predictor_bounds_any_family(name: str) -> None:
    family = languages.get("metalm-v1")(vocab_size=6, n_elements=2, element_length=4, separator=True)
    predictor = predictors.get(name).for_family(family)
    assert predictor.exactness == "bound"
    batch = family.batch(4, 200, seed=0)
    nats = predictor.nats(batch.inputs, batch.targets)
    assert nats[:, 100:].mean() < 0.9 * np.log(7)
    assert nats.mean() > batch.floor_nats.mean()


def test_what_a_predictor_cannot_do_is_said() -> None:
    metalm = languages.get("metalm-v1")
    with pytest.raises(OptionError, match="separator: got False"):
        predictors.NoisyRepeats.for_family(metalm(vocab_size=4))
    with pytest.raises(OptionError, match="family"):
        predictors.NoisyRepeats.for_family(languages.get("markov")(vocab_size=4))
    with pytest.raises(OptionError, match="known-language"):
        predictors.KnownLanguage.for_family(metalm(vocab_size=4))
    with pytest.raises(OptionError, match="n_particles: got 0"):
        predictors.NoisyRepeats(family=metalm(separator=True), n_particles=0)
    with pytest.raises(OptionError, match="alpha: got 0"):
        DirichletMarkov(vocab_size=4, alpha=0.0)
    with pytest.raises(DataError, match="languages: got"):
        predictors.FinitePool([])
    pool_members = [metalm(vocab_size=4).draw(0)]
    for weights in ([0.0], [-1.0], [0.5, 0.5], [float("nan")]):
        with pytest.raises(DataError, match="weights"):
            predictors.FinitePool(pool_members, weights)
