"""Where sentences come from: a list, files, a dataset's column; and whether their lines are sentences."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from xenoglot.corpus.base import Corpus, Document, decoded
from xenoglot.corpus.columns import open_dataset
from xenoglot.corpus.text_files import TextFiles
from xenoglot.episodes.characters import ENDINGS, UNSPACED_ENDINGS
from xenoglot.episodes.scanning import scan
from xenoglot.errors import DataError, OptionError

__all__ = ["SPLITTINGS", "SentenceList", "corpus_of", "is_running", "text_pieces"]

Bytes: TypeAlias = NDArray[np.uint8]

SPLITTINGS = ("auto", "lines", "running")
SAMPLE_BYTES = 1 << 20
NEEDS_TEXT = "because words are looked for in it"
MOST_SENTENCES = 1.25  # of a line, on average
FEWEST_ENDED, MOST_ENDED = 0.1, 0.75  # shares of the lines
BEHIND_ENDINGS = " \t\r\"'’”»)]"


class SentenceList(Corpus):
    """Sentences in memory, each a document.

    Args:
        sentences: Texts.

    Raises:
        DataError: Naming the first that is no text.
    """

    has_many_documents = True

    def __init__(self, sentences: Iterable[str]) -> None:
        self._contents = [_bytes_of(sentence, number) for number, sentence in enumerate(sentences)]
        self.name = f"a list of {len(self._contents):,} sentences"

    def documents(self) -> Iterator[Document]:
        for number, content in enumerate(self._contents):
            yield Document(where=f"sentence {number}", pieces=[content])

    def digest(self) -> str:
        """Return the SHA-256 of all sentences and their lengths."""
        digest = hashlib.sha256(b"list")
        for content in self._contents:
            digest.update(len(content).to_bytes(8, "little") + content)
        return digest.hexdigest()


def corpus_of(sentences: Corpus | Iterable[str] | str | Path) -> Corpus:
    """Return the documents that somebody names: a file's or folder's path, or the texts themselves.

    Raises:
        DataError: If there is no such file, or what is given is no text.
    """
    if isinstance(sentences, str | Path):
        path = Path(sentences)
        is_parquet = path.suffix == ".parquet" or (path.is_dir() and next(path.rglob("*.parquet"), None) is not None)
        corpus: Corpus = open_dataset(str(path)) if is_parquet else TextFiles(path)
    else:
        corpus = sentences if isinstance(sentences, Corpus) else SentenceList(sentences)
    if corpus.holds_ids:
        raise DataError(f"{corpus.name}: got ids of tokens; allowed: text, because words are looked for.")
    return corpus


def text_pieces(corpus: Corpus) -> Iterator[bytes]:
    """Go through a corpus as one text, in pieces of whole characters; an empty line stands between documents.

    Raises:
        DataError: Naming the place of the first byte that is not UTF-8.
    """
    for document in corpus.documents():
        for piece in decoded(document, NEEDS_TEXT):
            yield piece.encode()
        yield b"\n\n"


def is_running(corpus: Corpus, splitting: str) -> bool:
    """Tell whether a corpus is to be split into sentences, rather than its lines taken for them.

    Args:
        corpus: The documents.
        splitting: ``lines``, ``running``, or ``auto``: lines if the corpus is a list, or if in its first megabyte there
            are at most 1.25 sentences a line, and either most lines end as sentences do (three quarters) or hardly any
            (a tenth, as in headlines).

    Example:
        >>> is_running(SentenceList(["One. Two."]), "auto")
        False
    """
    if splitting not in SPLITTINGS:
        raise OptionError("splitting", splitting, f"one of {', '.join(SPLITTINGS)}")
    if splitting != "auto":
        return splitting == "running"
    if isinstance(corpus, SentenceList):
        return False
    sample = _beginning(corpus)
    lines = [line for line in sample.decode(errors="ignore").split("\n") if line.strip()]
    n_ended = sum(line.rstrip(BEHIND_ENDINGS).endswith(tuple(ENDINGS + UNSPACED_ENDINGS)) for line in lines)
    within = scan(np.frombuffer(sample.replace(b"\n", b"\n\n"), np.uint8), is_running=True, is_last=True)
    has_sentences = len(within.begins) > MOST_SENTENCES * len(lines)
    return has_sentences or FEWEST_ENDED * len(lines) < n_ended < MOST_ENDED * len(lines)


def _beginning(corpus: Corpus) -> bytes:
    pieces: list[bytes] = []
    n_bytes = 0
    for piece in text_pieces(corpus):
        pieces.append(piece)
        n_bytes += len(piece)
        if n_bytes >= SAMPLE_BYTES:
            break
    return b"".join(pieces)


def _bytes_of(sentence: str, number: int) -> bytes:
    if not isinstance(sentence, str):
        raise DataError(f"sentence {number}: got {type(sentence).__name__}; allowed: text.")
    try:
        return sentence.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"sentence {number}: character {error.start} is half of a pair (a lone surrogate).") from error
