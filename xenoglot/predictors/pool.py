"""Bayes over a finite pool of languages of any one family: a learner who knows the pool, but not which one it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from xenoglot.errors import DataError
from xenoglot.languages.base import Batch, Family, Floats, Language, Nats, Tokens
from xenoglot.languages.markov import Markov
from xenoglot.languages.metalm_v1 import MetaLMv1
from xenoglot.options import whole_number
from xenoglot.predictors.base import Exactness, Predictor, batch_of_rows
from xenoglot.rng import generator

__all__ = ["FinitePool"]


class FinitePool(Predictor):
    r"""The Bayes predictor of a learner who knows that the row is in one of K languages.

    .. math::
        p(v) = \sum_k w_{k,t} \, p_k(v \mid x_{\leq t}), \qquad
        w_{k,t} \propto \pi_k \exp \sum_{s \leq t} \ln p_k(x_s \mid x_{<s})

    The evidence is about what is read, the prediction about the target, so it is exact for MetaLM-1 too, whose targets
    are never shown. All in logarithms; O(K) times the cost of one language. An input that none of the languages still
    believed in can produce is no evidence: the weights start anew at the prior.

    Args:
        languages: The pool, all of one family (or with as many ids).
        weights: Their prior probabilities, in proportion; equal unless given.

    Raises:
        DataError: If the pool is empty, its languages have different numbers of ids, or the weights are not as many
            numbers that are at least 0 and not all 0.

    Example:
        >>> pool = FinitePool.of(Markov(vocab_size=4, alpha=0.3), n_languages=8, seed=0)
        >>> batch = pool.batch(batch_size=4, length=64, seed=0)
        >>> excess_nats = pool.nats(batch.inputs, batch.targets) - batch.floor_nats
        >>> bool(excess_nats[:, :4].mean() > 0.1), bool(abs(excess_nats[:, 48:].mean()) < 0.01)
        (True, True)
    """

    name: ClassVar[str] = "finite-pool"

    def __init__(self, languages: Sequence[Language], weights: ArrayLike | None = None) -> None:
        self.languages = list(languages)
        if len({language.family.n_tokens for language in self.languages}) != 1:
            counts = [language.family.n_tokens for language in self.languages]
            raise DataError(
                f"languages: got {counts} as their numbers of ids; allowed: at least one, and all the same."
            )
        shares = np.ones(len(self.languages)) if weights is None else np.asarray(weights, dtype=np.float64)
        if (
            shares.shape != (len(self.languages),)
            or not np.all(np.isfinite(shares) & (shares >= 0))
            or not shares.any()
        ):
            raise DataError(
                f"weights: got {weights!r}; allowed: {len(self.languages)} numbers of at least 0, not all of them 0."
            )
        self.weights: Floats = shares / shares.sum()

    @classmethod
    def of(cls, family: Family, n_languages: int, seed: int) -> Self:
        """Make a pool of the family's languages ``family.draw(seed, row)`` for row 0 to ``n_languages`` - 1.

        Args:
            family: Where the languages come from.
            n_languages: How many, K: the diversity of what was learned.
            seed: 0 to 2^63 - 1.
        """
        return cls([family.draw(seed, row) for row in range(whole_number("n_languages", n_languages, minimum=1))])

    @property
    def n_tokens(self) -> int:
        return self.languages[0].family.n_tokens

    @property
    def exactness(self) -> Exactness:
        return "exact"

    @property
    def method(self) -> str:
        return f"Bayes over {len(self.languages)} known languages"

    @property
    def prior(self) -> FinitePool:
        return self

    @classmethod
    def examples(cls) -> Iterable[Predictor]:
        yield cls.of(MetaLMv1(vocab_size=3, n_elements=2, element_length=3, error_rate=0.2, separator=True), 4, seed=1)
        yield cls.of(MetaLMv1(vocab_size=3, n_elements=2, element_length=3, error_rate=0.0), 3, seed=2)
        yield cls([Markov(vocab_size=3, alpha=0.5).draw(seed) for seed in range(3)], weights=[1, 2, 3])

    def batch(self, batch_size: int, length: int, seed: int, start: int = 0) -> Batch:
        """Generate rows, each in a language drawn by its weight; the arguments are those of `Family.batch`."""

        def draw(row: int) -> Language:
            return self.languages[int(generator(seed, "pool", row).choice(len(self.languages), p=self.weights))]

        return batch_of_rows(draw, batch_size, length, seed, start)

    def _predict(self, inputs: Tokens) -> Floats:
        return self._mix(inputs, lambda language: language.predict(inputs))

    def _nats(self, inputs: Tokens, targets: Tokens) -> Nats:
        def log_probs_of_targets(language: Language) -> Floats:
            return np.take_along_axis(language.predict(inputs), targets[..., None], axis=2)[..., 0]

        return -self._mix(inputs, log_probs_of_targets).astype(np.float32)

    def _mix(self, inputs: Tokens, log_probs_under: Callable[[Language], Floats]) -> Floats:
        """Return ln sum_k w_k p_k, one language at a time, so that memory does not grow with the pool."""
        log_weights_KBL = self._log_weights(inputs)
        mixed: Floats | None = None
        for language, log_weights_BL in zip(self.languages, log_weights_KBL, strict=True):
            log_probs = log_probs_under(language)
            weighed = log_weights_BL.reshape(inputs.shape + (1,) * (log_probs.ndim - 2)) + log_probs
            mixed = weighed if mixed is None else np.logaddexp(mixed, weighed)
        assert mixed is not None
        return mixed

    def _log_weights(self, inputs: Tokens) -> Floats:
        """Return ln w after each token, float64 [K, B, L]."""
        log_probs_KBL = np.stack([language.input_log_probs(inputs) for language in self.languages])
        with np.errstate(divide="ignore"):
            log_prior_K1 = np.log(self.weights)[:, None]
        log_weights_KB = np.broadcast_to(log_prior_K1, log_probs_KBL.shape[:2])
        for t in range(inputs.shape[1]):
            joint_KB = log_weights_KB + log_probs_KBL[:, :, t]
            total_B = np.logaddexp.reduce(joint_KB, axis=0)
            is_possible_B = total_B > -np.inf
            log_weights_KB = np.where(is_possible_B, joint_KB - np.where(is_possible_B, total_B, 0.0), log_prior_K1)
            log_probs_KBL[:, :, t] = log_weights_KB
        return log_probs_KBL
