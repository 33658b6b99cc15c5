"""The proportional effective rank."""

from __future__ import annotations

import math

import numpy as np

from xenoglot.measures.base import Values, measure

__all__ = ["per"]


@measure(of="matrix", label="Proportional effective rank", range=(0, 1), through="singular values")
def per(singular_values_R: Values) -> float:
    r"""What share of its directions a matrix uses: the exponential of its spectrum's entropy, over how many there are.

    .. math::
        \mathrm{PER}(W) = \frac{1}{R} \exp\left(-\sum_{r=1}^{R} p_r \ln p_r\right), \qquad
        p_r = \frac{\sigma_r}{\sum_s \sigma_s},\quad R = \min(D, E)

    1 where all singular values are equal, 1/R for rank one, nan for a matrix of zeros. A random matrix has less than 1:
    compare with the first step, not with 1. The OV circuit [D, D] of a head of K numbers has at most K/D.

    Sources: effective rank: Roy and Vetterli 2007, The effective rank, definition 1; its proportion: Diehl Martinez et
    al. 2024, arXiv 2410.11451. pico-analyze's ``per`` is the same, but nan where a singular value is exactly 0, which
    we count as nothing, as the entropy's limit is.

    Example:
        For singular values 3 and 1, p = (3/4, 1/4), and exp(-3/4 ln 3/4 - 1/4 ln 1/4) = 4 / 3^(3/4).

        >>> round(per([[3, 0], [0, 1]]), 6), round(2 / 3**0.75, 6)
        (0.877383, 0.877383)
    """
    if singular_values_R[0] == 0:
        return math.nan
    shares = singular_values_R[singular_values_R > 0] / singular_values_R.sum()
    return math.exp(-float(shares @ np.log(shares))) / len(singular_values_R)
