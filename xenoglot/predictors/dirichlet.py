"""Markov languages for a learner who knows neither table nor, perhaps, order: Bayes with a Dirichlet prior."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from xenoglot.languages.base import Batch, Family, Language
from xenoglot.languages.markov import Markov
from xenoglot.options import option
from xenoglot.predictors.base import Predictor, batch_of_rows
from xenoglot.predictors.counting import DEEPEST, ONE_FOR_ALL, CountingPredictor
from xenoglot.rng import generator

__all__ = ["DirichletMarkov", "MarkovOfAnyOrder", "UnknownOrderMarkov"]


@dataclass(frozen=True, kw_only=True)
class DirichletMarkov(CountingPredictor):
    r"""The Bayes predictor of order-k Markov languages with Dirichlet rows.

    .. math::
        p(v \mid c) = \frac{N(c, v) + \alpha}{N(c) + \alpha V}

    for the context c of the last k tokens, where N counts what followed it so far; uniform over 1..V as long as there
    are fewer than k tokens, exactly as `Markov` draws them.

    Source: Dirichlet-multinomial conjugacy; as a yardstick for in-context learning, Edelman et al., arXiv 2402.11004,
    whose initial tokens come from the stationary law instead, so that add-one counting is only nearly exact there.

    Args:
        vocab_size: Tokens 1..V.
        order: How many tokens back it looks, k; 1 unless given.
        alpha: Concentration of each row's prior; 1 unless given.
        bound: Whether it reads languages of another prior.

    Example:
        >>> predictor = DirichletMarkov(vocab_size=2, order=1, alpha=1.0)
        >>> nats = predictor.nats([1, 1, 1], [1, 1, 2])
        >>> [f"{loss:.4f}" for loss in nats]   # -ln 1/2, -ln 2/3, -ln 1/4
        ['0.6931', '0.4055', '1.3863']
    """

    name: ClassVar[str] = "dirichlet-markov"
    depth_law: ClassVar[int] = DEEPEST

    order: int = option(1, "how many tokens back it looks, k", unit="tokens", minimum=0, maximum=62)

    @property
    def greatest_depth(self) -> int:
        return self.order

    @property
    def method(self) -> str:
        return f"Dirichlet counts of what followed the last {self.order} tokens"

    @property
    def prior(self) -> Markov | None:
        return None if self.bound else Markov(vocab_size=self.vocab_size, order=self.order, alpha=self.alpha)

    @classmethod
    def for_family(cls, family: Family) -> Self:
        if isinstance(family, Markov):
            return cls(vocab_size=family.vocab_size, order=family.order, alpha=family.alpha)
        return cls(vocab_size=family.n_tokens - 1, alpha=1.0 / (family.n_tokens - 1), bound=True)

    @classmethod
    def examples(cls) -> Iterable[Predictor]:
        for order in (0, 1, 2):
            yield cls(vocab_size=3, order=order, alpha=0.5)


@dataclass(frozen=True, kw_only=True)
class UnknownOrderMarkov(CountingPredictor):
    r"""The Bayes predictor of Markov languages whose order is one of 0..K, each as likely as the others.

    .. math::
        p(v) = \sum_k w_k \, p_k(v), \qquad w_k \propto \prod_{s \leq t} p_k(x_s \mid x_{<s}),

    with p_k the `DirichletMarkov` predictor of order k; the weights are kept as logarithms.

    Source: Bayesian model averaging; each order's evidence is the Dirichlet-multinomial one of `DirichletMarkov`.

    Args:
        vocab_size: Tokens 1..V.
        greatest_order: The longest order thought possible, K; 3 unless given.
        alpha: Concentration of each row's prior; 1 unless given.
        bound: Whether it reads languages of another prior.

    Example:
        >>> predictor = UnknownOrderMarkov(vocab_size=2, greatest_order=1)
        >>> nats = predictor.nats([1, 1], [1, 1])
        >>> [f"{loss:.4f}" for loss in nats]   # -ln (1/2 2/3 + 1/2 1/2), -ln (4/7 3/4 + 3/7 2/3)
        ['0.5390', '0.3365']
    """

    name: ClassVar[str] = "unknown-order-markov"
    depth_law: ClassVar[int] = ONE_FOR_ALL

    greatest_order: int = option(3, "the longest order thought possible, K", unit="tokens", minimum=0, maximum=62)

    @property
    def greatest_depth(self) -> int:
        return self.greatest_order

    @property
    def method(self) -> str:
        return f"Dirichlet counts, weighted by the evidence for each order from 0 to {self.greatest_order}"

    @property
    def prior(self) -> MarkovOfAnyOrder | None:
        if self.bound:
            return None
        return MarkovOfAnyOrder(
            [Markov(vocab_size=self.vocab_size, order=k, alpha=self.alpha) for k in range(self.greatest_order + 1)]
        )

    @classmethod
    def for_family(cls, family: Family) -> Self:
        alpha = family.alpha if isinstance(family, Markov) else 1.0 / (family.n_tokens - 1)
        return cls(vocab_size=family.n_tokens - 1, alpha=alpha, bound=True)

    @classmethod
    def examples(cls) -> Iterable[Predictor]:
        yield cls(vocab_size=3, greatest_order=2, alpha=0.5)


class MarkovOfAnyOrder:
    """Rows of Markov languages whose order is drawn first, uniformly: the prior of `UnknownOrderMarkov`.

    Args:
        families: One for each order.
    """

    def __init__(self, families: list[Markov]) -> None:
        self.families = families

    def batch(self, batch_size: int, length: int, seed: int, start: int = 0) -> Batch:
        """Generate rows, each of its own order and language; the arguments are those of `Family.batch`."""

        def draw(row: int) -> Language:
            order = int(generator(seed, "order", row).integers(len(self.families)))
            return self.families[order].draw(seed, row)

        return batch_of_rows(draw, batch_size, length, seed, start)
