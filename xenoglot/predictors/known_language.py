"""The floor as a predictor: one who knows the language and only has to follow it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from xenoglot.languages.base import Floats, Language, Nats, Tokens
from xenoglot.languages.markov import Markov
from xenoglot.languages.metalm_v1 import MetaLMv1
from xenoglot.predictors.base import Exactness, Predictor

__all__ = ["KnownLanguage"]


class KnownLanguage(Predictor):
    """The predictor that knows the language: nobody can lose less on average.

    Args:
        language: What it knows.

    Example:
        >>> language = MetaLMv1(vocab_size=4, n_elements=2, element_length=3).draw(seed=0)
        >>> batch = language.batch(batch_size=1, length=8, seed=0)
        >>> bool((abs(KnownLanguage(language).nats(batch.inputs, batch.targets) - batch.floor_nats) < 1e-6).all())
        True
    """

    name: ClassVar[str] = "known-language"

    def __init__(self, language: Language) -> None:
        self.language = language

    @property
    def n_tokens(self) -> int:
        return self.language.family.n_tokens

    @property
    def exactness(self) -> Exactness:
        return "exact"

    @property
    def method(self) -> str:
        return "the language's own law"

    @property
    def prior(self) -> Language:
        return self.language

    @classmethod
    def examples(cls) -> Iterable[Predictor]:
        for separator in (True, False):
            yield cls(MetaLMv1(vocab_size=4, n_elements=3, element_length=4, separator=separator).draw(seed=1))
        yield cls(Markov(vocab_size=3, order=1, alpha=0.5).draw(seed=1))

    def _predict(self, inputs: Tokens) -> Floats:
        return self.language.predict(inputs)

    def _nats(self, inputs: Tokens, targets: Tokens) -> Nats:
        return self.language.nats(inputs, targets)
