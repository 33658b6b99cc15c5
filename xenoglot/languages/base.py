"""The contract of languages: a family is a distribution over languages, a language is one draw from it.

Shapes: B rows, L tokens of a row, V = ``n_tokens`` ids. Losses are in nats.

```python
family = xenoglot.languages.MetaLMv1(vocab_size=16, n_elements=4, element_length=8)
batch = family.batch(batch_size=32, length=256, seed=0, floor=True)   # every row its own, brand-new language
language = family.draw(seed=7)                                        # one language ...
rows = language.batch(batch_size=32, length=256, seed=0)              # ... and many rows of it
```
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xenoglot.errors import DataError
from xenoglot.memory import reused_empty
from xenoglot.options import check_options, whole_number
from xenoglot.rng import check_seed, derive

__all__ = ["Batch", "Family", "Floats", "Language", "Languages", "Nats", "Tokens", "checked_tokens", "first_row"]

Tokens: TypeAlias = NDArray[np.int32]
Nats: TypeAlias = NDArray[np.float32]
Floats: TypeAlias = NDArray[np.float64]

MASK = 0
"""The id of MASK, which is also the padding: the same in every family."""

LONGEST_ROW = 2**31 - 2
LARGEST_BATCH = 2**31 - 1
N_ROWS = 2**63
"""So many rows a seed has."""


class Languages(Sequence["Language"]):
    """The languages of a batch, row by row, drawn again when asked for."""

    def __init__(self, draw: Callable[[int], Language], n_rows: int) -> None:
        self._draw = draw
        self._n_rows = n_rows

    def __len__(self) -> int:
        return self._n_rows

    @overload
    def __getitem__(self, index: int) -> Language: ...
    @overload
    def __getitem__(self, index: slice) -> list[Language]: ...
    def __getitem__(self, index: int | slice) -> Language | list[Language]:
        if isinstance(index, slice):
            return [self._draw(row) for row in range(*index.indices(self._n_rows))]
        if not -self._n_rows <= index < self._n_rows:
            raise IndexError(f"row {index} of a batch of {self._n_rows}")
        return self._draw(index % self._n_rows)

    def __iter__(self) -> Iterator[Language]:
        return (self._draw(row) for row in range(self._n_rows))


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of tokens with what to predict, and the loss of the best possible predictor.

    Attributes:
        inputs: int32 [B, L], what is read.
        targets: int32 [B, L], what is to be predicted after reading ``inputs[:, : t + 1]``.
        languages: The language of each row.
    """

    inputs: Tokens
    targets: Tokens
    languages: Sequence[Language] = field(repr=False)
    _measure_floor: Callable[[], Nats] = field(repr=False, compare=False)

    @functools.cached_property
    def floor_nats(self) -> Nats:
        """float32 [B, L]: -ln p(target | inputs so far) under the true language.

        Computed with the batch if ``floor=True`` was given, and otherwise when first asked for.
        """
        return self._measure_floor()


@dataclass(frozen=True, kw_only=True)
class Family(ABC):
    """A distribution over languages; its fields are its options.

    To add a family, put one file into ``xenoglot/languages/`` (or anywhere on the path): a frozen dataclass with a
    ``name``, its options, and `_draw`, which returns a `Language`. The command line, the shared tests and the reports
    find it by themselves. A family may also override `_fill`, to write many rows at once in compiled code.
    """

    name: ClassVar[str]
    """What the family is called, with its version: changed behaviour is a new name."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Short names, understood wherever ``name`` is."""

    def __post_init__(self) -> None:
        check_options(self)

    @property
    @abstractmethod
    def n_tokens(self) -> int:
        """How many ids there are: MASK, the vocabulary 1..V, and the separator where there is one."""

    @abstractmethod
    def _draw(self, seed: int, row: int) -> Language:
        """Draw the language of one row; a pure function of (options, seed, row)."""

    def _fill(
        self, seed: int, start: int, inputs: Tokens, targets: Tokens, floor_nats: Nats | None, threads: int | None
    ) -> None:
        """Write rows ``start``, ``start + 1``, ... each of its own language; the floor too unless it is None."""
        _fill_row_by_row(lambda row: self._draw(seed, start + row), seed, start, inputs, targets, floor_nats)

    def draw(self, seed: int, row: int = 0) -> Language:
        """Draw one brand-new language.

        Args:
            seed: 0 to 2^63 - 1.
            row: Which of the seed's languages; it is that of row ``row`` of ``batch(..., seed=seed)``.
        """
        return self._draw(check_seed(seed), whole_number("row", row, minimum=0, maximum=N_ROWS - 1))

    def batch(
        self,
        batch_size: int,
        length: int,
        seed: int,
        start: int = 0,
        floor: bool = False,
        threads: int | None = None,
        n_languages: int | None = None,
    ) -> Batch:
        """Generate rows, each of its own brand-new language, or of one of a pool.

        Row i of a seed is the same row whatever the batch size, the start, the threads or the process, and a shorter
        row is the beginning of a longer one. In a pool, language j is that of ``draw(seed, j)``, rows of a language
        differ each time, and which language row i has is drawn uniformly, as a function of (seed, i, n_languages).

        Args:
            batch_size: Rows, B.
            length: Tokens a row, L.
            seed: 0 to 2^63 - 1.
            start: The first row's number.
            floor: Whether to compute the exact loss of the predictor that knows each row's language right away.
            threads: At most this many threads; as many as there are CPUs if None.
            n_languages: How many languages the pool has, of which nothing is kept; without end if None.

        Raises:
            OptionError: Naming the argument, what was got and what is allowed.
        """
        seed, start = check_seed(seed), first_row(start, batch_size)
        if n_languages is not None:
            whole_number("n_languages", n_languages, minimum=1)

        def draw(row: int) -> Language:
            in_pool = derive(seed, "pool", start + row) % n_languages if n_languages is not None else start + row
            return self._draw(seed, in_pool)

        def fill(inputs: Tokens, targets: Tokens, floor_nats: Nats | None) -> None:
            if n_languages is None:
                self._fill(seed, start, inputs, targets, floor_nats, threads)
            else:
                _fill_row_by_row(draw, seed, start, inputs, targets, floor_nats)

        return _generate(fill, draw, batch_size, length, floor, threads)


class Language(ABC):
    """One language: rows of it, and the exact law of what comes next.

    Attributes:
        family: The family it belongs to.
    """

    family: Family

    @abstractmethod
    def _fill(
        self, seed: int, start: int, inputs: Tokens, targets: Tokens, floor_nats: Nats | None, threads: int | None
    ) -> None:
        """Write rows ``start``, ``start + 1``, ... of this language; the floor too unless it is None."""

    @abstractmethod
    def _predict(self, inputs: Tokens) -> Floats:
        """Return ln p(target | inputs so far), float64 [B, L, V], for checked inputs [B, L]."""

    def _first_input_log_probs(self) -> Floats:
        """Return ln p(first input), float64 [V]; uniform over 1..V-1 unless the family says otherwise."""
        n_words = self.family.n_tokens - 1
        return np.append(-np.inf, np.full(n_words, -np.log(n_words)))

    def _input_log_probs(self, inputs: Tokens) -> Floats:
        """Return ln p(input_t | inputs before t), float64 [B, L]; right where targets are the next inputs."""
        log_probs_BLV = self._predict(inputs)
        later_BL = np.take_along_axis(log_probs_BLV[:, :-1], inputs[:, 1:, None], axis=2)[:, :, 0]
        return np.concatenate([self._first_input_log_probs()[inputs[:, :1]], later_BL], axis=1)

    def batch(
        self,
        batch_size: int,
        length: int,
        seed: int,
        start: int = 0,
        floor: bool = False,
        threads: int | None = None,
    ) -> Batch:
        """Generate rows of this language; the arguments are those of `Family.batch`.

        ``family.batch(1, length, seed, start=i)`` equals ``family.draw(seed, i).batch(1, length, seed, start=i)``.
        Rows of one seed use the same random numbers in every language: give different languages different seeds or
        starts where they must be independent.
        """
        seed, start = check_seed(seed), first_row(start, batch_size)

        def fill(inputs: Tokens, targets: Tokens, floor_nats: Nats | None) -> None:
            self._fill(seed, start, inputs, targets, floor_nats, threads)

        return _generate(fill, lambda row: self, batch_size, length, floor, threads)

    def predict(self, inputs: ArrayLike) -> Floats:
        """Return log-probabilities of the next target under this language.

        Args:
            inputs: Whole numbers [B, L] (or [L]) from 0 to ``n_tokens`` - 1.

        Returns:
            float64 [B, L, V] (or [L, V]): ln p(target_t = v | inputs_0..t), indexed by id; minus infinity where v
            cannot come. Prefixes that the language cannot produce are read as the family's docstring says.

        Raises:
            DataError: If the inputs are not ids of the family.
        """
        tokens = checked_tokens(inputs, self.family.n_tokens, "inputs")
        log_probs = self._predict(np.atleast_2d(tokens))
        return log_probs if tokens.ndim == 2 else log_probs[0]

    def input_log_probs(self, inputs: ArrayLike) -> Floats:
        """Return ln p(input_t | inputs before t) under this language, float64 in the shape of ``inputs``.

        It is what the evidence for a language is made of. Targets and inputs have the same law except where what is
        read is disturbed (MetaLM-1).
        """
        tokens = checked_tokens(inputs, self.family.n_tokens, "inputs")
        log_probs = self._input_log_probs(np.atleast_2d(tokens))
        return log_probs if tokens.ndim == 2 else log_probs[0]

    def nats(self, inputs: ArrayLike, targets: ArrayLike) -> Nats:
        """Return -ln p(target_t | inputs_0..t) under this language, float32 in the shape of ``inputs``."""
        answers = checked_tokens(targets, self.family.n_tokens, "targets")
        log_probs = self.predict(inputs)
        if answers.shape != log_probs.shape[:-1]:
            raise DataError(f"targets: got shape {answers.shape}; allowed: that of inputs, {log_probs.shape[:-1]}.")
        return -np.take_along_axis(log_probs, answers[..., None], axis=-1)[..., 0].astype(np.float32)


def checked_tokens(tokens: ArrayLike, n_tokens: int, name: str) -> Tokens:
    """Return ids as int32 [B, L] or [L], or raise `DataError` saying what is wrong with them."""
    array = np.asarray(tokens)
    if array.ndim not in (1, 2) or array.size == 0 or not np.issubdtype(array.dtype, np.integer):
        raise DataError(
            f"{name}: got {array.dtype} of shape {array.shape}; allowed: whole numbers [B, L] or [L], not empty."
        )
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= n_tokens:
        raise DataError(f"{name}: got ids from {low} to {high}; allowed: 0 to {n_tokens - 1}.")
    return np.ascontiguousarray(array, dtype=np.int32)


def _fill_row_by_row(
    draw: Callable[[int], Language], seed: int, start: int, inputs: Tokens, targets: Tokens, floor_nats: Nats | None
) -> None:
    for i in range(len(inputs)):
        rows = slice(i, i + 1)
        row_floor = None if floor_nats is None else floor_nats[rows]
        draw(i)._fill(seed, start + i, inputs[rows], targets[rows], row_floor, 1)


def first_row(start: int, batch_size: int) -> int:
    """Return the first of a seed's rows that are wanted, or raise `OptionError` unless all of them have a number."""
    n_rows = whole_number("batch_size", batch_size, minimum=1, maximum=LARGEST_BATCH)
    return whole_number("start", start, minimum=0, maximum=N_ROWS - n_rows)


def _generate(
    fill: Callable[[Tokens, Tokens, Nats | None], None],
    draw: Callable[[int], Language],
    batch_size: int,
    length: int,
    floor: bool,
    threads: int | None,
) -> Batch:
    """Check the arguments that every batch shares, and write its rows."""
    n_rows = int(batch_size)
    n_tokens = whole_number("length", length, minimum=1, maximum=LONGEST_ROW)
    if threads is not None:
        whole_number("threads", threads, minimum=1)
    shape = (n_rows, n_tokens)
    inputs, targets = reused_empty(shape, np.int32), reused_empty(shape, np.int32)
    floor_nats = reused_empty(shape, np.float32) if floor else None
    fill(inputs, targets, floor_nats)

    def measure_floor() -> Nats:
        if floor_nats is not None:
            return floor_nats
        measured = reused_empty(shape, np.float32)
        fill(reused_empty(shape, np.int32), reused_empty(shape, np.int32), measured)
        return measured

    return Batch(inputs=inputs, targets=targets, languages=Languages(draw, n_rows), _measure_floor=measure_floor)
