"""What is set aside for measuring: the last tenth of what is read, and of it no more than a mean needs."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEWEST_ROWS", "measured_rows", "training_part"]

Integers: TypeAlias = NDArray[np.int64]

PARTS = 10
FEWEST_ROWS = 2 * PARTS
"""So that two rows are held out: an interval needs them."""
MOST_TOKENS = 2**20
"""The error of a mean over this many tokens is far below what is printed."""


def training_part(n: int) -> int:
    """Return how many of n things, in their order, are for training: all but the last tenth.

    Example:
        >>> training_part(205)
        185
    """
    return n - n // PARTS


def measured_rows(n_rows: int, length: int) -> Integers:
    """Return which of the held-out rows are measured: all, or as many as have 2^20 tokens, at equal distances.

    Args:
        n_rows: Rows that are held out.
        length: Tokens of a row.

    Example:
        >>> measured_rows(3, length=64).tolist()
        [0, 1, 2]
        >>> measured_rows(2**30, length=2**19).tolist()
        [0, 536870912]
    """
    n_measured = min(n_rows, max(2, MOST_TOKENS // length))
    return np.arange(n_measured) * n_rows // n_measured
