"""From UTF-8 bytes to sentences and the runs of letters in them, in compiled code.

Two ways to tell where a sentence ends:

- *lines*: every line is one;
- *running*: a sentence ends behind ``.``, ``!``, ``?``, ``…`` or its like in other scripts, with what closes quotes and
  brackets, when white space and something else than a small letter follow (no white space is needed behind ``。``); and
  at an empty line. A full stop behind a single letter, or behind Latin letters without a vowel, is an abbreviation's
  (*J. Smith*, *Mr. Smith*, *vs. him*). A line break alone is a space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xenoglot.episodes.characters import (
    APOSTROPHE,
    CLOSING,
    DIGIT,
    ENDING,
    HAN,
    LATIN,
    LETTER,
    LOWER,
    MARK,
    SPACE,
    UNSPACED_ENDING,
    VOWEL,
    character_kinds,
)
from xenoglot.kernels import compiled, inlined

__all__ = ["Scan", "hash_of", "hashes_of", "scan"]

Bytes: TypeAlias = NDArray[np.uint8]
Integers: TypeAlias = NDArray[np.int64]
Hashes: TypeAlias = NDArray[np.uint64]

IN_RUN = LETTER | MARK | DIGIT
NEWLINE, RETURN, FULL_STOP = 10, 13, 46
WITHIN, AFTER_ENDING, AFTER_UNSPACED_ENDING, AFTER_SPACE = range(4)
"""How near to its end a sentence is: what stands behind the sign that may end it."""
SELECTORS = 0xE0100  # of variants: marks, the only ones above the tabled code points
HASH_START, HASH_FACTOR = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)


@dataclass(frozen=True, kw_only=True)
class Scan:
    """The sentences of a piece of text; all places are bytes from its beginning.

    Attributes:
        begins: int64 [S], where each sentence begins.
        ends: int64 [S], behind the last byte of each.
        run_starts: int64 [S + 1], which run is the first of each sentence, and how many there are in all.
        run_begins: int64 [R], where each run begins.
        run_ends: int64 [R], behind its last byte.
        run_hashes: uint64 [R], of its bytes, never 0.
        n_read: Bytes up to where an unfinished sentence begins.
    """

    begins: Integers
    ends: Integers
    run_starts: Integers
    run_begins: Integers
    run_ends: Integers
    run_hashes: Hashes
    n_read: int


def scan(text: Bytes, *, is_running: bool, is_last: bool) -> Scan:
    """Find the sentences of a piece of text, and their runs.

    Args:
        text: uint8 [N], whole characters of UTF-8.
        is_running: Whether lines are broken anywhere, rather than a sentence each.
        is_last: Whether nothing follows: otherwise the last sentence counts as unfinished.

    Example:
        >>> text = np.frombuffer(b"Mr. X isn't in. He's out.", np.uint8)
        >>> found = scan(text, is_running=True, is_last=True)
        >>> [bytes(text[begin:end]) for begin, end in zip(found.begins, found.ends)]
        [b"Mr. X isn't in.", b"He's out."]
        >>> [bytes(text[begin:end]) for begin, end in zip(found.run_begins, found.run_ends)]
        [b'Mr', b'X', b"isn't", b'in', b"He's", b'out']
    """
    most = len(text) // 2 + 2
    begins, ends, run_starts = (np.empty(most, np.int64) for _ in range(3))
    run_begins, run_ends, run_hashes = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.uint64)
    n_sentences, n_runs, n_read = _scan(
        text, character_kinds(), is_running, is_last, (begins, ends, run_starts), (run_begins, run_ends, run_hashes)
    )
    return Scan(
        begins=begins[:n_sentences],
        ends=ends[:n_sentences],
        run_starts=run_starts[: n_sentences + 1],
        run_begins=run_begins[:n_runs],
        run_ends=run_ends[:n_runs],
        run_hashes=run_hashes[:n_runs],
        n_read=n_read,
    )


@inlined
def _character(text: Any, place: int) -> Any:
    """Return the code point at a place, and how many bytes it has."""
    first = np.int64(text[place])
    if first < 0x80:
        return first, 1
    if first < 0xE0:
        return (first & 0x1F) << 6 | np.int64(text[place + 1]) & 0x3F, 2
    second, third = np.int64(text[place + 1]) & 0x3F, np.int64(text[place + 2]) & 0x3F
    if first < 0xF0:
        return (first & 0x0F) << 12 | second << 6 | third, 3
    return (first & 0x07) << 18 | second << 12 | third << 6 | np.int64(text[place + 3]) & 0x3F, 4


@inlined
def _kind(kinds: Any, code: int) -> Any:
    if code < len(kinds):
        return np.int64(kinds[code])
    return np.int64(MARK if code >= SELECTORS else 0)


@inlined
def _extended(hashed: Any, byte: Any) -> Any:
    """Take one more byte into a hash: FNV-1a (Fowler, Noll and Vo)."""
    return (hashed ^ np.uint64(byte)) * HASH_FACTOR


@inlined
def hash_of(text: Any, begin: int, end: int) -> Any:
    """Return 64 bits that stand for some bytes, never 0, which stands for nothing."""
    hashed = HASH_START
    for place in range(begin, end):
        hashed = _extended(hashed, text[place])
    return max(hashed, np.uint64(1))


@compiled
def hashes_of(text: Bytes, begins: Integers, ends: Integers) -> Hashes:
    """Return the hash of each stretch of bytes."""
    hashes = np.empty(len(begins), np.uint64)
    for i in range(len(begins)):
        hashes[i] = hash_of(text, begins[i], ends[i])
    return hashes


@inlined
def _is_inner_apostrophe(text: Any, kinds: Any, kind: int, place: int) -> Any:
    """Tell whether what ends before this place is an apostrophe with a letter behind it."""
    if not kind & APOSTROPHE or place >= len(text):
        return False
    code, _ = _character(text, place)
    following = _kind(kinds, code)
    return following & LETTER != 0 and following & HAN == 0


@inlined
def _run_end(text: Any, kinds: Any, begin: int) -> Any:
    """Return where the run that begins here ends, and whether a full stop behind it may be an abbreviation's."""
    place, n_characters, kind, some, every = begin, 0, 0, 0, LATIN | LETTER
    while place < len(text):
        last_kind = kind
        code, width = _character(text, place)
        kind = _kind(kinds, code)
        if not kind & IN_RUN:
            if not last_kind & (LETTER | MARK) or not _is_inner_apostrophe(text, kinds, kind, place + width):
                break
        elif kind & HAN:
            place += width if place == begin else 0
            break
        n_characters, some, every = n_characters + 1, some | kind, every & kind
        place += width
    is_single = n_characters == 1 and every & LETTER != 0
    return place, is_single or (every & LATIN != 0 and some & VOWEL == 0)


@inlined
def _is_break(text: Any, place: int, code: int) -> Any:
    """Tell whether a line ends here: with a newline, or a carriage return that none follows."""
    return code == NEWLINE or (code == RETURN and not (place + 1 < len(text) and text[place + 1] == NEWLINE))


@inlined
def _is_over(kind: int, state: int, n_breaks: int, is_running: bool) -> Any:
    """Tell whether a sentence ends before a character, which may be the line break that has just been counted."""
    if kind & SPACE:
        return n_breaks == 2 or (n_breaks == 1 and not is_running)
    if state == AFTER_UNSPACED_ENDING:
        return kind & (CLOSING | ENDING) == 0
    return state == AFTER_SPACE and kind & LOWER == 0


@inlined
def _state_after(kind: int, state: int, abbreviates: bool) -> Any:
    """Return the state behind a character of a running text that is in no run."""
    if kind & SPACE:
        return WITHIN if state == WITHIN else AFTER_SPACE
    if kind & ENDING:
        return WITHIN if abbreviates else AFTER_UNSPACED_ENDING if kind & UNSPACED_ENDING else AFTER_ENDING
    return state if kind & CLOSING else WITHIN


@compiled
def _scan(text: Any, kinds: Any, is_running: bool, is_last: bool, sentences: Any, runs: Any) -> Any:
    begins, ends, run_starts = sentences
    run_begins, run_ends, run_hashes = runs
    n_sentences = n_runs = n_breaks = place = last = 0
    begin, state, may_abbreviate = -1, WITHIN, False  # no sentence has begun
    run_starts[0] = 0
    while place < len(text):
        code, width = _character(text, place)
        kind = _kind(kinds, code)
        n_breaks = n_breaks + _is_break(text, place, code) if kind & SPACE else 0
        if _is_over(kind, state, n_breaks, is_running):
            if begin >= 0:
                begins[n_sentences], ends[n_sentences] = begin, last
                n_sentences += 1
                run_starts[n_sentences] = n_runs
            begin, state = -1, WITHIN
        if not kind & SPACE and begin < 0:
            begin = place
        if kind & IN_RUN:
            end, may_abbreviate = _run_end(text, kinds, place)
            run_begins[n_runs], run_ends[n_runs], run_hashes[n_runs] = place, end, hash_of(text, place, end)
            n_runs, last, place, state = n_runs + 1, end, end, WITHIN
            continue
        if is_running:
            abbreviates = may_abbreviate and code == FULL_STOP and run_ends[n_runs - 1] == place
            state = _state_after(kind, state, abbreviates)
        place += width
        last = last if kind & SPACE else place
    if is_last and begin >= 0:
        begins[n_sentences], ends[n_sentences] = begin, last
        n_sentences, begin = n_sentences + 1, -1
        run_starts[n_sentences] = n_runs
    return n_sentences, run_starts[n_sentences], place if begin < 0 else begin
