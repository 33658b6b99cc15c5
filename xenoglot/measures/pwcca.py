"""Projection-weighted canonical correlation analysis."""

from __future__ import annotations

import math

import numpy as np

from xenoglot.measures.base import Values, measure
from xenoglot.measures.similarity import centred

__all__ = ["pwcca"]

EPSILON = float(np.finfo(np.float64).eps)
EQUAL = 1e-9
"""So near to each other are correlations the same one."""
SAFE_CONDITION = 1e10
"""Below it no direction of a matrix is rounding, so that its triangular factor alone tells its directions."""


@measure(of="pair", label="PWCCA", range=(0, 1))
def pwcca(first_ND: Values, second_NE: Values) -> float:
    r"""The mean canonical correlation of two representations, weighted by how much each direction matters to the first.

    .. math::
        \mathrm{PWCCA}(X, Y) = \frac{\sum_i \alpha_i \rho_i}{\sum_i \alpha_i}, \qquad
        \alpha_i = \sum_{j=1}^{D} |h_i^\top x_j|

    with columns x_j of mean 0, canonical correlations :math:`\rho_i`, as many as the smaller of both ranks, and
    :math:`h_i` the first's canonical variables, of length 1. 1 if the second can be had from the first by an invertible
    linear map. Such a map of the *second* never changes anything; one of the first changes the weights, even if it only
    turns it. So it is not the same either way round.

    It is biased upwards, and much: with as many directions as examples, D + E >= N, some correlations are 1 whatever
    the representations are, and where D or E is N - 1 or more, it is 1. Take ten times as many examples as directions.
    Where correlations are equal, as those are, the definition leaves open which variables are meant, and the weights
    depend on it: here they are the directions in which the first varies most.

    nan if a representation is the same for all examples, as it is for N = 1. Directions that are but rounding, at most
    max(N, D) times that of float64, do not count.

    Source: Morcos et al. 2018, arXiv 1806.05759, section 3.2. Where pico-analyze differs: it gives [N, D] to a function
    that takes [D, N], so that examples are compared over neurons; and that function weighs by whichever is smaller.

    Example:
        With a = (1, 1, -1, -1), b = (1, -1, 1, -1) and c = (1, -1, -1, 1), which are uncorrelated, X = (2a, b) and
        Y = (a, 3b + 4c): the correlations are 1 and 3/5, of a / 2 and b / 2 in X, whose weights are 4 and 2; of a / 2
        and (3b + 4c) / 10 in Y, whose weights are 2 and 10.

        >>> a, b, c = (np.array(each) for each in ([1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]))
        >>> x_ND, y_ND = np.stack([2 * a, b], axis=1), np.stack([a, 3 * b + 4 * c], axis=1)
        >>> round(pwcca(x_ND, y_ND), 6), round(pwcca(y_ND, x_ND), 6)    # (4 + 2 * 0.6) / 6, (2 + 10 * 0.6) / 12
        (0.866667, 0.666667)
    """
    first, second = (_directions(centred(each)) for each in (first_ND, second_NE))
    if first is None or second is None:
        return math.nan
    (basis_ND, rest_DD), (other_NE, _) = first, second
    turns_DR, correlations_R, _ = np.linalg.svd(basis_ND.T @ other_NE, full_matrices=False)
    projected_RD = _settled(turns_DR.T @ rest_DD, correlations_R)
    weights_R = np.abs(projected_RD).sum(axis=1)
    return float(weights_R @ np.minimum(correlations_R, 1) / weights_R.sum())


def _settled(projected_RD: Values, correlations_R: Values) -> Values:
    """Turn variables of equal correlation to where the first varies most: which of them LAPACK finds is chance."""
    ends = np.flatnonzero(-np.diff(correlations_R) > EQUAL) + 1
    groups = []
    for group_GD in np.split(projected_RD, ends):
        if len(group_GD) > 1:
            _, sizes_G, directions_GD = np.linalg.svd(group_GD, full_matrices=False)
            group_GD = sizes_G[:, None] * directions_GD
        groups.append(group_GD)
    return np.concatenate(groups)


def _directions(rest_ND: Values) -> tuple[Values, Values] | None:
    """Return an orthonormal basis [N, R] of the columns, and these in it, [R, D]; None if all are 0."""
    if not rest_ND.any():
        return None
    n_examples, width = rest_ND.shape
    if n_examples > width:
        basis_ND, triangle_DD = np.linalg.qr(rest_ND)
        if np.diag(triangle_DD).all() and np.linalg.cond(triangle_DD, 1) < SAFE_CONDITION:
            return basis_ND, triangle_DD
    basis_NR, sizes_R, turns_RD = np.linalg.svd(rest_ND, full_matrices=False)
    is_there = sizes_R > max(n_examples, width) * EPSILON * sizes_R[0]
    return basis_NR[:, is_there], sizes_R[is_there, None] * turns_RD[is_there]
