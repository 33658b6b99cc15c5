"""Weighing a vocabulary: products, powers of two, and sums kept as a tree to draw from."""

from __future__ import annotations

from typing import Any

import numpy as np

from xenoglot.kernels.arithmetic import fused_multiply_add as _fma
from xenoglot.kernels.arithmetic import power_of_two, power_of_two_single
from xenoglot.kernels.compiling import Real, Word, compiled, inlined, prefer_wide_vectors

__all__ = [
    "add_product",
    "add_to",
    "aligned_zeros",
    "copy_to",
    "open_sum_tree",
    "sample_cumulative",
    "sample_tree",
    "set_powers_of_two",
    "set_powers_of_two_single",
    "set_squares",
    "sum_tree",
]


@compiled
def add_product(matrix: Any, vector: Any, out: Any) -> None:
    """Add vector [J] times matrix [J, N] to out [N], summing over J in order, eight rows at a time."""
    prefer_wide_vectors()
    n_rows, n_columns = matrix.shape
    j = 0
    while j + 8 <= n_rows:
        v0, v1, v2, v3 = vector[j], vector[j + 1], vector[j + 2], vector[j + 3]
        v4, v5, v6, v7 = vector[j + 4], vector[j + 5], vector[j + 6], vector[j + 7]
        for i in range(n_columns):
            total = _fma(matrix[j + 1, i], v1, _fma(matrix[j, i], v0, out[i]))
            total = _fma(matrix[j + 3, i], v3, _fma(matrix[j + 2, i], v2, total))
            total = _fma(matrix[j + 5, i], v5, _fma(matrix[j + 4, i], v4, total))
            out[i] = _fma(matrix[j + 7, i], v7, _fma(matrix[j + 6, i], v6, total))
        j += 8
    while j < n_rows:
        v0 = vector[j]
        for i in range(n_columns):
            out[i] = _fma(matrix[j, i], v0, out[i])
        j += 1


@compiled
def copy_to(out: Any, values: Any) -> None:
    """Set out [N] to values [N]: a slice's assignment would first look for overlaps, and take three times as long."""
    prefer_wide_vectors()
    for i in range(len(out)):
        out[i] = values[i]


@compiled
def add_to(out: Any, values: Any) -> None:
    """Add values [N] to out [N]."""
    prefer_wide_vectors()
    for i in range(len(out)):
        out[i] += values[i]


@compiled
def set_squares(values: Any, out: Any) -> None:
    """Set out [N] to the squares of values [N]."""
    prefer_wide_vectors()
    for i in range(len(out)):
        out[i] = values[i] * values[i]


@compiled
def set_powers_of_two(exponents: Any, scale: float, shift: float, weights: Any) -> None:
    """Set weights [N] = 2^(scale exponents - shift)."""
    prefer_wide_vectors()
    for v in range(len(weights)):
        weights[v] = power_of_two(max(_fma(exponents[v], scale, -shift), -1000.0))


@compiled
def set_powers_of_two_single(exponents: Any, weights: Any) -> None:
    """Set weights [N] = 2^exponents, all float32."""
    prefer_wide_vectors()
    for v in range(len(weights)):
        weights[v] = power_of_two_single(exponents[v])


@compiled
def aligned_zeros(size: int, kind: Any) -> Any:
    """Return zeros that start at a cache line: wide loads across two lines cost double."""
    buffer = np.zeros(size + 16, kind)
    offset = (64 - buffer.ctypes.data % 64) % 64 // buffer.itemsize
    return buffer[offset : offset + size]


@compiled
def open_sum_tree(size: int) -> Any:
    """Make room for the sums above ``size`` weights.

    Returns:
        The size of each level from the weights up to the root and where it lies; and room for the sums, float64.
    """
    n_levels = 1
    m = size
    while m > 1:
        m = (m + 3) // 4
        n_levels += 1
    levels = np.zeros((n_levels, 2), np.int64)
    levels[0, 0] = size
    n_sums = 0
    for level in range(1, n_levels):
        levels[level, 0], levels[level, 1] = (levels[level - 1, 0] + 3) // 4, n_sums
        n_sums += (levels[level, 0] + 7) // 8 * 8
    return levels, aligned_zeros(max(n_sums, 1), np.float64)


@compiled
def sum_tree(weights: Any, levels: Any, sums: Any) -> Real:
    """Sum weights by quarters: entry i of a level of Q sums entries i, i + Q, i + 2 Q, i + 3 Q below; return the total.

    Indices are unsigned, because one that might be negative would not vectorise.
    """
    prefer_wide_vectors()
    n_levels = len(levels)
    if n_levels == 1:
        return np.float64(weights[0])
    size, quarter = np.uint64(levels[0, 0]), np.uint64(levels[1, 0])
    second, third = quarter + quarter, quarter + quarter + quarter
    full = size - third if size > third else np.uint64(0)
    for i in range(full):
        sums[i] = (np.float64(weights[i]) + np.float64(weights[quarter + i])) + (
            np.float64(weights[second + i]) + np.float64(weights[third + i])
        )
    for i in range(full, quarter):
        total = np.float64(weights[i])
        for j in range(quarter + i, size, quarter):
            total += np.float64(weights[j])
        sums[i] = total
    for level in range(2, n_levels):
        _sum_level(levels, level, sums)
    return sums[levels[n_levels - 1, 1]]


@inlined
def _sum_level(levels: Any, level: int, sums: Any) -> None:
    size, below = np.uint64(levels[level - 1, 0]), np.uint64(levels[level - 1, 1])
    quarter, here = np.uint64(levels[level, 0]), np.uint64(levels[level, 1])
    second, third = quarter + quarter, quarter + quarter + quarter
    full = size - third if size > third else np.uint64(0)
    for i in range(full):
        sums[here + i] = (sums[below + i] + sums[below + quarter + i]) + (
            sums[below + second + i] + sums[below + third + i]
        )
    for i in range(full, quarter):
        total = sums[below + i]
        for j in range(quarter + i, size, quarter):
            total += sums[below + j]
        sums[here + i] = total


@compiled
def sample_tree(weights: Any, levels: Any, sums: Any, wanted: float) -> int:
    """Return the index that owns ``wanted``, from 0 to below the total: an exact draw in log4(size) steps."""
    i = 0
    for level in range(len(levels) - 1, 0, -1):
        size, first, quarter = levels[level - 1, 0], levels[level - 1, 1], levels[level, 0]
        if level > 1:
            place, wanted = _quarter_of(sums[first : first + size], i, quarter, wanted)
        else:
            place, wanted = _quarter_of(weights, i, quarter, wanted)
        i += quarter * place
    return i


@inlined
def _quarter_of(entries: Any, i: int, quarter: int, wanted: Real) -> tuple[Word, Real]:
    """Return which of the entries i, i + Q, i + 2 Q, i + 3 Q owns ``wanted``, and what remains; without branches."""
    last = len(entries) - 1
    first = np.float64(entries[i])
    second = first + (np.float64(entries[min(i + quarter, last)]) if i + quarter <= last else 0.0)
    third = second + (np.float64(entries[min(i + 2 * quarter, last)]) if i + 2 * quarter <= last else 0.0)
    place: Word = np.int64(wanted >= first) + np.int64(wanted >= second) + np.int64(wanted >= third)
    passed = third if wanted >= third else (second if wanted >= second else (first if wanted >= first else 0.0))
    if i + place * quarter > last:  # rounding left a crumb beyond the last entry
        place = (last - i) // quarter
    return place, wanted - passed


@compiled
def sample_cumulative(cumulative: Any, uniform: float) -> int:
    """Return the first index whose running sum exceeds a uniform share of the total, by bisection."""
    wanted = uniform * cumulative[-1]
    low, high = 0, len(cumulative) - 1
    while low < high:
        middle = (low + high) // 2
        if cumulative[middle] > wanted:
            high = middle
        else:
            low = middle + 1
    return low
