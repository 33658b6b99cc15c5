"""What a step of training reads: rows of tokens as a function of (seed, step), so that no position need be kept.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from xenoglot.languages.base import Family, Tokens
from xenoglot.rng import derive
from xenoglot.text import ByteText

__all__ = ["BatchSource", "LanguageBatches", "Stage", "TextBatches", "TokenBatch"]


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """Rows for a model.

    Attributes:
        inputs_BT: int64, the ids that are read.
        targets_BT: int64, the id to be predicted after reading ``inputs_BT[:, : t + 1]``.
    """

    inputs_BT: Tensor
    targets_BT: Tensor

    @classmethod
    def from_arrays(cls, inputs: Tokens, targets: Tokens) -> TokenBatch:
        """Copy NumPy rows into tensors."""
        return cls(inputs_BT=torch.from_numpy(inputs).long(), targets_BT=torch.from_numpy(targets).long())


class BatchSource(Protocol):
    """Anything that training can read from."""

    @property
    def n_tokens(self) -> int:
        """How many ids there are: a model's ``vocab_size``."""

    def __call__(self, step: int) -> TokenBatch:
        """Return the rows of a step, always the same for the same step."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """An easier beginning: other languages and shorter rows until a step is reached.

    Attributes:
        until_step: The first step that no longer belongs to it.
        family: Whose languages are read; no more ids than the run's own family has.
        length: Tokens of a row.
    """

    until_step: int
    family: Family
    length: int


@dataclass(frozen=True, kw_only=True)
class LanguageBatches:
    """Brand-new languages without end: every row of every step is of a language that never comes again.

    Step s holds the seed's rows s B, s B + 1, ..., s B + B - 1. Stages, in the order of their ends, have seeds of their
    own.
    """

    family: Family
    batch_size: int
    length: int
    seed: int
    stages: tuple[Stage, ...] = ()

    @property
    def n_tokens(self) -> int:
        """How many ids there are."""
        return self.family.n_tokens

    def __call__(self, step: int) -> TokenBatch:
        """Return the rows of a step."""
        family, length, seed = self.family, self.length, self.seed
        for number, stage in enumerate(self.stages):
            if step < stage.until_step:
                family, length, seed = stage.family, stage.length, derive(self.seed, "stage", number)
                break
        batch = family.batch(self.batch_size, length, seed, start=step * self.batch_size)
        return TokenBatch.from_arrays(batch.inputs, batch.targets)


@dataclass(frozen=True, kw_only=True)
class TextBatches:
    """Windows of a text, drawn with replacement from anywhere in its training part."""

    text: ByteText
    batch_size: int
    seed: int

    @property
    def n_tokens(self) -> int:
        """How many ids there are."""
        return self.text.n_tokens

    def __call__(self, step: int) -> TokenBatch:
        """Return the rows of a step."""
        return TokenBatch.from_arrays(*self.text.windows(batch_size=self.batch_size, seed=self.seed, step=step))
