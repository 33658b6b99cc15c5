"""Centred kernel alignment under a Gaussian kernel, from the unbiased criterion."""

from __future__ import annotations

import math

import numpy as np

from xenoglot.measures.base import Values, measure
from xenoglot.measures.similarity import alignment, median_gram, unbiased

__all__ = ["cka_rbf_debiased"]


@measure(of="pair", label="CKA, Gaussian kernel, debiased", range=(-1, 1))
def cka_rbf_debiased(first_ND: Values, second_NE: Values) -> float:
    r"""As `cka_rbf`, from the unbiased estimator of the criterion: about 0 for independent representations.

    .. math::
        \frac{\mathrm{HSIC}_1(K, L)}{\sqrt{\mathrm{HSIC}_1(K, K)\,\mathrm{HSIC}_1(L, L)}}, \qquad
        K_{ij} = \exp\left(-\frac{\|x_i - x_j\|^2}{2 \operatorname{median}^2}\right)

    (`xenoglot.measures.similarity` has HSIC_1.)

    nan for fewer than 4 examples, if more than half of the pairs are at no distance, and if the distances tell no pair
    from another, as when all examples are equally far from each other.

    Sources: Song et al. 2012, Feature selection via dependence maximization; Kornblith et al. 2019, arXiv 1905.00414.

    Example:
        Of 0, 0, 1, 1 and of 0, 1, 0, 1: off the diagonal K is exp(-1/2) everywhere, which does not count, and more for
        the pairs 12 and 34; L for 13 and 24. With 1 for these, what HSIC_1 has in brackets is tr(KL) + 16/6 - 4, with
        tr(KL) 4 of each with itself and 0 of the two: so (-4/3) / (8/3).

        >>> round(cka_rbf_debiased([[0], [0], [1], [1]], [[0], [1], [0], [1]]), 6)
        -0.5
    """
    if len(first_ND) < 4:
        return math.nan

    def product(first_NN: Values, second_NN: Values) -> float:
        return unbiased(float(np.vdot(first_NN, second_NN)), np.diag(first_NN), np.diag(second_NN))

    return alignment(median_gram(first_ND), median_gram(second_NE), product)
