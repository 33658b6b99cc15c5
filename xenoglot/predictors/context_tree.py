"""Context tree weighting: Bayes over all context trees at once, at the cost of one path per token."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from xenoglot.languages.base import Family
from xenoglot.languages.context_tree import ContextTreeSource
from xenoglot.options import option
from xenoglot.predictors.base import Predictor
from xenoglot.predictors.counting import EACH_CONTEXT, CountingPredictor

__all__ = ["ContextTreeWeighting"]

BOUND_DEPTH = 4


@dataclass(frozen=True, kw_only=True)
class ContextTreeWeighting(CountingPredictor):
    r"""The Bayes predictor of random context trees; elsewhere a universal learner that bounds the best loss.

    For the nodes s of the current context, from the deepest to the root,

    .. math::
        p_s(v) = \beta_s \, p_{child}(v) + (1 - \beta_s) \frac{N_s(v) + \alpha}{N_s + \alpha V}, \qquad
        \beta_s \leftarrow \beta_s \, p_{child}(x) / p_s(x),

    where beta_s, at first 1/2, is the posterior probability that s splits, and 0 at depth D. The prediction is that of
    the root. Before the row there stands MASK, in the generator as here. The betas are kept as log-odds, so that none
    is lost to rounding however long the row; a token costs O(D), a whole law O(D V).

    Source: Willems, Shtarkov and Tjalkens, "The context-tree weighting method", IEEE Trans. Inf. Theory 41(3), 1995;
    the incremental form by betas follows from their recursion by dividing it by itself one token earlier. Where we
    differ: any alphabet and alpha, and only the nodes that were met are kept.

    Args:
        vocab_size: Tokens 1..V.
        depth: The longest context, D; 3 unless given.
        alpha: Concentration of each leaf's prior; 1 unless given. 1 / V suits large vocabularies.
        bound: Whether it reads languages of another prior.

    Example:
        >>> predictor = ContextTreeWeighting(vocab_size=2, depth=2, alpha=0.5)
        >>> nats = predictor.nats([1, 2] * 50, [2, 1] * 50)
        >>> bool(nats[0] > 0.6), bool(nats[-1] < 0.02)
        (True, True)
    """

    name: ClassVar[str] = "context-tree-weighting"
    aliases: ClassVar[tuple[str, ...]] = ("ctw",)
    depth_law: ClassVar[int] = EACH_CONTEXT

    depth: int = option(3, "the longest context, D", unit="tokens", minimum=0, maximum=1000)

    @property
    def greatest_depth(self) -> int:
        return self.depth

    @property
    def method(self) -> str:
        return f"context tree weighting to depth {self.depth}"

    @property
    def prior(self) -> ContextTreeSource | None:
        if self.bound:
            return None
        return ContextTreeSource(vocab_size=self.vocab_size, depth=self.depth, alpha=self.alpha)

    @classmethod
    def for_family(cls, family: Family) -> Self:
        if isinstance(family, ContextTreeSource):
            return cls(vocab_size=family.vocab_size, depth=family.depth, alpha=family.alpha)
        n_words = family.n_tokens - 1
        return cls(vocab_size=n_words, depth=BOUND_DEPTH, alpha=1.0 / n_words, bound=True)

    @classmethod
    def examples(cls) -> Iterable[Predictor]:
        for depth in (0, 1, 3):
            yield cls(vocab_size=3, depth=depth, alpha=0.5)
