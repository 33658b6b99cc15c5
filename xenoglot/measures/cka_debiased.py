"""Linear centred kernel alignment from the unbiased criterion."""

from __future__ import annotations

import math

import numpy as np

from xenoglot.measures.base import Values, measure
from xenoglot.measures.similarity import alignment, centred, linear_product, unbiased

__all__ = ["cka_debiased"]


@measure(of="pair", label="CKA, debiased", range=(-1, 1))
def cka_debiased(first_ND: Values, second_NE: Values) -> float:
    r"""Linear centred kernel alignment, from the unbiased estimator of the criterion.

    .. math::
        \frac{\mathrm{HSIC}_1(K, L)}{\sqrt{\mathrm{HSIC}_1(K, K)\,\mathrm{HSIC}_1(L, L)}}, \qquad
        K = X X^\top,\ L = Y Y^\top

    (`xenoglot.measures.similarity` has HSIC_1.) As `cka`, but about 0 for independent representations, whatever N and D
    are: it can be a little below 0. Each HSIC_1 is unbiased, their ratio only nearly so.

    nan for fewer than 4 examples, and if the distances tell no pair from another: all examples are equally far from
    each other, or all but one are the same.

    Sources: Song et al. 2012, Feature selection via dependence maximization; Kornblith et al. 2019, arXiv 1905.00414;
    Nguyen et al. 2021, arXiv 2010.15327, section 3. pico-analyze has the formula, but does not use it.

    Example:
        Of x = (0, 0, 1, 3) and y = (0, 1, 0, 1). Off the diagonal K = x x^T is 0 but for K_34 = 3, and L but for
        L_24 = 1. For N = 4 what HSIC_1 has in brackets is tr(KL) + s(K) s(L) / 6 - 1^T K L 1, with s the sum: of K with
        K 18 + 36/6 - 18 = 6, of L with L 2 + 4/6 - 2 = 2/3, of K with L 0 + 12/6 - 3 = -1; so -1 / sqrt(6 * 2/3).

        >>> round(cka_debiased([[0], [0], [1], [3]], [[0], [1], [0], [1]]), 6)
        -0.5
    """
    if len(first_ND) < 4:
        return math.nan

    def product(first_ND: Values, second_NE: Values) -> float:
        diagonals = (np.square(each).sum(axis=1) for each in (first_ND, second_NE))
        return unbiased(linear_product(first_ND, second_NE), *diagonals)

    return alignment(centred(first_ND), centred(second_NE), product)
