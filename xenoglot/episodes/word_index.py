"""Which words tasks may be made of, and the inverted index: from each of them to its sentences.

```
task_words      uint32 [W], the words' numbers among all words
word_splits     uint8 [W], to which split each belongs
stems           int32 [all words], one number for all task words with the same stem, and -1 for the other words
posting_starts  int64 [W + 1], where each word's sentences begin in `postings`
postings        uint32 [P], the sentences of the word's own split in which it occurs, in their order
```

Every sentence and every stem belongs to one split, by a hash of its words and of itself: so it does whatever else is in
the corpus, and whatever the seed. Hence tasks of two splits never share a sentence, and what is asked for in one, in
whatever form, is never asked for in the other.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xenoglot.episodes.array_folder import ArrayFolder, ArrayWriter, digest_of, found_or_made
from xenoglot.episodes.base import SPLITS
from xenoglot.episodes.characters import folded, is_word
from xenoglot.episodes.word_forms import hashes_of_texts
from xenoglot.errors import DataError, OptionError, UnknownNameError
from xenoglot.kernels import compiled
from xenoglot.options import check_options, option

__all__ = [
    "ANY_LANGUAGE",
    "WordChoice",
    "checked_vocabulary",
    "open_words",
    "split_of_hashes",
    "task_candidates",
    "words_of",
]

Array: TypeAlias = NDArray[Any]
Hashes: TypeAlias = NDArray[np.uint64]

LAYOUT = 1
ANY_LANGUAGE = "any"
"""Instead of a language: no endings are taken off, and every word is its own stem."""
TRAIN, VALIDATION, TEST, UNUSED = range(len(SPLITS) + 1)
SHIFT_30, SHIFT_27, SHIFT_31, SHIFT_11 = (np.uint64(shift) for shift in (30, 27, 31, 11))
NO_STEM = -1


@dataclass(frozen=True, kw_only=True)
class WordChoice:
    """Which words and sentences tasks may be made of."""

    min_token_freq: int = option(1, "fewest sentences that a word occurs in", unit="sentences", minimum=1)
    max_token_freq: int | None = option(None, "most sentences that a word occurs in", unit="sentences", minimum=1)
    max_length: int = option(256, "longest sentence that is used", unit="tokens", minimum=1)
    held_out_share: float = option(
        0.2, "share of the words, and of the sentences, of validation and of test each", minimum=0, maximum=0.5
    )
    stem_language: str = option("english", f"whose endings are taken off to compare words; {ANY_LANGUAGE}: nobody's")

    def __post_init__(self) -> None:
        check_options(self)
        if self.max_token_freq is not None and self.max_token_freq < self.min_token_freq:
            raise OptionError("max_token_freq", self.max_token_freq, f"at least min_token_freq, {self.min_token_freq}")
        known = [ANY_LANGUAGE, *_stemmers()]
        if self.stem_language not in known:
            raise UnknownNameError("stem_language", self.stem_language, known)


def open_words(
    sentences: ArrayFolder, choice: WordChoice, vocabulary: Sequence[str] | None, *, cache_dir: str | Path
) -> ArrayFolder:
    """Return the words that tasks may be made of, found now or earlier.

    Args:
        sentences: What `open_sentences` returned.
        choice: Which words and sentences.
        vocabulary: Which words, folded; all if None.
        cache_dir: Where such folders are kept.

    Raises:
        OutputError: If the folder cannot be written.
    """
    options = [choice.min_token_freq, choice.max_token_freq, choice.max_length, choice.held_out_share]
    recipe = [LAYOUT, sentences.path.name, *options, _stemmer_of(choice.stem_language), vocabulary]

    def fill(writer: ArrayWriter) -> None:
        _fill(writer, sentences, choice, vocabulary)

    return found_or_made(Path(cache_dir) / f"{digest_of(recipe)[:32]}.words", fill)


def checked_vocabulary(vocabulary: Iterable[str] | None) -> list[str] | None:
    """Return the words as they are compared, sorted.

    Raises:
        DataError: Naming the first that is not a single word.

    Example:
        >>> checked_vocabulary(["Naïve", "run", "Run"])
        ['naïve', 'run']
    """
    if vocabulary is None:
        return None
    words = {folded(word) for word in vocabulary}
    for word in sorted(words):
        if not is_word(word):
            raise DataError(f"vocabulary: got {word!r}; allowed: single words, of letters, marks and apostrophes.")
    return sorted(words)


def task_candidates(words: ArrayFolder, split: str, *, n_way: int, n_sentences: int, source: str) -> NDArray[np.int64]:
    """Return which words of a split have sentences enough for a task, as places in ``task_words``.

    Args:
        words: What `open_words` returned.
        split: One of `SPLITS`.
        n_way: Words of a task.
        n_sentences: Sentences of each.
        source: What to call the corpus in messages.

    Raises:
        DataError: If there are too few of them that differ by stem; it says what would suffice.
    """
    arrays = words.arrays
    of_split = np.flatnonzero(arrays["word_splits"] == SPLITS.index(split))
    n_postings = np.diff(arrays["posting_starts"])[of_split]
    stems = arrays["stems"][arrays["task_words"][of_split]]
    most_by_stem = np.zeros(int(stems.max(initial=NO_STEM)) + 1, np.int64)
    np.maximum.at(most_by_stem, stems, n_postings)
    most_by_stem = np.sort(most_by_stem[np.unique(stems)])[::-1]
    n_enough = int(np.count_nonzero(most_by_stem >= n_sentences))
    if n_enough < n_way:
        raise DataError(
            f"{source}, {split}: got {len(most_by_stem):,} words that differ by stem, {n_enough:,} of them in at least "
            f"{n_sentences} (k_shot + q_query) of its sentences; allowed: at least {n_way} (n_way) such words. "
            f"Would suffice: {_remedies(most_by_stem, n_way, n_sentences, n_enough)}.{_left_out(words.facts)}"
        )
    return of_split[n_postings >= n_sentences]


def _left_out(facts: Mapping[str, Any]) -> str:
    """Say how many sentences were not used for their length, which may be why there are too few."""
    n_long, n_usable = facts["n_too_long_sentences"], sum(facts["n_usable_sentences"])
    if n_long == 0:
        return ""
    return f" Of {n_long + n_usable:,} sentences, {n_long:,} were left out: they have more tokens than fit a row."


def _remedies(most_by_stem: Array, n_way: int, n_sentences: int, n_enough: int) -> str:
    """Say what would make tasks possible; ``most_by_stem`` falls."""
    remedies = []
    if n_enough >= 2:
        remedies.append(f"n_way of {n_enough}")
    if len(most_by_stem) >= n_way and (fewest := int(most_by_stem[n_way - 1])) > 0:
        if fewest >= 2:
            remedies.append(f"k_shot + q_query of {fewest}")
        remedies.append(f"about {-(-n_sentences // fewest)} times as many sentences")
    else:
        remedies.append("more words (min_token_freq, max_token_freq, vocabulary), or more sentences")
    return ", or ".join(remedies)


def words_of(sentences: ArrayFolder) -> list[str]:
    """Return all words of a corpus by number."""
    letters = sentences.arrays["word_letters"].tobytes().decode()
    return letters.split("\n") if letters else []


def split_of_hashes(hashes: Hashes, held_out_share: float) -> NDArray[np.uint8]:
    """Return the split that each hash belongs to: uint8 [N], the place among `SPLITS`."""
    mixed = (hashes ^ (hashes >> SHIFT_30)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> SHIFT_27)) * np.uint64(0x94D049BB133111EB)
    share = ((mixed ^ (mixed >> SHIFT_31)) >> SHIFT_11) * 2.0**-53
    return np.where(share < held_out_share, VALIDATION, np.where(share < 2 * held_out_share, TEST, TRAIN)).astype(
        np.uint8
    )


def _fill(writer: ArrayWriter, sentences: ArrayFolder, choice: WordChoice, vocabulary: Sequence[str] | None) -> None:
    arrays, words = sentences.arrays, words_of(sentences)
    splits = split_of_hashes(arrays["sentence_hashes"], choice.held_out_share)
    splits[np.diff(arrays["starts"][:, 0]) > choice.max_length] = UNUSED
    occurrences = (arrays["starts"], arrays["occurrences"])
    frequencies = _frequencies(*occurrences, splits, len(words))
    task_words = _chosen(words, frequencies, choice, vocabulary)
    stem_texts = _stems([words[number] for number in task_words.tolist()], choice.stem_language)
    stems = np.full(len(words), NO_STEM, np.int32)
    stems[task_words] = np.unique(stem_texts, return_inverse=True)[1].astype(np.int32)
    word_splits = split_of_hashes(hashes_of_texts(stem_texts), choice.held_out_share)
    rows = np.full(len(words), NO_STEM, np.int32)
    rows[task_words] = np.arange(len(task_words))
    starts, postings = _postings(*occurrences, splits, rows, word_splits)
    for name, array in (
        ("task_words", task_words),
        ("word_splits", word_splits),
        ("stems", stems),
        ("posting_starts", starts),
        ("postings", postings),
    ):
        writer.append(name, array)
    writer.facts |= {
        "n_usable_sentences": np.bincount(splits, minlength=UNUSED)[:UNUSED].tolist(),
        "n_too_long_sentences": int(np.count_nonzero(splits == UNUSED)),
        "n_task_words": np.bincount(word_splits, minlength=UNUSED).tolist(),
        "n_unknown_of_vocabulary": 0 if vocabulary is None else len(set(vocabulary).difference(words)),
    }


def _chosen(words: list[str], frequencies: Array, choice: WordChoice, vocabulary: Sequence[str] | None) -> Array:
    """Return the numbers of the words within the band, and within the vocabulary."""
    is_chosen = frequencies >= choice.min_token_freq
    if choice.max_token_freq is not None:
        is_chosen &= frequencies <= choice.max_token_freq
    if vocabulary is not None:
        wanted = set(vocabulary)
        is_chosen &= np.array([word in wanted for word in words], np.bool_)
    return np.flatnonzero(is_chosen).astype(np.uint32)


def _stems(words: list[str], language: str) -> list[str]:
    if language == ANY_LANGUAGE:
        return words
    from Stemmer import Stemmer

    return list(Stemmer(language, 0).stemWords(words))


def _stemmer_of(language: str) -> list[str]:
    """Return what stems depend on: another version of the library may take off other endings."""
    return [language] if language == ANY_LANGUAGE else [language, importlib.metadata.version("PyStemmer")]


def _stemmers() -> list[str]:
    from Stemmer import algorithms

    return list(algorithms())


@compiled
def _frequencies(starts: Any, occurrences: Any, splits: Any, n_words: int) -> Any:
    """Count in how many usable sentences each word occurs."""
    frequencies, last_seen = np.zeros(n_words, np.int32), np.full(n_words, -1, np.int64)
    for sentence in range(len(splits)):
        if splits[sentence] == UNUSED:
            continue
        for place in range(starts[sentence, 1], starts[sentence + 1, 1]):
            word = occurrences[place, 0]
            frequencies[word] += last_seen[word] != sentence
            last_seen[word] = sentence
    return frequencies


@compiled
def _postings(starts: Any, occurrences: Any, splits: Any, rows: Any, row_splits: Any) -> Any:
    """List for each row's word the sentences of its own split in which it occurs."""
    n_rows = len(row_splits)
    posting_starts, last_seen = np.zeros(n_rows + 1, np.int64), np.full(n_rows, -1, np.int64)
    for sentence in range(len(splits)):
        for place in range(starts[sentence, 1], starts[sentence + 1, 1]):
            row = rows[occurrences[place, 0]]
            if row >= 0 and row_splits[row] == splits[sentence] and last_seen[row] != sentence:
                last_seen[row] = sentence
                posting_starts[row + 1] += 1
    posting_starts = np.cumsum(posting_starts)
    postings, n_filled = np.empty(posting_starts[n_rows], np.uint32), posting_starts[:-1].copy()
    last_seen[:] = -1
    for sentence in range(len(splits)):
        for place in range(starts[sentence, 1], starts[sentence + 1, 1]):
            row = rows[occurrences[place, 0]]
            if row >= 0 and row_splits[row] == splits[sentence] and last_seen[row] != sentence:
                last_seen[row] = sentence
                postings[n_filled[row]] = sentence
                n_filled[row] += 1
    return posting_starts, postings
