"""A corpus as different sentences on the disk: the tokens of each, and which words stand where in them.

It is made once, in one pass and in memory that grows with different words and sentences but not with the text:

```
tokens            of all sentences, one behind the other
starts            int64 [S + 1, 2], where each sentence's tokens begin, and where its occurrences of words
sentence_hashes   uint64 [S], of its words
occurrences       uint32 [O, 2], which word; and 2^16 times its first token in the sentence, plus how many it has
word_letters      UTF-8, the words by number, one a line
```

What is looked at together lies together: a task touches dozens of sentences anywhere in the memory.

Sentences with the same words in the same order count once, whatever their case and punctuation. What has more than
65,000 bytes is no sentence, and what has fewer than two different words or numbers says nothing once one is masked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xenoglot.corpus.base import Corpus
from xenoglot.corpus.prepared import made_folder, source_digest
from xenoglot.corpus.tokenizer import Tokenizer
from xenoglot.episodes.array_folder import ArrayFolder, ArrayWriter, digest_of, found_or_made
from xenoglot.episodes.encoding import Encoded, SentenceEncoder
from xenoglot.episodes.scanning import Scan, scan
from xenoglot.episodes.sentences import is_running, text_pieces
from xenoglot.episodes.word_forms import NO_WORD, HashSet, WordForms
from xenoglot.kernels import compiled

__all__ = ["PLACE_BITS", "open_sentences"]

Bytes: TypeAlias = NDArray[np.uint8]
Array: TypeAlias = NDArray[Any]

LAYOUT = 2  # of what stands in the folder; changes whenever the same text would give something else
PIECE_BYTES = 1 << 20
MOST_HELD_BYTES = 1 << 22  # of a sentence that does not end; what follows counts as another one
PLACE_BITS = 16
"""Of the tokens that an occurrence has; the place of the first stands above them."""
LONGEST_SENTENCE_BYTES = 65_000  # so that a place within a sentence has no more bits than that
MIXER = np.uint64(0x9E3779B97F4A7C15)
ROTATION, COUNTER_ROTATION = np.uint64(23), np.uint64(41)
FINE, TOO_LONG, TOO_FEW_WORDS = range(3)
NEWLINE, RETURN, SPACE = 10, 13, 32


def open_sentences(
    corpus: Corpus, tokenizer: Tokenizer, encoder: SentenceEncoder, *, splitting: str, cache_dir: str | Path
) -> ArrayFolder:
    """Return a corpus's sentences, made now or earlier.

    Args:
        corpus: The documents.
        tokenizer: How text becomes ids.
        encoder: The same, with places.
        splitting: As in `is_running`.
        cache_dir: Where such folders are kept; it is made if need be.

    Raises:
        DataError: If the corpus cannot be read.
        OutputError: If the folder cannot be written.
    """
    folder = made_folder(cache_dir)
    source = source_digest(corpus, folder)
    running = is_running(corpus, splitting)
    recipe = [LAYOUT, source, running, tokenizer.name, tokenizer.files()]
    facts = {"source": corpus.name, "source_sha256": source, "splitting": "running" if running else "lines"}

    def fill(writer: ArrayWriter) -> None:
        store = _Store(writer, encoder, running=running)
        held = b""
        for group in _groups(text_pieces(corpus)):
            held += group
            held = held[store.add(held, is_last=len(held) > MOST_HELD_BYTES) :]
        store.add(held, is_last=True)
        writer.facts |= {**facts, **store.finish(), "tokenizer": tokenizer.name}

    return found_or_made(folder / f"{digest_of(recipe)[:32]}.sentences", fill)


class _Store:
    """Appends the sentences of one piece of text after the other."""

    def __init__(self, writer: ArrayWriter, encoder: SentenceEncoder, *, running: bool) -> None:
        self._writer = writer
        self._encoder = encoder
        self._running = running
        self._words = WordForms()
        self._seen = HashSet()
        self._n_tokens = self._n_occurrences = 0
        self._counts = dict.fromkeys(("n_bytes", "n_found", "n_too_long", "n_too_few_words", "n_repeated"), 0)
        writer.append("starts", np.zeros((1, 2), np.int64))

    def add(self, content: bytes, *, is_last: bool) -> int:
        """Append the sentences that end within a piece of text, and return where the unfinished one begins."""
        text = np.frombuffer(content, np.uint8)
        found = scan(text, is_running=self._running, is_last=is_last)
        numbers, run_hashes = self._words(text, found)
        verdicts, hashes = _judged(found.begins, found.ends, found.run_starts, run_hashes)
        fine = np.flatnonzero(verdicts == FINE)
        _, new = self._seen.add(hashes[fine])
        kept = fine[new]
        encoded = self._encoder(_unbroken(text), found.begins[kept], found.ends[kept])
        self._append(found, numbers, hashes, kept, encoded)
        for name, number in (
            ("n_bytes", found.n_read),
            ("n_found", len(found.begins)),
            ("n_too_long", np.count_nonzero(verdicts == TOO_LONG)),
            ("n_too_few_words", np.count_nonzero(verdicts == TOO_FEW_WORDS)),
            ("n_repeated", len(fine) - len(kept)),
        ):
            self._counts[name] += int(number)
        return found.n_read

    def _append(self, found: Scan, numbers: Array, hashes: Array, kept: Array, encoded: Encoded) -> None:
        occurrences, counts = _aligned(
            kept, found.begins, found.run_starts, found.run_begins, found.run_ends, numbers, *encoded.places
        )
        token_starts = self._n_tokens + np.cumsum(encoded.counts)
        occurrence_starts = self._n_occurrences + np.cumsum(counts)
        for name, piece in (
            ("tokens", encoded.token_ids),
            ("starts", np.stack([token_starts, occurrence_starts], axis=1)),
            ("sentence_hashes", hashes[kept]),
            ("occurrences", occurrences),
        ):
            self._writer.append(name, piece)
        self._n_tokens += len(encoded.token_ids)
        self._n_occurrences += len(occurrences)

    def finish(self) -> dict[str, int]:
        """Append the words themselves, and return how many there are of everything."""
        letters = "\n".join(self._words.words).encode()
        self._writer.append("word_letters", np.frombuffer(letters, np.uint8))
        return {
            **self._counts,
            "n_sentences": self._seen.n_hashes,
            "n_words": len(self._words.words),
            "n_occurrences": self._n_occurrences,
            "n_tokens": self._n_tokens,
        }


def _groups(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Join pieces until they are worth the trouble."""
    group: list[bytes] = []
    n_bytes = 0
    for piece in pieces:
        group.append(piece)
        n_bytes += len(piece)
        if n_bytes >= PIECE_BYTES:
            yield b"".join(group)
            group, n_bytes = [], 0
    yield b"".join(group)


def _unbroken(text: Bytes) -> Bytes:
    """Turn line breaks, which may stand within sentences, into spaces."""
    unbroken = text.copy()
    unbroken[(text == NEWLINE) | (text == RETURN)] = SPACE
    return unbroken


@compiled
def _judged(begins: Any, ends: Any, run_starts: Any, run_hashes: Any) -> Any:
    """Say of each sentence whether it is fine, and return a hash of its runs, never 0."""
    verdicts, hashes = np.full(len(begins), TOO_FEW_WORDS, np.uint8), np.empty(len(begins), np.uint64)
    for sentence in range(len(begins)):
        hashed = np.uint64(0)
        for run in range(run_starts[sentence], run_starts[sentence + 1]):
            hashed = (hashed << ROTATION | hashed >> COUNTER_ROTATION) ^ run_hashes[run]
            hashed *= MIXER
            if run_hashes[run] != run_hashes[run_starts[sentence]]:
                verdicts[sentence] = FINE
        if ends[sentence] - begins[sentence] > LONGEST_SENTENCE_BYTES:
            verdicts[sentence] = TOO_LONG
        hashes[sentence] = max(hashed, np.uint64(1))
    return verdicts, hashes


@compiled
def _aligned(
    kept: Any,
    sentence_begins: Any,
    run_starts: Any,
    run_begins: Any,
    run_ends: Any,
    numbers: Any,
    token_counts: Any,
    token_begins: Any,
    token_ends: Any,
) -> Any:
    """Return the occurrences of words, uint32 [O, 2], and how many each sentence has."""
    occurrences = np.empty((len(run_begins), 2), np.uint32)
    counts = np.zeros(len(kept), np.int64)
    n_words = first_token = 0
    for place in range(len(kept)):
        sentence = kept[place]
        token, beyond = first_token, first_token + token_counts[place]
        for run in range(run_starts[sentence], run_starts[sentence + 1]):
            begin = run_begins[run] - sentence_begins[sentence]
            end = run_ends[run] - sentence_begins[sentence]
            while token < beyond and token_ends[token] <= begin:
                token += 1
            last = token
            while last < beyond and token_begins[last] < end:
                last += 1
            if numbers[run] != NO_WORD and last > token:
                occurrences[n_words, 0] = numbers[run]
                occurrences[n_words, 1] = (token - first_token) << PLACE_BITS | (last - token)
                n_words += 1
                counts[place] += 1
        first_token = beyond
    return occurrences[:n_words], counts
