"""Hoyer's sparsity."""

from __future__ import annotations

import math

import numpy as np

from xenoglot.measures.base import Values, measure

__all__ = ["hoyer"]


@measure(of="matrix", label="Hoyer sparsity", range=(0, 1))
def hoyer(matrix_DE: Values) -> float:
    r"""How far a matrix's weight is concentrated in few of its n entries: its norms' ratio, put between 0 and 1.

    .. math::
        H(W) = \frac{\sqrt n - \|w\|_1 / \|w\|_2}{\sqrt n - 1}

    0 where all absolute values are equal, 1 where one entry alone is not 0; nan for a matrix of zeros, and for a single
    entry. Normal entries have about 1 - sqrt(2 / pi) = 0.202 where n is large.

    Source: Hoyer 2004, Non-negative matrix factorization with sparseness constraints, section 3.1. pico-analyze's
    ``hoyer`` is the same.

    Example:
        >>> hoyer([[3, 0], [4, 0], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0]])    # (4 - 7/5) / (4 - 1)
        0.8666666666666667
    """
    n, length = matrix_DE.size, float(np.linalg.norm(matrix_DE))
    if n == 1 or length == 0:
        return math.nan
    return (math.sqrt(n) - float(np.abs(matrix_DE).sum()) / length) / (math.sqrt(n) - 1)
