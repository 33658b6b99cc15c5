"""The contract of reference predictors: what the best learner could do, position by position.

A predictor reads a row and gives, after every token, the law of the next target. It knows what a learner may know: a
family's prior, or less. Against it, a model's loss has a meaning: what it loses above an exact predictor of the
family's own prior is what it failed to learn.

Shapes: B rows, L tokens of a row, V = ``n_tokens`` ids. Losses are in nats.

```python
family = xenoglot.languages.get("metalm-v1")(vocab_size=16, n_elements=4, element_length=8, separator=True)
predictor = xenoglot.predictors.get("unknown-elements").for_family(family)
batch = family.batch(batch_size=32, length=256, seed=0)
excess_nats = predictor.nats(batch.inputs, batch.targets) - batch.floor_nats   # what not knowing the language costs
```
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar, Literal, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from xenoglot.errors import DataError, OptionError
from xenoglot.languages.base import Batch, Family, Floats, Language, Languages, Nats, Tokens, checked_tokens, first_row

__all__ = ["Exactness", "Predictor", "Prior", "batch_of_rows"]

Exactness: TypeAlias = Literal["exact", "near-exact", "bound"]


class Prior(Protocol):
    """A distribution over rows: a `Family`, one `Language`, or a mixture of either."""

    def batch(self, batch_size: int, length: int, seed: int, start: int = 0) -> Batch:
        """Generate rows, as `Family.batch` does."""
        ...


class Predictor(ABC):
    """What a learner could do at best, given what it knows.

    To add a predictor, put one file into ``xenoglot/predictors/`` (or anywhere on the path): a class with a ``name``,
    the properties below, `_predict`, and `examples` for the shared tests. If ``_predict`` is slow beside what a single
    target needs, override `_nats` too.
    """

    name: ClassVar[str]
    """What the predictor is called, with its version: changed behaviour is a new name."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Short names, understood wherever ``name`` is."""

    @property
    @abstractmethod
    def n_tokens(self) -> int:
        """How many ids there are, V: the ``n_tokens`` of the families that it can read."""

    @property
    @abstractmethod
    def exactness(self) -> Exactness:
        """What its losses are, on rows drawn from ``prior``.

        ``"exact"``: those of the Bayes predictor. ``"near-exact"``: those but for the approximation that ``method``
        names. ``"bound"``: of a learner with another prior, so that the best possible loses no more on average.
        """

    @property
    @abstractmethod
    def method(self) -> str:
        """How it computes them, in words."""

    @property
    @abstractmethod
    def prior(self) -> Prior | None:
        """Where rows come from that have exactly the law it assumes; None for a bound."""

    @classmethod
    @abstractmethod
    def examples(cls) -> Iterable[Predictor]:
        """Return small instances, which the shared tests put through this contract."""

    @classmethod
    def for_family(cls, family: Family) -> Self:
        """Return the predictor for a learner who knows the family but not the language; a bound if need be.

        Raises:
            OptionError: If it has nothing to say about languages of this family.
        """
        raise OptionError("family", family, f"none: {cls.name} is not made from a family alone")

    @abstractmethod
    def _predict(self, inputs: Tokens) -> Floats:
        """Return ln p(target | inputs so far), float64 [B, L, V], for checked inputs [B, L]."""

    def _nats(self, inputs: Tokens, targets: Tokens) -> Nats:
        """Return -ln p(target | inputs so far), float32 [B, L], for checked tokens [B, L]."""
        log_probs_BLV = self._predict(inputs)
        return -np.take_along_axis(log_probs_BLV, targets[..., None], axis=2)[..., 0].astype(np.float32)

    def predict(self, inputs: ArrayLike) -> Floats:
        """Return log-probabilities of the next target.

        Args:
            inputs: Whole numbers [B, L] (or [L]) from 0 to ``n_tokens`` - 1.

        Returns:
            float64 [B, L, V] (or [L, V]): ln p(target_t = v | inputs_0..t), indexed by id; minus infinity where v
            cannot come. Entry t depends on nothing after t, and a row on no other row.

        Raises:
            DataError: If the inputs are not ids of the predictor.
        """
        tokens = checked_tokens(inputs, self.n_tokens, "inputs")
        log_probs = self._predict(np.atleast_2d(tokens))
        return log_probs if tokens.ndim == 2 else log_probs[0]

    def nats(self, inputs: ArrayLike, targets: ArrayLike) -> Nats:
        """Return -ln p(target_t | inputs_0..t), float32 in the shape of ``inputs``.

        Args:
            inputs: Whole numbers [B, L] (or [L]) from 0 to ``n_tokens`` - 1: all that is learned from.
            targets: Whole numbers of the same shape: only looked up, never learned from.

        Raises:
            DataError: If inputs or targets are not ids of the predictor, or their shapes differ.
        """
        tokens = checked_tokens(inputs, self.n_tokens, "inputs")
        answers = checked_tokens(targets, self.n_tokens, "targets")
        if answers.shape != tokens.shape:
            raise DataError(f"targets: got shape {answers.shape}; allowed: that of inputs, {tokens.shape}.")
        nats = self._nats(np.atleast_2d(tokens), np.atleast_2d(answers))
        return nats if tokens.ndim == 2 else nats[0]


def batch_of_rows(draw: Callable[[int], Language], batch_size: int, length: int, seed: int, start: int) -> Batch:
    """Generate rows each of which says for itself what language it is in.

    Args:
        draw: The language of a row, by the row's number: a pure function.
        batch_size: Rows, B.
        length: Tokens a row, L.
        seed: 0 to 2^63 - 1.
        start: The first row's number.
    """
    first, n_rows = first_row(start, batch_size), int(batch_size)
    rows = [draw(row).batch(1, length, seed, start=row) for row in range(first, first + n_rows)]
    return Batch(
        inputs=np.concatenate([row.inputs for row in rows]),
        targets=np.concatenate([row.targets for row in rows]),
        languages=Languages(lambda index: draw(first + index), n_rows),
        _measure_floor=lambda: np.concatenate([row.floor_nats for row in rows]),
    )
