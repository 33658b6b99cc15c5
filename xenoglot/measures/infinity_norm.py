"""The infinity norm."""

from __future__ import annotations

import math

import numpy as np

from xenoglot.measures.base import Values, measure

__all__ = ["infinity_norm"]


@measure(of="matrix", label="Infinity norm", range=(0, math.inf), scales=True)
def infinity_norm(matrix_DE: Values) -> float:
    r"""The greatest sum of absolute values in a row: by how much a matrix can make the greatest entry of a vector grow.

    .. math::
        \|W\|_\infty = \max_i \sum_j |w_{ij}| = \max_{x \neq 0} \frac{\|W x\|_\infty}{\|x\|_\infty}

    0 for a matrix of zeros. Rows are what a layer gives out, columns what it takes in: the norm of the transpose is
    another.

    Source: Golub and Van Loan 2013, Matrix Computations, section 2.3.2. Where pico-analyze differs: its ``norm: inf``
    is the greatest absolute value of a single entry.

    Example:
        >>> infinity_norm([[1, -2], [0, 2]])    # the rows' sums are 3 and 2
        3.0
    """
    return float(np.abs(matrix_DE).sum(axis=1).max())
