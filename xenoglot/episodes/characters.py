"""What a word is, in any script: what kind of character each is, and which spellings are the same word.

A *run* is an unbroken row of letters, marks, digits and connectors ("_"); an apostrophe between two letters belongs to
it, a hyphen ends it: *don't* is one run, *well-known* two. A *word* is a run of nothing but letters, marks and
apostrophes that begins with a letter: *3rd* and *x_1* are none, and are not taken apart either. Each Han character is a
run of its own, because nothing else shows where words end; words of other scripts without spaces (Thai, Khmer) need
them.

Spellings that differ in case, in how their accents are composed, or in the shape of the apostrophe are one word.
"""

from __future__ import annotations

import functools
import string
import unicodedata
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "APOSTROPHE",
    "CLOSING",
    "DIGIT",
    "ENDING",
    "ENDINGS",
    "HAN",
    "LATIN",
    "LETTER",
    "LOWER",
    "MARK",
    "SPACE",
    "UNSPACED_ENDING",
    "UNSPACED_ENDINGS",
    "VOWEL",
    "character_kinds",
    "folded",
    "is_word",
]

Kinds: TypeAlias = NDArray[np.uint16]

LETTER, MARK, DIGIT, LOWER, LATIN, VOWEL, HAN, APOSTROPHE, SPACE, ENDING, UNSPACED_ENDING, CLOSING = (
    1 << bit for bit in range(12)
)

N_TABLED = 0x40000
"""Beyond these code points there are no letters, and no marks but the selectors of variants."""
APOSTROPHES = "'’＇"
ENDINGS = ".!?…‽؟۔।॥።"
"""What ends sentences when a space follows."""
UNSPACED_ENDINGS = "。！？｡"
"""What ends sentences whatever follows."""
STRAIGHT_QUOTES = "\"'"
JOINERS = "\u200c\u200d"
"""They stand within words of Persian and of Indic scripts."""
VOWELS = "aeiouyAEIOUY"
HAN_RANGES = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x40000))


@functools.cache
def character_kinds() -> Kinds:
    """Return the kinds of each code point, as bits: uint16 [0x40000].

    Example:
        >>> kinds = character_kinds()
        >>> [bool(kinds[ord(letter)] & LETTER) for letter in "aЖ字ª7' "]
        [True, True, True, True, False, False, False]
    """
    kinds = np.zeros(N_TABLED, np.uint16)
    of_category = {"L": LETTER, "M": MARK, "N": DIGIT, "Pc": DIGIT, "Pe": CLOSING, "Pf": CLOSING, "Ll": LETTER | LOWER}
    for code in range(0x20000):  # the planes above hold nothing but Han characters
        category = unicodedata.category(chr(code))
        kinds[code] = of_category.get(category, of_category.get(category[0], 0)) | (SPACE if chr(code).isspace() else 0)
    for first, beyond in HAN_RANGES:
        kinds[first:beyond] = LETTER | HAN
    for letters, kind in (
        (APOSTROPHES, APOSTROPHE),
        (ENDINGS, ENDING),
        (UNSPACED_ENDINGS, ENDING | UNSPACED_ENDING),
        (STRAIGHT_QUOTES, CLOSING),
        (JOINERS, MARK),
        (string.ascii_letters, LATIN),
        (VOWELS, VOWEL),
    ):
        kinds[[ord(letter) for letter in letters]] |= np.uint16(kind)
    return kinds


def folded(run: str) -> str:
    """Return the one spelling of a word.

    Example:
        >>> folded("STRASSE") == folded("Straße"), folded("Cafe\u0301") == folded("café"), folded("DON’T")
        (True, True, "don't")
    """
    if run.isascii():
        return run.lower()
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", run).casefold())
    return text.replace("’", "'").replace("＇", "'")


def is_word(run: str) -> bool:
    """Tell whether a run consists of letters, their marks and apostrophes, and begins with a letter.

    Example:
        >>> [is_word(run) for run in ("don't", "naïve", "हिन्दी", "3rd", "x_1", "")]
        [True, True, True, False, False, False]
    """
    if run.isalpha():
        return True
    kinds = [_kind_of(letter) for letter in run]
    return bool(kinds and kinds[0] & LETTER and all(kind & (LETTER | MARK | APOSTROPHE) for kind in kinds))


def _kind_of(letter: str) -> int:
    code = ord(letter)
    return int(character_kinds()[code]) if code < N_TABLED else 0
