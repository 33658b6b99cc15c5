"""The condition number."""

from __future__ import annotations

import math

from xenoglot.measures.base import Values, measure

__all__ = ["condition_number"]


@measure(of="matrix", label="Condition number", range=(1, math.inf), through="singular values")
def condition_number(singular_values_R: Values) -> float:
    r"""How much more a matrix stretches the one direction than the other: greatest over least singular value.

    .. math::
        \kappa(W) = \frac{\sigma_1}{\sigma_R}, \qquad R = \min(D, E)

    1 where all directions are stretched alike. inf where the rank is below R: where :math:`\sigma_R` is at most
    max(D, E) times the rounding of float64, times :math:`\sigma_1`, as it is for the whole of an OV circuit, whose rank
    is a head's size. nan for a matrix of zeros. One nearly lost direction is enough to make it huge, and float32's own
    rounding keeps it below about 1e8: read its logarithm, and `per` beside it.

    Source: Golub and Van Loan 2013, Matrix Computations, section 2.6.2; the rank: section 5.5.8. Where pico-analyze
    differs: it divides by whatever is left of :math:`\sigma_R`, in float32.

    Example:
        >>> condition_number([[3, 0], [0, 4], [0, 0]]), condition_number([[1, 1], [1, 1]])
        (1.3333333333333333, inf)
    """
    if singular_values_R[0] == 0:
        return math.nan
    return float(singular_values_R[0] / singular_values_R[-1]) if singular_values_R[-1] > 0 else math.inf
