"""The Gini coefficient of absolute values."""

from __future__ import annotations

import math

import numpy as np

from xenoglot.measures.base import Values, measure

__all__ = ["gini"]


@measure(of="matrix", label="Gini coefficient", range=(0, 1))
def gini(matrix_DE: Values) -> float:
    r"""How unequal the absolute values of a matrix are: half their mean difference, over their mean.

    .. math::
        G(W) = \frac{\sum_{ij} |a_i - a_j|}{2 n^2 \bar a} = \frac{\sum_{i=1}^n (2 i - n - 1)\, a_{(i)}}{n \sum_i a_i}

    for the n absolute values a, and a_(i) sorted, least first. 0 where all are equal, 1 - 1/n where one alone is not 0;
    nan for a matrix of zeros. Normal entries have sqrt(2) - 1 = 0.414 whatever their size; what is sparser has more.

    Source: Hurley and Rickard 2009, arXiv 0811.4706, table 1. pico-analyze's ``gini`` is the same, but 0 for a matrix
    of zeros; the formula in its docstring is another one.

    Example:
        >>> gini([[1, -3]])    # (-1 * 1 + 1 * 3) / (2 * 4)
        0.25
    """
    sizes = np.sort(np.abs(matrix_DE), axis=None)
    n, total = len(sizes), float(sizes.sum())
    if total == 0:
        return math.nan
    return float(np.arange(1 - n, n, 2) @ sizes) / (n * total)
