"""The compiled primitives that every family's sampler is built from.

Three rules make a row the same on every machine, whatever the batch, the thread or the process:

1. Every random word is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") of
   (seed, stream, row, block). No state is shared, and no two rows can overlap.
2. Sums are taken in a written order: sixteen or more lanes side by side, never reassociated by the compiler.
3. Multiply-adds are fused explicitly, and exp, log, tanh, sine and cosine are our own polynomials, so that no mathematics
   library of the machine takes part. They also vectorise, which calls to a library would not.

Everything is float64: the recurrent families are chaotic, and float32 would lose their law within some dozen tokens.
"""

from __future__ import annotations

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
    "LANES",
    "STREAM_ELEMENTS",
    "STREAM_LANGUAGE",
    "STREAM_TOKENS",
    "add_product",
    "bounded_integer",
    "compiled",
    "exponential",
    "exponentiate",
    "fill_normals",
    "fused_multiply_add",
    "geometric_gap",
    "hyperbolic_tangent",
    "inlined",
    "log_gamma_variate",
    "logarithm",
    "next_uniform",
    "next_word",
    "open_stream",
    "padded",
    "philox",
    "poisson",
    "run_rows",
    "sample_weights",
    "standard_normal_pair",
    "sum_of_lanes",
]

Function = TypeVar("Function", bound=Callable[..., Any])

STREAM_LANGUAGE = 1
"""The stream from which a language's parameters are drawn."""
STREAM_TOKENS = 2
"""The stream from which a row's tokens are drawn."""
STREAM_ELEMENTS = 3
"""A further stream of parameters, for families that draw some of them lazily."""

Stream: TypeAlias = Any  # in compiled code: uint32[HEADER + WORDS]; one array, because tuples cost reference counts

BLOCKS = 32  # Philox blocks in a buffer: enough to vectorise, small enough to waste little
WORDS = 4 * BLOCKS
KEY_LOW, KEY_HIGH, STREAM, ROW_LOW, ROW_HIGH, NEXT_BLOCK, CURSOR = range(7)
HEADER = 8

LOW_32 = np.uint64(0xFFFFFFFF)
SHIFT_32 = np.uint64(32)


def compiled(function: Function) -> Function:
    """Compile to machine code, cached on disk, without the interpreter's lock and without fast-math."""
    return cast(Function, numba.njit(cache=True, nogil=True)(function))


def inlined(function: Function) -> Function:
    """Compile as part of every caller, because a loop with a call in it does not vectorise."""
    return cast(Function, numba.njit(cache=True, nogil=True, forceinline=True)(function))


# --- arithmetic whose every bit is ours ------------------------------------------------------------------------------


@intrinsic  # type: ignore[untyped-decorator]
def _fma(typing_context: Any, x: Any, y: Any, z: Any) -> Any:
    def build(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float64(types.float64, types.float64, types.float64), build


@intrinsic  # type: ignore[untyped-decorator]
def _bits_of(typing_context: Any, x: Any) -> Any:
    def build(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), build


@intrinsic  # type: ignore[untyped-decorator]
def _float_of(typing_context: Any, bits: Any) -> Any:
    def build(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), build


@inlined
def fused_multiply_add(x: float, y: float, z: float) -> float:
    """Return x * y + z with one rounding."""
    return _fma(x, y, z)


ROUNDING_MAGIC = 6755399441055744.0  # 1.5 * 2^52: adding it leaves the nearest whole number in the low mantissa bits
LOG2_E = 1.4426950408889634
LN_2_HIGH = 6.93147180369123816490e-01
LN_2_LOW = 1.90821492927058770002e-10
SQRT_HALF = 0.7071067811865476
TWO_PI = 6.283185307179586


@inlined
def exponential(x: float) -> float:
    """Return e^x to about 1e-14 relative; x is held to [-708, 709]."""
    x = min(max(x, -708.0), 709.0)
    shifted = _fma(x, LOG2_E, ROUNDING_MAGIC)
    power = shifted - ROUNDING_MAGIC
    r = _fma(power, -LN_2_LOW, _fma(power, -LN_2_HIGH, x))  # |r| <= ln(2) / 2
    p = 1.0 / 39916800.0  # Taylor to r^11: the rest is below 1e-14
    p = _fma(p, r, 1.0 / 3628800.0)
    p = _fma(p, r, 1.0 / 362880.0)
    p = _fma(p, r, 1.0 / 40320.0)
    p = _fma(p, r, 1.0 / 5040.0)
    p = _fma(p, r, 1.0 / 720.0)
    p = _fma(p, r, 1.0 / 120.0)
    p = _fma(p, r, 1.0 / 24.0)
    p = _fma(p, r, 1.0 / 6.0)
    p = _fma(p, r, 0.5)
    p = _fma(p, r, 1.0)
    p = _fma(p, r, 1.0)
    return p * _float_of((_bits_of(shifted) + 1023) << 52)


@inlined
def logarithm(x: float) -> float:
    """Return ln x to about 1e-15 for positive normal x; at most 2.3e-308 gives about -708."""
    bits = _bits_of(max(x, 2.3e-308))
    exponent = (bits >> 52) - 1023
    mantissa = _float_of((bits & 0xFFFFFFFFFFFFF) | 0x3FE0000000000000)  # in [0.5, 1)
    is_small = mantissa < SQRT_HALF
    mantissa = mantissa * 2.0 if is_small else mantissa
    power = float(exponent) if is_small else float(exponent) + 1.0
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
def hyperbolic_tangent(x: float) -> float:
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
def philox(key: int, stream: int, row_low: int, row_high: int, block: int) -> tuple[int, int, int, int]:
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
    return c0, c1, c2, c3  # type: ignore[return-value]


@compiled
def open_stream(seed: int, stream: int, row: int) -> Stream:
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
def next_word(source: Stream) -> int:
    """Return the stream's next 32 random bits."""
    cursor = np.int64(source[CURSOR])
    if cursor == HEADER + WORDS:
        _refill(source)
        cursor = np.int64(HEADER)
    source[CURSOR] = cursor + 1
    return np.uint64(source[cursor])


@inlined
def next_uniform(source: Stream) -> float:
    """Return a uniform number in (0, 1), on the midpoints of a grid of 2^-53."""
    high = np.uint64(next_word(source)) >> np.uint64(5)
    low = np.uint64(next_word(source)) >> np.uint64(6)
    return (float(high) * 67108864.0 + float(low) + 0.5) * 1.1102230246251565e-16


@inlined
def bounded_integer(source: Stream, bound: int) -> int:
    """Return a whole number from 0 to bound - 1, exactly uniform (Lemire 2019), for bounds up to 2^31."""
    width = np.uint64(bound)
    product = np.uint64(next_word(source)) * width
    if (product & LOW_32) < width:
        threshold = (np.uint64(0x100000000) - width) % width
        while (product & LOW_32) < threshold:
            product = np.uint64(next_word(source)) * width
    return np.int64(product >> SHIFT_32)  # type: ignore[return-value]


@compiled
def geometric_gap(source: Stream, log_survival: float) -> int:
    """Return how many trials fail before the next success: P(gap >= k) = e^(k log_survival).

    Args:
        source: The stream.
        log_survival: ln(1 - p): 0 means that no success ever comes, minus infinity that each trial is one.
    """
    if log_survival == 0.0:
        return 1 << 62
    gap = logarithm(next_uniform(source)) / log_survival
    return int(gap) if gap < 4e18 else 1 << 62


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
def standard_normal_pair(w0: int, w1: int, w2: int, w3: int) -> tuple[float, float]:
    """Turn four random words into two independent standard normal numbers (Box and Muller 1958)."""
    u = (float(w0 >> 5) * 67108864.0 + float(w1 >> 6) + 0.5) * 1.1102230246251565e-16
    turn = (float(w2 >> 5) * 67108864.0 + float(w3 >> 6)) * 1.1102230246251565e-16
    radius = np.sqrt(-2.0 * logarithm(u))
    cosine, sine = _cosine_and_sine_of_turn(turn)
    return radius * cosine, radius * sine


@compiled
def fill_normals(seed: int, stream: int, row: int, first_block: int, out: Any) -> int:
    """Fill a flat float64 array with standard normal numbers; returns the block after the last one used."""
    low, high = np.uint64(row) & LOW_32, np.uint64(row) >> SHIFT_32
    pairs = len(out) // 2
    for i in range(pairs):
        w0, w1, w2, w3 = philox(seed, stream, low, high, np.uint64(first_block + i))  # type: ignore[arg-type]
        out[2 * i], out[2 * i + 1] = standard_normal_pair(np.int64(w0), np.int64(w1), np.int64(w2), np.int64(w3))  # type: ignore[arg-type]
    if len(out) % 2:
        w0, w1, w2, w3 = philox(seed, stream, low, high, np.uint64(first_block + pairs))  # type: ignore[arg-type]
        out[len(out) - 1], _ = standard_normal_pair(np.int64(w0), np.int64(w1), np.int64(w2), np.int64(w3))  # type: ignore[arg-type]
    return first_block + (len(out) + 1) // 2


@compiled
def log_gamma_variate(source: Stream, shape: float) -> float:
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
        x, _ = standard_normal_pair(w0, w1, w2, w3)  # type: ignore[arg-type]
        v = 1.0 + c * x
        if v > 0.0:
            log_v = 3.0 * logarithm(v)
            v = v * v * v
            if logarithm(next_uniform(source)) < 0.5 * x * x + d - d * v + d * log_v:
                return logarithm(d) + log_v + boost


# --- weighing a vocabulary ------------------------------------------------------------------------------------------

LANES = 16  # sums run in this many lanes side by side; vocabularies are padded to a multiple of it


@inlined
def padded(size: int) -> int:
    """Return the size rounded up to whole lanes."""
    return (size + LANES - 1) // LANES * LANES


@compiled
def add_product(matrix: Any, vector: Any, out: Any) -> None:
    """Add vector [J] times matrix [J, N] to out [N], summing over J in order, eight rows at a time."""
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
def exponentiate(logits: Any, scale: float, shift: float, n_words: int, weights: Any, lanes: Any) -> float:
    """Write weights = e^(scale logits - shift), zero beyond n_words, and their sums in lanes; returns the total."""
    for v in range(len(weights)):
        weights[v] = exponential(_fma(logits[v], scale, -shift))
    for v in range(n_words, len(weights)):
        weights[v] = 0.0
    lanes[:] = 0.0
    for first in range(0, len(weights), LANES):
        for lane in range(LANES):
            lanes[lane] += weights[first + lane]
    return sum_of_lanes(lanes)


@inlined
def sum_of_lanes(lanes: Any) -> float:
    """Return the sum of sixteen lanes, pairwise."""
    s0, s1 = lanes[0] + lanes[8], lanes[1] + lanes[9]
    s2, s3 = lanes[2] + lanes[10], lanes[3] + lanes[11]
    s4, s5 = lanes[4] + lanes[12], lanes[5] + lanes[13]
    s6, s7 = lanes[6] + lanes[14], lanes[7] + lanes[15]
    return ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))


@compiled
def sample_weights(weights: Any, lanes: Any, wanted: float) -> int:
    """Return the index at which the running sum of weights, lane by lane, exceeds ``wanted``."""
    lane = 0
    while lane < LANES - 1 and wanted >= lanes[lane]:
        wanted -= lanes[lane]
        lane += 1
    v = lane
    best = lane
    while v < len(weights):
        if weights[v] > 0.0:
            best = v
            if wanted < weights[v]:
                return v
            wanted -= weights[v]
        v += LANES
    return best  # rounding left a crumb beyond the lane's last weight


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
    jobs = [_pool.submit(work, first, last) for first, last in zip(edges[:-1], edges[1:], strict=True)]
    for job in jobs:
        job.result()
