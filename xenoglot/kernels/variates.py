"""Random numbers of the laws that families are made of, from random words."""

from __future__ import annotations

from typing import Any

import numpy as np

from xenoglot.kernels.arithmetic import cosine_and_sine_of_turn, logarithm
from xenoglot.kernels.compiling import Real, Stream, Word, compiled, inlined, prefer_wide_vectors
from xenoglot.kernels.words import LOW_32, SHIFT_32, next_uniform, next_word, philox, uniform_of

__all__ = ["fill_normals", "log_gamma_variate", "poisson_table", "standard_normal_pair"]


@compiled
def poisson_table(mean: float) -> tuple[int, Any]:
    """Tabulate a Poisson law, for `sample_cumulative` to draw from.

    Args:
        mean: Its mean.

    Returns:
        The least number of the table, and the running sums of the numbers' weights from there on, up to a factor. What
        lies more than twelve standard deviations and thirty from the mean, less than 1e-30 in all, is left out.
    """
    mode = int(mean)
    reach = int(12.0 * np.sqrt(mean)) + 30
    least, size = max(0, mode - reach), 2 * reach + 1
    weights = np.empty(size)
    at_mode = mode - least
    weights[at_mode] = 1.0  # relative to the mode, because e^-mean would underflow
    for i in range(at_mode, 0, -1):
        weights[i - 1] = weights[i] * (least + i) / mean
    for i in range(at_mode + 1, size):
        weights[i] = weights[i - 1] * mean / (least + i)
    for i in range(1, size):
        weights[i] += weights[i - 1]
    return least, weights


@inlined
def standard_normal_pair(w0: Word, w1: Word, w2: Word, w3: Word) -> tuple[Real, Real]:
    """Turn four random words into two independent standard normal numbers (Box and Muller 1958)."""
    radius = np.sqrt(-2.0 * logarithm(uniform_of(w0, w1)))
    cosine, sine = cosine_and_sine_of_turn(uniform_of(w2, w3))
    return radius * cosine, radius * sine


@compiled
def fill_normals(seed: int, stream: int, row: int, first_block: int, out: Any) -> int:
    """Fill a flat float64 array with standard normal numbers; returns the block after the last one used.

    Block i gives entries i and i + half, which vectorises.
    """
    low, high = np.uint64(row) & LOW_32, np.uint64(row) >> SHIFT_32
    prefer_wide_vectors()
    half, first = len(out) // 2, np.uint64(first_block)
    for i in range(half):
        w0, w1, w2, w3 = philox(seed, stream, low, high, (first + np.uint64(i)) & LOW_32)
        out[i], out[half + i] = standard_normal_pair(np.int64(w0), np.int64(w1), np.int64(w2), np.int64(w3))
    if len(out) % 2:
        w0, w1, w2, w3 = philox(seed, stream, low, high, (first + np.uint64(half)) & LOW_32)
        out[len(out) - 1], _ = standard_normal_pair(np.int64(w0), np.int64(w1), np.int64(w2), np.int64(w3))
    return first_block + (len(out) + 1) // 2


@compiled
def log_gamma_variate(source: Stream, shape: float) -> Real:
    """Return the logarithm of a Gamma(shape, 1) number (Marsaglia and Tsang 2000), safe for tiny shapes.

    For shape < 1 it uses Gamma(shape) = Gamma(shape + 1) U^(1 / shape), in logarithms so that nothing underflows.
    """
    boost = 0.0
    if shape < 1.0:
        boost = logarithm(next_uniform(source)) / shape
        shape += 1.0
    d = shape - 1.0 / 3.0
    c = 1.0 / np.sqrt(9.0 * d)
    while True:
        w0, w1 = np.int64(next_word(source)), np.int64(next_word(source))
        w2, w3 = np.int64(next_word(source)), np.int64(next_word(source))
        x, _ = standard_normal_pair(w0, w1, w2, w3)
        v = 1.0 + c * x
        if v > 0.0:
            log_v = 3.0 * logarithm(v)
            v = v * v * v
            if logarithm(next_uniform(source)) < 0.5 * x * x + d - d * v + d * log_v:
                return logarithm(d) + log_v + boost
