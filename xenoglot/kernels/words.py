"""Random words: Philox4x32-10 of (seed, stream, row, block), read in order through a small buffer."""

from __future__ import annotations

import numpy as np

from xenoglot.kernels.compiling import Real, Stream, Word, compiled, inlined

__all__ = [
    "LOW_32",
    "SHIFT_32",
    "STREAM_ELEMENTS",
    "STREAM_LANGUAGE",
    "STREAM_NOISE",
    "STREAM_TOKENS",
    "bounded_integer",
    "next_uniform",
    "next_word",
    "open_stream",
    "philox",
    "uniform_of",
    "whole_below",
]

STREAM_LANGUAGE = 1
"""The stream from which a language's parameters are drawn."""
STREAM_TOKENS = 2
"""The stream from which a row's tokens are drawn."""
STREAM_ELEMENTS = 3
"""A further stream of parameters, for families that draw some of them lazily."""
STREAM_NOISE = 4
"""The stream from which a row's disturbances are drawn, a block each."""

BLOCKS = 32  # Philox blocks in a buffer: enough to vectorise, small enough to waste little
WORDS = 4 * BLOCKS
KEY_LOW, KEY_HIGH, STREAM, ROW_LOW, ROW_HIGH, NEXT_BLOCK, CURSOR = range(7)
HEADER = 8

LOW_32 = np.uint64(0xFFFFFFFF)
SHIFT_32 = np.uint64(32)


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
def whole_below(uniform: Real, bound: int) -> Word:
    """Return floor(uniform * bound), at most bound - 1: a whole number uniform to 2^-52 bound, with no branch."""
    return min(np.int64(uniform * bound), np.int64(bound - 1))


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
