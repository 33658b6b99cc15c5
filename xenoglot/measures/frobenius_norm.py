"""The Frobenius norm."""

from __future__ import annotations

import math

import numpy as np

from xenoglot.measures.base import Values, measure

__all__ = ["frobenius_norm"]


@measure(of="matrix", label="Frobenius norm", range=(0, math.inf), scales=True)
def frobenius_norm(matrix_DE: Values) -> float:
    r"""The length of a matrix as one long vector.

    .. math::
        \|W\|_F = \sqrt{\sum_{ij} w_{ij}^2} = \sqrt{\sum_r \sigma_r^2}

    0 for a matrix of zeros. It grows with the number of entries: compare layers of different sizes by its square over
    that number, the mean square.

    Source: Golub and Van Loan 2013, Matrix Computations, section 2.3.1. pico-analyze's ``norm: frobenius`` is the same.

    Example:
        >>> frobenius_norm([[3, 0], [0, 4]])    # sqrt(9 + 16)
        5.0
    """
    return float(np.linalg.norm(matrix_DE))
