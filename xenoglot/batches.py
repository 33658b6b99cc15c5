"""What a step of training reads: rows of tokens as a function of (seed, step), so that no position need be kept.

Step 10^9 costs no more than the first, whatever was read before it, and every process of a run can make its own part
of a step's rows.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from xenoglot.errors import OptionError
from xenoglot.language_rows import LanguageRows
from xenoglot.languages.base import Nats, Tokens
from xenoglot.samples import StoredSamples
from xenoglot.text import Text

__all__ = [
    "WHOLE",
    "Batch",
    "BatchSource",
    "Part",
    "SampleBatches",
    "StoredRows",
    "TextBatches",
    "TokenBatch",
]


class Batch(Protocol):
    """What a step, or a part of it, learns from; objectives know which kind they take."""

    @property
    def n_tokens(self) -> int:
        """How many tokens are read."""

    @property
    def length(self) -> int:
        """Tokens of a row; of the longest one if they differ."""

    def to(self, device: torch.device) -> Batch:
        """Return it on a device."""


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """Rows for a model.

    Attributes:
        inputs_BT: int64, the ids that are read.
        targets_BT: int64, the id to be predicted after reading ``inputs_BT[:, : t + 1]``.
        laws_BTV: float32, how probable each id is as that target, if that is to be learned and not the one that came.
    """

    inputs_BT: Tensor
    targets_BT: Tensor
    laws_BTV: Tensor | None = None

    @classmethod
    def from_arrays(cls, inputs: Tokens, targets: Tokens, laws: Nats | None = None) -> TokenBatch:
        """Copy NumPy rows into tensors."""
        return cls(
            inputs_BT=torch.from_numpy(inputs).long(),
            targets_BT=torch.from_numpy(targets).long(),
            laws_BTV=None if laws is None else torch.from_numpy(laws),
        )

    @property
    def n_tokens(self) -> int:
        """How many tokens are read."""
        return self.inputs_BT.numel()

    @property
    def length(self) -> int:
        """Tokens of a row, T."""
        return self.inputs_BT.shape[1]

    def to(self, device: torch.device) -> TokenBatch:
        """Return the rows on a device; they are copied only if they are not there."""
        return self._mapped(lambda tensor: tensor.to(device))

    def rows(self, chosen: slice) -> TokenBatch:
        """Return some of the rows."""
        return self._mapped(lambda tensor: tensor[chosen])

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> TokenBatch:
        laws_BTV = None if self.laws_BTV is None else change(self.laws_BTV)
        return TokenBatch(inputs_BT=change(self.inputs_BT), targets_BT=change(self.targets_BT), laws_BTV=laws_BTV)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Which share of a step's rows is wanted: all parts together are the step, and no row is in two.

    Micro-batch m of M on process r of R is ``Part(index=r * M + m, count=R * M)``.

    Args:
        index: Which part, from 0.
        count: Into how many parts the rows are cut.

    Raises:
        OptionError: If there is no such part.

    Example:
        >>> Part(index=1, count=4).rows_of(32)
        range(8, 16)
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise OptionError("part", (self.index, self.count), "an index from 0 to count - 1")

    def rows_of(self, batch_size: int) -> range:
        """Return which of a step's rows are the part's.

        Raises:
            OptionError: If the rows cannot be cut into equal parts.
        """
        if batch_size % self.count:
            raise OptionError(
                "batch_size",
                batch_size,
                f"a multiple of {self.count}: devices times gradient_accumulation_steps",
                "Every part must have as many rows as the others.",
            )
        rows = batch_size // self.count
        return range(self.index * rows, (self.index + 1) * rows)


WHOLE = Part(index=0, count=1)


class BatchSource(Protocol):
    """Anything that training can read from."""

    @property
    def n_tokens(self) -> int:
        """How many ids there are: a model's ``vocab_size``."""

    def batch_size(self, step: int) -> int:
        """Return how many rows a step has, all parts together."""

    def __call__(self, step: int, part: Part = WHOLE) -> Batch:
        """Return the rows of a step, or a part of them; always the same for the same step."""

    def identity(self, step: int) -> str:
        """Return what to call a step's rows in a message."""

    def languages(self, step: int) -> LanguageRows | None:
        """Return which rows of which languages a step reads, all parts together; None if it reads something else."""

    def fingerprint(self) -> dict[str, Any]:
        """Return what the rows are a function of, as plain JSON values: equal exactly where all rows are."""


class StoredRows(Protocol):
    """Rows that are read from somewhere: a `Text`, or `StoredSamples`."""

    n_tokens: int
    length: int
    source: str
    sha256: str

    def rows(self, numbers: Sequence[int], seed: int) -> tuple[Tokens, Tokens]:
        """Read inputs and targets [B, L]; the numbers of a seed's rows go on without end, from epoch to epoch."""

    def tokenizer_files(self) -> dict[str, bytes]:
        """Return the files that make the tokenizer, if there is one."""


class _StoredBatches:
    """Rows that are read from somewhere: step s holds the seed's rows s B to s B + B - 1, epoch after epoch."""

    _kind: ClassVar[str]

    def __init__(self, stored: StoredRows, batch_size: int, seed: int) -> None:
        self.n_tokens = stored.n_tokens
        self._stored = stored
        self._batch_size = batch_size
        self._seed = seed

    def batch_size(self, step: int) -> int:
        """Return how many rows a step has, all parts together."""
        return self._batch_size

    def __call__(self, step: int, part: Part = WHOLE) -> TokenBatch:
        """Return the rows of a step, or a part of them."""
        first, rows = step * self._batch_size, part.rows_of(self._batch_size)
        return TokenBatch.from_arrays(*self._stored.rows(range(first + rows.start, first + rows.stop), self._seed))

    def identity(self, step: int) -> str:
        """Return which rows a step reads, counted on through the epochs."""
        first = step * self._batch_size
        return f"rows {first} to {first + self._batch_size - 1} of seed {self._seed} of {self._stored.source}"

    def languages(self, step: int) -> None:
        """Return nothing: what is stored is of no language that could be drawn."""

    def tokenizer_files(self) -> dict[str, bytes]:
        """Return ``tokenizer.json`` and ``tokenizer_config.json``, for a checkpoint's folder; nothing without them."""
        return self._stored.tokenizer_files()

    def fingerprint(self) -> dict[str, Any]:
        """Return the digest of what is read, and how rows are made of it."""
        return {
            "kind": self._kind,
            "sha256": self._stored.sha256,
            "batch_size": self._batch_size,
            "length": self._stored.length,
            "seed": self._seed,
        }


class TextBatches(_StoredBatches):
    """Windows of a text: every epoch cuts its training part anew and goes through the windows in a random order.

    Args:
        text: What is read.
        batch_size: Rows of a step, B.
        seed: 0 to 2^63 - 1.
    """

    _kind = "text"

    def __init__(self, *, text: Text, batch_size: int, seed: int) -> None:
        super().__init__(text, batch_size, seed)


class SampleBatches(_StoredBatches):
    """Rows of files that `xenoglot generate` wrote: every epoch goes through all of them in a random order.

    Args:
        samples: What is read.
        batch_size: Rows of a step, B.
        seed: 0 to 2^63 - 1.
    """

    _kind = "samples"

    def __init__(self, *, samples: StoredSamples, batch_size: int, seed: int) -> None:
        super().__init__(samples, batch_size, seed)
