"""Large arrays whose memory is used again: fresh memory costs more than writing MetaLM-1 into it.

The kernel zeroes every page that a process touches for the first time, and makes threads wait for each other there; and
NumPy gives large blocks back as soon as an array dies, so that the next batch pays again. Here the last few blocks are
kept. An array from here is an ordinary one; its block returns when the last view of it is gone.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["reused_empty"]

SMALLEST_BYTES = 2**18  # below this the allocator of the C library does as well
MOST_KEPT_BYTES = 2**27

_kept: deque[NDArray[np.uint8]] = deque()


class _Lease:
    """Holds a block for the arrays made of it, and hands it back when the last of them is gone."""

    def __init__(self, block: NDArray[np.uint8]) -> None:
        self._block = block
        self.__array_interface__ = block.__array_interface__

    def __del__(self) -> None:
        _kept.append(self._block)
        while sum(block.nbytes for block in list(_kept)) > MOST_KEPT_BYTES:
            _kept.popleft()


def reused_empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array with arbitrary content, like `numpy.empty`, if possible in memory that was used before.

    Args:
        shape: Its shape.
        dtype: Its type.

    Example:
        >>> reused_empty((2, 3), np.int32).shape
        (2, 3)
    """
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    if n_bytes < SMALLEST_BYTES:
        return np.empty(shape, dtype)
    return np.asarray(_Lease(_take(n_bytes))).view(dtype).reshape(shape)


def _take(n_bytes: int) -> NDArray[np.uint8]:
    """Take the newest kept block of this size, or else a fresh one."""
    for _ in range(len(_kept)):
        try:
            block = _kept.pop()
        except IndexError:  # another thread took the last one
            break
        if block.nbytes == n_bytes:
            return block
        _kept.appendleft(block)
    return np.empty(n_bytes, np.uint8)
