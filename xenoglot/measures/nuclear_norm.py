"""The nuclear norm."""

from __future__ import annotations

import math

from xenoglot.measures.base import Values, measure

__all__ = ["nuclear_norm"]


@measure(of="matrix", label="Nuclear norm", range=(0, math.inf), scales=True, through="singular values")
def nuclear_norm(singular_values_R: Values) -> float:
    r"""The sum of a matrix's singular values: small where few directions carry much.

    .. math::
        \|W\|_* = \sum_r \sigma_r

    0 for a matrix of zeros. It is the Frobenius norm for rank one, and sqrt(R) times that for equal singular
    values.

    Source: Fazel 2002, Matrix rank minimization with applications. pico-analyze's ``norm: nuclear`` is the same.

    Example:
        >>> nuclear_norm([[3, 0], [0, -4]])    # singular values 4 and 3
        7.0
    """
    return float(singular_values_R.sum())
