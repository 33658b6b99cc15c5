"""Elementary functions whose every bit is ours: no library of the machine takes part, and they vectorise."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from xenoglot.kernels.compiling import Real, inlined

__all__ = [
    "LN_2",
    "LOG2_E",
    "cosine_and_sine_of_turn",
    "exponential",
    "fused_multiply_add",
    "hyperbolic_tangent",
    "log_complement",
    "logarithm",
    "nats_of",
    "power_of_two",
    "power_of_two_single",
]


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
def log_complement(probability: float) -> Real:
    """Return ln(1 - p) without losing a small p: ln(u) p / (1 - u) with the rounded u = 1 - p (Kahan).

    A p of 1 gives about -708.
    """
    rest = 1.0 - probability
    return -probability if rest == 1.0 else logarithm(rest) * probability / (1.0 - rest)


@inlined
def nats_of(probability: Real) -> Real:
    """Return -ln p, never below zero by rounding."""
    return 0.0 - min(logarithm(probability), 0.0)


@inlined
def hyperbolic_tangent(x: Real) -> Real:
    """Return tanh x to about 1e-15 absolute: 1 - 2 / (e^2x + 1)."""
    return 1.0 - 2.0 / (exponential(2.0 * x) + 1.0)


@inlined
def cosine_and_sine_of_turn(turn: float) -> tuple[float, float]:
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
