"""Linear centred kernel alignment."""

from __future__ import annotations

from xenoglot.measures.base import Values, measure
from xenoglot.measures.similarity import alignment, centred, linear_product

__all__ = ["cka"]


@measure(of="pair", label="CKA", range=(0, 1))
def cka(first_ND: Values, second_NE: Values) -> float:
    r"""Linear centred kernel alignment of two representations of the same N examples.

    .. math::
        \mathrm{CKA}(X, Y) = \frac{\|Y^\top X\|_F^2}{\|X^\top X\|_F\, \|Y^\top Y\|_F}

    with columns of mean 0: 1 if one is the other turned, mirrored, moved or made larger; 0 if no direction of one is
    correlated with any of the other. Directions of large variance count most. It is the same either way round.

    It is biased upwards: of independent normal numbers it is about sqrt(D E / ((N + D)(N + E))), a half for as many
    examples as numbers, and goes to 1 as there are fewer. Use `cka_debiased` unless N is much larger than D and E.

    nan if a representation is the same for all examples, as it is for N = 1.

    Source: Kornblith et al. 2019, arXiv 1905.00414, section 3. pico-analyze's ``cka`` is the same, in float32.

    Example:
        With a = (-1, 0, 1) and b = (1, -2, 1), which are uncorrelated, X = (a, b) and Y = (a): X^T X = diag(2, 6),
        Y^T X = (2, 0), so it is 4 / (sqrt(40) * 2).

        >>> round(cka([[-1, 1], [0, -2], [1, 1]], [[-1], [0], [1]]), 6)
        0.316228
    """
    return alignment(centred(first_ND), centred(second_NE), linear_product)
