"""Words by number: each spelling is looked at once, and found again by the hash of its bytes."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xenoglot.episodes.characters import folded, is_word
from xenoglot.episodes.scanning import Scan, hashes_of
from xenoglot.kernels import EMPTY, compiled, n_slots_of, slot_of

__all__ = ["NO_WORD", "HashSet", "WordForms"]

Bytes: TypeAlias = NDArray[np.uint8]
Hashes: TypeAlias = NDArray[np.uint64]
Numbers: TypeAlias = NDArray[np.uint32]

NO_WORD = 0xFFFFFFFF
"""The number of a run that is no word."""
NEWLINE = 10


class HashSet:
    """Hashes, each with a place of its own; what belongs to it is kept in arrays of that many places.

    Two things with the same 64 bits are taken for one: among ten million, that happens with a probability of 3e-6.

    Args:
        values: An array for what belongs to each hash, by name; it has one element, which says its type.
    """

    def __init__(self, **values: NDArray[Any]) -> None:
        self.n_hashes = 0
        self._keys = np.zeros(n_slots_of(0), np.uint64)
        self.values = {name: np.resize(value, len(self._keys)) for name, value in values.items()}

    def add(self, hashes: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Add what is not there yet.

        Args:
            hashes: uint64 [N], never 0.

        Returns:
            The place of each, int64 [N], and which of the given ones were new, in their order.
        """
        if 2 * (self.n_hashes + len(hashes)) > len(self._keys):
            self._grow(self.n_hashes + len(hashes))
        places, is_new = _added(self._keys, hashes)
        new = np.flatnonzero(is_new)
        self.n_hashes += len(new)
        return places, new

    def _grow(self, n_hashes: int) -> None:
        earlier = np.flatnonzero(self._keys != EMPTY)
        keys = np.zeros(n_slots_of(n_hashes), np.uint64)
        places, _ = _added(keys, self._keys[earlier])
        for name, value in self.values.items():
            self.values[name] = np.empty(len(keys), value.dtype)
            self.values[name][places] = value[earlier]
        self._keys = keys


class WordForms:
    """Numbers words in the order in which they first occur.

    Attributes:
        words: The words by number, folded.
    """

    def __init__(self) -> None:
        self.words: list[str] = []
        self._numbers: dict[str, int] = {}
        self._runs = HashSet(number=np.zeros(1, np.uint32), folded_hash=np.zeros(1, np.uint64))

    def __call__(self, text: Bytes, found: Scan) -> tuple[Numbers, Hashes]:
        """Return the number of each run of a text, or `NO_WORD`, and a hash that all spellings of it share."""
        places, new = self._runs.add(found.run_hashes)
        content = text.tobytes()
        spans = zip(found.run_begins[new].tolist(), found.run_ends[new].tolist(), strict=True)
        lines = folded(b"\n".join([content[begin:end] for begin, end in spans]).decode())  # all at once is much faster
        runs = lines.split("\n") if len(new) else []
        self._runs.values["number"][places[new]] = [self._number(run) for run in runs]
        self._runs.values["folded_hash"][places[new]] = hashes_of_texts(runs)
        return self._runs.values["number"][places], self._runs.values["folded_hash"][places]

    def _number(self, run: str) -> int:
        number = self._numbers.get(run)
        if number is None:
            if not is_word(run):
                return NO_WORD
            number = self._numbers[run] = len(self.words)
            self.words.append(run)
        return number


def hashes_of_texts(texts: list[str]) -> Hashes:
    """Return a hash for each text, never 0; no text has a line break.

    Example:
        >>> one, two, three = hashes_of_texts(["a", "b", "a"])
        >>> bool(one == three), bool(one == two)
        (True, False)
    """
    lines = np.frombuffer("\n".join([*texts, ""]).encode(), np.uint8)
    ends = np.flatnonzero(lines == NEWLINE)
    return hashes_of(lines, np.concatenate([np.zeros(min(1, len(ends)), np.int64), ends[:-1] + 1]), ends)


@compiled
def _added(keys: Any, hashes: Any) -> Any:
    places, is_new = np.empty(len(hashes), np.int64), np.zeros(len(hashes), np.bool_)
    for i in range(len(hashes)):
        places[i] = slot_of(keys, hashes[i])
        if keys[places[i]] == EMPTY:
            keys[places[i]] = hashes[i]
            is_new[i] = True
    return places, is_new
