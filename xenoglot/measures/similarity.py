r"""Centred kernel alignment: how alike two representations place the same N examples, whatever their directions.

Each representation gives a Gram matrix of its examples, K and L. With H = I - 1/N, which takes means away, the
Hilbert-Schmidt independence criterion is, biased by O(1/N) and unbiased,

.. math::
    \mathrm{HSIC}_0 = \frac{\operatorname{tr}(K H L H)}{(N - 1)^2} \qquad
    \mathrm{HSIC}_1 = \frac{1}{N (N - 3)} \left[\operatorname{tr}(\tilde K \tilde L)
        + \frac{1^\top \tilde K 1\; 1^\top \tilde L 1}{(N - 1)(N - 2)}
        - \frac{2}{N - 2} 1^\top \tilde K \tilde L 1\right]

where a tilde sets the diagonal to 0. As it does not change when numbers are added to whole rows and columns of K, K may
be centred first. Then K 1 = 0, and with k and l the diagonals what is in brackets is

.. math::
    \operatorname{tr}(K L) - \frac{N}{N - 2}\, k^\top l + \frac{1^\top k\; 1^\top l}{(N - 1)(N - 2)}

so that nothing of size N x N is needed where K = X X^T: the first term is :math:`\|X^\top Y\|_F^2`. Both are inner
products, and the alignment is their cosine.

Sources: Gretton et al. 2005, Measuring statistical dependence with Hilbert-Schmidt norms; Song et al. 2012, Feature
selection via dependence maximization; Kornblith et al. 2019, arXiv 1905.00414, section 3.

Shapes: N examples of D or E numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from xenoglot.measures.base import Values

__all__ = ["alignment", "centred", "linear_product", "median_gram", "unbiased"]

InnerProduct: TypeAlias = Callable[[Values, Values], float]

EPSILON = float(np.finfo(np.float64).eps)


def alignment(first: Values, second: Values, product: InnerProduct) -> float:
    """Return the cosine of two things under an inner product; nan if either has no length but for rounding."""
    lengths = [math.sqrt(max(0.0, product(each, each))) for each in (first, second)]
    return product(first, second) / (lengths[0] * lengths[1]) if all(lengths) else math.nan


def centred(values_ND: Values) -> Values:
    """Take each column's mean away; a column that is constant but for rounding becomes 0."""
    rest_ND: Values = values_ND - values_ND.mean(axis=0)
    rest_ND[:, np.abs(rest_ND).max(axis=0) <= len(values_ND) * EPSILON * np.abs(values_ND).max(axis=0)] = 0
    return rest_ND


def linear_product(first_ND: Values, second_NE: Values) -> float:
    """Return tr(X X^T Y Y^T), through whichever of N x N and D x E is smaller."""
    n_examples = len(first_ND)
    if n_examples < min(first_ND.shape[1], second_NE.shape[1]):
        return float(np.vdot(first_ND @ first_ND.T, second_NE @ second_NE.T))
    return float(np.square(first_ND.T @ second_NE).sum())


def unbiased(product: float, first_N: Values, second_N: Values) -> float:
    """Return N (N - 3) HSIC_1 of two centred Gram matrices, from tr(K L) and their diagonals; 0 if it is rounding."""
    n = len(first_N)
    whole = n / (n - 2) * float(first_N @ second_N)
    rest = product - whole + float(first_N.sum() * second_N.sum()) / ((n - 1) * (n - 2))
    return rest if abs(rest) > n * EPSILON * (abs(product) + whole) else 0.0


def median_gram(values_ND: Values) -> Values:
    r"""Return the Gram matrix [N, N] of the Gaussian kernel as wide as the median distance, its means taken away.

    .. math::
        K_{ij} = \exp\left(-\frac{\|x_i - x_j\|^2}{2 \sigma^2}\right), \qquad
        \sigma = \operatorname{median}_{i < j} \|x_i - x_j\|

    It is nan everywhere if most of the examples are the same one, so that the median is 0.
    """
    rest_ND = centred(values_ND)
    products_NN = rest_ND @ rest_ND.T
    squares_N = np.diag(products_NN)
    squared_NN = np.maximum(squares_N[:, None] + squares_N - 2 * products_NN, 0)
    squared_NN[squared_NN <= len(values_ND) * EPSILON * squares_N.max()] = 0
    distances = np.sqrt(squared_NN[~np.eye(len(values_ND), dtype=bool)])
    gram_NN = np.exp(squared_NN / (-2 * np.median(distances) ** 2))
    means_N = gram_NN.mean(axis=0)
    centred_NN: Values = gram_NN - means_N - means_N[:, None] + means_N.mean()
    return centred_NN
