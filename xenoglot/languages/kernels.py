"""The compiled primitives that every family's sampler is built from.

Three rules make a row the same on every machine, whatever the batch, the thread or the process:

1. Every random word is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") of
   (seed, stream, row, block). No state is shared, and no two rows can overlap.
2. Sums are taken in a written order, side by side where that vectorises, and never reassociated by the compiler.
3. Multiply-adds are fused explicitly, and exp, log, tanh, sine and cosine are our own polynomials, so that no library
   of the machine takes part. They also vectorise, which calls to a library would not.

Everything is float64: the recurrent families are chaotic, and float32 would lose their law within some dozen tokens.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

__all__ = [
    "LN_2",
    "LOG2_E",
    "LOW_32",
    "SHIFT_32",
    "STREAM_ELEMENTS",
    "STREAM_LANGUAGE",
    "STREAM_NOISE",
    "STREAM_TOKENS",
    "add_product",
    "add_to",
    "aligned_zeros",
    "bounded_integer",
    "compiled",
    "exponential",
    "fill_normals",
    "fused_multiply_add",
    "hyperbolic_tangent",
    "inlined",
    "log_gamma_variate",
    "logarithm",
    "nats_of",
    "next_uniform",
    "next_word",
    "open_stream",
    "open_sum_tree",
    "philox",
    "poisson",
    "power_of_two",
    "power_of_two_single",
    "prefer_wide_vectors",
    "run_rows",
    "sample_tree",
    "set_powers_of_two",
    "set_powers_of_two_single",
    "set_squares",
    "standard_normal_pair",
    "sum_tree",
    "uniform_of",
]

Function = TypeVar("Function", bound=Callable[..., Any])

STREAM_LANGUAGE = 1
"""The stream from which a language's parameters are drawn."""
STREAM_TOKENS = 2
"""The stream from which a row's tokens are drawn."""
STREAM_ELEMENTS = 3
"""A further stream of parameters, for families that draw some of them lazily."""
STREAM_NOISE = 4
"""The stream from which a row's disturbances are drawn, a block each."""

Word: TypeAlias = Any  # in compiled code: 32 random bits in a uint64 or int64
Real: TypeAlias = Any  # in compiled code: float64, or float32 where that is said
Stream: TypeAlias = Any  # in compiled code: uint32[HEADER + WORDS]; one array, because tuples cost reference counts

BLOCKS = 32  # Philox blocks in a buffer: enough to vectorise, small enough to waste little
WORDS = 4 * BLOCKS
KEY_LOW, KEY_HIGH, STREAM, ROW_LOW, ROW_HIGH, NEXT_BLOCK, CURSOR = range(7)
HEADER = 8

LOW_32 = np.uint64(0xFFFFFFFF)
SHIFT_32 = np.uint64(32)


def compiled(function: Function) -> Function:
    """Compile to machine code, cached on disk, without the interpreter's lock and without fast-math.

    NumPy's error model, because Python's test for a zero divisor is a branch, and loops with branches do not vectorise.
    """
    return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def inlined(function: Function) -> Function:
    """Compile as part of every caller, because a loop with a call in it does not vectorise."""
    return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)(function))


# --- arithmetic whose every bit is ours ------------------------------------------------------------------------------


@intrinsic  # type: ignore[untyped-decorator]
def _fma(typing_context: Any, x: Any, y: Any, z: Any) -> Any:
    kind = types.float32 if x == y == z == types.float32 else types.float64

    def build(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return kind(kind, kind, kind), build


@intrinsic  # type: ignore[untyped-decorator]
def _bits_of(typing_context: Any, x: Any) -> Any:
    is_single = x == types.float32
    kind, bits = (types.float32, types.int32) if is_single else (types.float64, types.int64)

    def build(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32 if is_single else 64))

    return bits(kind), build


@intrinsic  # type: ignore[untyped-decorator]
def _float_of(typing_context: Any, bits: Any) -> Any:
    kind, word = (types.float32, ir.FloatType()) if bits == types.int32 else (types.float64, ir.DoubleType())

    def build(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], word)

    return kind(types.int32 if bits == types.int32 else types.int64), build


@intrinsic  # type: ignore[untyped-decorator]
def prefer_wide_vectors(typing_context: Any) -> Any:
    """Let this function use 512-bit registers where there are any: LLVM shuns them by default."""

    def build(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        # llvmlite knows no such attribute by name; a set of words is what it prints
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), build


@inlined
def fused_multiply_add(x: Real, y: Real, z: Real) -> Real:
    """Return x * y + z with one rounding."""
    return _fma(x, y, z)


ROUNDING_MAGIC = 6755399441055744.0  # 1.5 * 2^52: adding it leaves the nearest whole number in the low mantissa bits
LOG2_E = 1.4426950408889634
LN_2 = 0.6931471805599453
LN_2_HIGH = 6.93147180369123816490e-01
LN_2_LOW = 1.90821492927058770002e-10
TWO_PI = 6.283185307179586


@inlined
def power_of_two(y: Real) -> Real:
    """Return 2^y to 2e-14 relative, for |y| up to 1000.

    y = k + r with |r| <= 1/2; 2^r is a polynomial (Chebyshev interpolation of degree 9), and k goes into the exponent.
    """
    shifted = y + ROUNDING_MAGIC
    r = y - (shifted - ROUNDING_MAGIC)
    p = _fma(1.0212097549811005e-07, r, 1.3259945262689143e-06)
    p = _fma(p, r, 1.5252640059770786e-05)
    p = _fma(p, r, 0.00015403432339553542)
    p = _fma(p, r, 0.001333355825801874)
    p = _fma(p, r, 0.009618129195951041)
    p = _fma(p, r, 0.05550410866428854)
    p = _fma(p, r, 0.24022650695631514)
    p = _fma(p, r, 0.6931471805599526)
    p = _fma(p, r, 1.000000000000014)
    return _float_of(_bits_of(p) + (_bits_of(shifted) << 52))


@inlined
def power_of_two_single(y: Real) -> Real:
    """Return 2^y in float32 to 4e-7 relative, for a float32 |y| up to 120; the polynomial has degree 5."""
    shifted = y + np.float32(12582912.0)
    r = y - (shifted - np.float32(12582912.0))
    p = _fma(np.float32(0.001339086336353527), r, np.float32(0.009676031918255982))
    p = _fma(p, r, np.float32(0.05550357114222094))
    p = _fma(p, r, np.float32(0.2402210748530968))
    p = _fma(p, r, np.float32(0.6931471880262273))
    p = _fma(p, r, np.float32(1.0000000754548972))
    return _float_of(np.int32(_bits_of(p) + (_bits_of(shifted) << np.int32(23))))


@inlined
def exponential(x: Real) -> Real:
    """Return e^x to 2e-13 relative; x is held to [-690, 690]."""
    return power_of_two(min(max(x, -690.0), 690.0) * LOG2_E)


@inlined
def logarithm(x: Real) -> Real:
    """Return ln x to about 1e-15 for positive normal x; at most 2.3e-308 gives about -708."""
    bits = _bits_of(max(x, 2.3e-308))
    # k = exponent, so that x = 2^k m with m in [sqrt(1/2), sqrt(2)); read off as a float by the magic number's mantissa
    offset = bits - 0x3FE6A09E667F3BCD
    power = _float_of((offset >> 52) + 0x4338000000000000) - ROUNDING_MAGIC
    mantissa = _float_of((offset & 0xFFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    q = s * s
    p = 1.0 / 21.0  # ln m = 2 artanh(s) = 2 (s + s^3/3 + ...), |s| <= 0.172
    p = _fma(p, q, 1.0 / 19.0)
    p = _fma(p, q, 1.0 / 17.0)
    p = _fma(p, q, 1.0 / 15.0)
    p = _fma(p, q, 1.0 / 13.0)
    p = _fma(p, q, 1.0 / 11.0)
    p = _fma(p, q, 1.0 / 9.0)
    p = _fma(p, q, 1.0 / 7.0)
    p = _fma(p, q, 1.0 / 5.0)
    p = _fma(p, q, 1.0 / 3.0)
    tail = 2.0 * s * q * p
    return _fma(power, LN_2_HIGH, _fma(power, LN_2_LOW, tail) + 2.0 * s)


@inlined
def nats_of(probability: Real) -> Real:
    """Return -ln p, never below zero by rounding."""
    return 0.0 - min(logarithm(probability), 0.0)


@inlined
def hyperbolic_tangent(x: Real) -> Real:
    """Return tanh x to about 1e-15 absolute: 1 - 2 / (e^2x + 1)."""
    return 1.0 - 2.0 / (exponential(2.0 * x) + 1.0)


@inlined
def _cosine_and_sine_of_turn(turn: float) -> tuple[float, float]:
    """Return cos and sin of 2 pi turn, for a turn in [0, 1)."""
    quarters = _fma(turn, 4.0, ROUNDING_MAGIC)
    quadrant = _bits_of(quarters) & 3
    x = (turn - 0.25 * (quarters - ROUNDING_MAGIC)) * TWO_PI  # |x| <= pi / 4
    q = x * x
    c = _fma(1.0 / 20922789888000.0, q, -1.0 / 87178291200.0)
    c = _fma(c, q, 1.0 / 479001600.0)
    c = _fma(c, q, -1.0 / 3628800.0)
    c = _fma(c, q, 1.0 / 40320.0)
    c = _fma(c, q, -1.0 / 720.0)
    c = _fma(c, q, 1.0 / 24.0)
    c = _fma(c, q, -0.5)
    c = _fma(c, q, 1.0)
    s = _fma(-1.0 / 1307674368000.0, q, 1.0 / 6227020800.0)
    s = _fma(s, q, -1.0 / 39916800.0)
    s = _fma(s, q, 1.0 / 362880.0)
    s = _fma(s, q, -1.0 / 5040.0)
    s = _fma(s, q, 1.0 / 120.0)
    s = _fma(s, q, -1.0 / 6.0)
    s = _fma(s, q, 1.0) * x
    is_odd = (quadrant & 1) == 1
    cosine = s if is_odd else c
    sine = c if is_odd else s
    cosine = -cosine if quadrant == 1 or quadrant == 2 else cosine
    sine = -sine if quadrant >= 2 else sine
    return cosine, sine


# --- random words ----------------------------------------------------------------------------------------------------


@inlined
def philox(key: Word, stream: Word, row_low: Word, row_high: Word, block: Word) -> tuple[Word, Word, Word, Word]:
    """Return four random 32-bit words: Philox4x32-10 of counter (block, stream, row_low, row_high) under the seed."""
    k0 = np.uint64(key) & LOW_32
    k1 = np.uint64(key) >> SHIFT_32
    c0, c1, c2, c3 = np.uint64(block), np.uint64(stream), np.uint64(row_low), np.uint64(row_high)
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * c0
        p1 = np.uint64(0xCD9E8D57) * c2
        c0 = (p1 >> SHIFT_32) ^ c1 ^ k0
        c1 = p1 & LOW_32
        c2 = (p0 >> SHIFT_32) ^ c3 ^ k1
        c3 = p0 & LOW_32
        k0 = (k0 + np.uint64(0x9E3779B9)) & LOW_32
        k1 = (k1 + np.uint64(0xBB67AE85)) & LOW_32
    return c0, c1, c2, c3


@compiled
def open_stream(seed: Word, stream: int, row: Word) -> Stream:
    """Open the buffered words of one (seed, stream, row)."""
    source = np.empty(HEADER + WORDS, np.uint32)
    source[KEY_LOW] = np.uint64(seed) & LOW_32
    source[KEY_HIGH] = np.uint64(seed) >> SHIFT_32
    source[STREAM] = stream
    source[ROW_LOW] = np.uint64(row) & LOW_32
    source[ROW_HIGH] = np.uint64(row) >> SHIFT_32
    source[NEXT_BLOCK] = 0
    source[CURSOR] = HEADER + WORDS
    return source


@compiled
def _refill(source: Stream) -> None:
    key = np.uint64(source[KEY_LOW]) | (np.uint64(source[KEY_HIGH]) << SHIFT_32)
    stream, low, high = source[STREAM], source[ROW_LOW], source[ROW_HIGH]
    first = source[NEXT_BLOCK]
    for b in range(BLOCKS):
        w0, w1, w2, w3 = philox(key, stream, low, high, (np.uint64(first) + np.uint64(b)) & LOW_32)
        source[HEADER + b] = w0
        source[HEADER + BLOCKS + b] = w1
        source[HEADER + 2 * BLOCKS + b] = w2
        source[HEADER + 3 * BLOCKS + b] = w3
    source[NEXT_BLOCK] = first + BLOCKS
    source[CURSOR] = HEADER


@inlined
def next_word(source: Stream) -> Word:
    """Return the stream's next 32 random bits."""
    cursor = np.int64(source[CURSOR])
    if cursor == HEADER + WORDS:
        _refill(source)
        cursor = np.int64(HEADER)
    source[CURSOR] = cursor + 1
    return np.uint64(source[cursor])


@inlined
def uniform_of(w0: Word, w1: Word) -> Real:
    """Turn two random words into a uniform number in (0, 1), on the midpoints of a grid of 2^-52: never 0, never 1."""
    high, low = np.int64(w0 >> 6), np.int64(w1 >> 6)
    return (float(high) * 67108864.0 + float(low) + 0.5) * 2.220446049250313e-16


@inlined
def next_uniform(source: Stream) -> Real:
    """Return the stream's next uniform number in (0, 1)."""
    w0 = np.int64(next_word(source))
    return uniform_of(w0, np.int64(next_word(source)))


@inlined
def bounded_integer(source: Stream, bound: int) -> Word:
    """Return a whole number from 0 to bound - 1, exactly uniform (Lemire 2019), for bounds up to 2^31."""
    width = np.uint64(bound)
    product = np.uint64(next_word(source)) * width
    if (product & LOW_32) < width:
        threshold = (np.uint64(0x100000000) - width) % width
        while (product & LOW_32) < threshold:
            product = np.uint64(next_word(source)) * width
    return np.int64(product >> SHIFT_32)


@compiled
def poisson(source: Stream, mean: float) -> int:
    """Return a Poisson number by inversion, in steps of mean 256 at most so that e^-mean keeps its digits."""
    total = 0
    while mean > 0.0:
        step = min(mean, 256.0)
        mean -= step
        probability = exponential(-step)
        remaining = next_uniform(source) - probability
        k = 0
        while remaining > 0.0 and probability > 1e-300:
            k += 1
            probability *= step / k
            remaining -= probability
        total += k
    return total


@inlined
def standard_normal_pair(w0: Word, w1: Word, w2: Word, w3: Word) -> tuple[Real, Real]:
    """Turn four random words into two independent standard normal numbers (Box and Muller 1958)."""
    radius = np.sqrt(-2.0 * logarithm(uniform_of(w0, w1)))
    cosine, sine = _cosine_and_sine_of_turn(uniform_of(w2, w3))
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


# --- weighing a vocabulary ------------------------------------------------------------------------------------------


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
        for _ in range(3):
            entry = sums[first + i] if level > 1 else np.float64(weights[i])
            if i + quarter >= size or wanted < entry:
                break
            wanted -= entry
            i += quarter
    return i


# --- rows over threads -----------------------------------------------------------------------------------------------

SMALLEST_SHARE_TOKENS = 16384  # below this, handing work to a thread costs more than it saves

_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    global _pool  # a forked child has none of its parent's threads
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def available_threads() -> int:
    """Return how many threads a batch may use: the CPUs of this process, at most ``NUMBA_NUM_THREADS``."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cpus, int(numba.config.NUMBA_NUM_THREADS)))


def run_rows(work: Callable[[int, int], None], *, n_rows: int, length: int, threads: int | None) -> None:
    """Call ``work(first, last)`` over shares of the rows, on several threads if there is enough to do.

    A thread pool instead of numba's own: that one aborts the process after a fork or when two threads enter it.
    """
    global _pool
    most = available_threads() if threads is None else threads
    shares = max(1, min(most, n_rows, n_rows * length // SMALLEST_SHARE_TOKENS))
    if shares == 1:
        work(0, n_rows)
        return
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=max(64, available_threads()), thread_name_prefix="xenoglot-rows")
    edges = [n_rows * share // shares for share in range(shares + 1)]
    jobs = [_pool.submit(work, first, last) for first, last in itertools.pairwise(edges)]
    for job in jobs:
        job.result()
