"""The cosine between two gradients."""

from __future__ import annotations

import math

import numpy as np

from xenoglot.measures.base import Values, measure

__all__ = ["gradient_cosine"]


@measure(of="gradients", label="Cosine of gradients", range=(-1, 1))
def gradient_cosine(first: Values, second: Values) -> float:
    r"""Whether two objectives, such as prediction and learning to adapt, pull weights the same way.

    .. math::
        \cos(g, h) = \frac{g^\top h}{\|g\|\,\|h\|}

    1 where a step along one is a step along the other, -1 where each undoes the other; nan where either is 0. In
    dimension n, directions without anything in common have 0 up to about 1 / sqrt(n). Gradients of small batches are
    mostly noise, which pulls it towards 0: read it beside `gradient_noise_scale`.

    Source: as a sign of tasks in conflict, Yu et al. 2020, arXiv 2001.06782, definition 1. pico-analyze has none.

    Example:
        >>> gradient_cosine([3, 4], [4, 3])    # (12 + 12) / (5 * 5)
        0.96
    """
    lengths = float(np.linalg.norm(first)), float(np.linalg.norm(second))
    return float(first @ second) / (lengths[0] * lengths[1]) if all(lengths) else math.nan
