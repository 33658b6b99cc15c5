r"""A random order of any number of things, without a list of them: where one comes to stand is computed when asked.

A permutation of 0..N-1 is made from one of a rectangle of a b cells, a = ceil(sqrt N), b = ceil(N / a). A cell
x = b l + r, with l < a and r < b, goes through eight rounds of a generalised Feistel network,

.. math::
    l \leftarrow (l + F_{2i}(r)) \bmod a, \qquad r \leftarrow (r + F_{2i+1}(l)) \bmod b

each of which can be undone, so no two cells meet. Fewer than a cells lie beyond N; what lands there goes through again
until it lands within ("cycle walking"), which is about one in sqrt(N).

Source: Black and Rogaway, "Ciphers with Arbitrary Finite Domains" (CT-RSA 2002), section 5 and, for cycle walking,
section 4. The functions F_j are a mixer of 64 bits (Stafford's variant 13, as in splitmix64) over a key and the number:
made for shuffling, not for secrets.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xenoglot.options import whole_number
from xenoglot.rng import derive

__all__ = ["EpochOrder", "Permutation"]

Integers: TypeAlias = NDArray[np.int64]
Words: TypeAlias = NDArray[np.uint64]

ROUNDS = 8
LARGEST_SIZE = 2**62


class Permutation:
    """A random order of the numbers 0..N-1.

    Args:
        size: How many numbers, N, up to 2^62.
        seed: 0 to 2^63 - 1; each seed has an order of its own.

    Raises:
        OptionError: If an argument is not allowed.

    Example:
        >>> order = Permutation(10, seed=0)
        >>> sorted(order(range(10)).tolist())
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
        >>> bool(order([7])[0] == order(range(10))[7])
        True
        >>> Permutation(10**15, seed=0)([0, 10**15 - 1]).shape
        (2,)
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = whole_number("size", size, minimum=1, maximum=LARGEST_SIZE)
        self._n_left = math.isqrt(self.size - 1) + 1
        self._n_right = -(-self.size // self._n_left)
        self._keys = [np.uint64(derive(seed, "permutation", number)) for number in range(2 * ROUNDS)]

    def __call__(self, positions: ArrayLike) -> Integers:
        """Return which number stands at each position.

        Args:
            positions: Whole numbers from 0 to N - 1, of any shape.

        Returns:
            int64 in the same shape.
        """
        numbers = np.array(positions, dtype=np.int64)
        if numbers.size and not 0 <= int(numbers.min()) <= int(numbers.max()) < self.size:
            raise IndexError(f"positions from {numbers.min()} to {numbers.max()} of an order of {self.size}")
        shape, numbers = numbers.shape, self._through_rounds(numbers.ravel())
        while (beyond := np.flatnonzero(numbers >= self.size)).size:
            numbers[beyond] = self._through_rounds(numbers[beyond])
        return numbers.reshape(shape)

    def _through_rounds(self, cells: Integers) -> Integers:
        left, right = np.divmod(cells.astype(np.uint64), np.uint64(self._n_right))
        for to_left, to_right in zip(self._keys[::2], self._keys[1::2], strict=True):
            left = (left + _mixed(right ^ to_left) % np.uint64(self._n_left)) % np.uint64(self._n_left)
            right = (right + _mixed(left ^ to_right) % np.uint64(self._n_right)) % np.uint64(self._n_right)
        return (left * np.uint64(self._n_right) + right).astype(np.int64)


def _mixed(words: Words) -> Words:
    """Return 64 bits that look random for each word, and differ where words do."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


class EpochOrder:
    """Rows without end: every epoch goes through all N of them once, in a random order of its own.

    Args:
        size: How many rows there are, N.
        seed: 0 to 2^63 - 1.

    Example:
        >>> epochs, rows = EpochOrder(3, seed=0)(range(6))
        >>> epochs.tolist(), sorted(rows[:3].tolist()), sorted(rows[3:].tolist())
        ([0, 0, 0, 1, 1, 1], [0, 1, 2], [0, 1, 2])
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self._seed = seed

    def __call__(self, numbers: ArrayLike) -> tuple[Integers, Integers]:
        """Return the epoch of each number, int64, and which row it is."""
        epochs, rows = np.divmod(np.asarray(numbers, np.int64), self.size)
        for epoch in np.unique(epochs).tolist():
            of_epoch = epochs == epoch
            rows[of_epoch] = Permutation(self.size, derive(self._seed, "epoch", epoch))(rows[of_epoch])
        return epochs, rows
