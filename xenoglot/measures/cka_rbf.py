"""Centred kernel alignment under a Gaussian kernel."""

from __future__ import annotations

import math

import numpy as np

from xenoglot.measures.base import Values, measure
from xenoglot.measures.similarity import alignment, median_gram

__all__ = ["cka_rbf"]


@measure(of="pair", label="CKA, Gaussian kernel", range=(0, 1))
def cka_rbf(first_ND: Values, second_NE: Values) -> float:
    r"""Centred kernel alignment under a Gaussian kernel as wide as the median distance of two examples.

    .. math::
        \frac{\mathrm{HSIC}_0(K, L)}{\sqrt{\mathrm{HSIC}_0(K, K)\,\mathrm{HSIC}_0(L, L)}}, \qquad
        K_{ij} = \exp\left(-\frac{\|x_i - x_j\|^2}{2 \operatorname{median}^2}\right)

    and L of the second in the same way. Who is near whom counts, rather than the directions of large variance. Turned,
    mirrored, moved or made larger, a representation stays the same one. It is biased upwards as `cka` is: in many
    dimensions all examples are about equally far from each other, both kernels are near the identity, and it goes to 1.

    nan for one example, and if more than half of the pairs are at no distance. It takes memory for N x N numbers.

    Source: Kornblith et al. 2019, arXiv 1905.00414, section 3 (they try multiples of the median; this is the multiple
    1). Where we differ: their code takes the median over all N^2 pairs, each example with itself among them.

    Example:
        Of 0, 0, 1 and of 0, 1, 2: both median distances are 1. With q = exp(-1/2), H K H is a multiple of u u^T,
        u = (1, 1, -2) / sqrt(6), and H L H has the eigenvalues a = 1 - q^4 and b = 1 - 4q/3 + q^4/3, in whose
        directions u^2 is 3/4 and 1/4: so it is (3a + b) / 4 over sqrt(a^2 + b^2).

        >>> round(cka_rbf([[0], [0], [1]], [[0], [1], [2]]), 6)
        0.78938
    """
    if len(first_ND) < 2:
        return math.nan
    return alignment(median_gram(first_ND), median_gram(second_NE), lambda one, other: float(np.vdot(one, other)))
