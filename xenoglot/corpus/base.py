"""The contract of a corpus: documents, one after the other, each in pieces, so that no text is ever whole in memory."""

from __future__ import annotations

import codecs
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from xenoglot.errors import DataError

__all__ = ["Corpus", "Document", "Ids", "decoded", "encoded"]

Ids: TypeAlias = NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True)
class Document:
    """One text, or one list of ids that others made of a text.

    Attributes:
        where: Where it stands, for messages: ``book.txt``, or ``talk.jsonl, line 7``.
        pieces: The text, in pieces of any size; to be gone through once.
        ids: The ids instead, if that is what there is.
    """

    where: str
    pieces: Iterable[bytes] = ()
    ids: Ids | None = None


class Corpus(ABC):
    """Something that documents come from.

    Attributes:
        name: What to call it in messages.
        has_many_documents: Whether there may be several: only then does each end with an end-of-text token.
        holds_ids: Whether the documents are ids rather than text.
        files: The local files that it is read from, as far as there are any.
    """

    name: str
    has_many_documents: bool
    holds_ids: bool = False
    files: Sequence[Path] = ()

    @abstractmethod
    def documents(self) -> Iterator[Document]:
        """Go through the documents, always in the same order.

        Raises:
            DataError: Naming the file, and the line or byte, where something cannot be read.
        """

    @abstractmethod
    def digest(self) -> str:
        """Return a number, in hexadecimal digits, that is another one when the documents are others."""


def encoded(text: str, where: str) -> bytes:
    """Turn characters into bytes.

    Raises:
        DataError: If one of them is none: JSON can hold halves of pairs.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: character {error.start} of the text is half of a pair (a lone surrogate). Leave it out."
        ) from error


def decoded(document: Document, advice: str = "or read it as it is: --data.tokenizer.name bytes") -> Iterator[str]:
    r"""Turn a document's bytes into characters.

    Args:
        document: The text.
        advice: What to do where it is not UTF-8, besides converting it.

    Raises:
        DataError: Naming the place of the first byte that is not UTF-8.

    Example:
        >>> list(decoded(Document(where="here", pieces=["gr".encode(), b"\xc3", b"\xbcn"])))
        ['gr', 'ün']
        >>> list(decoded(Document(where="here", pieces=[b"gr", b"\xfcn"])))
        Traceback (most recent call last):
        xenoglot.errors.DataError: here: byte 2 is 0xfc, which is not UTF-8. ...
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    start = 0  # of what the decoder looks at next: the bytes that it still holds, then the piece
    try:
        for piece in document.pieces:
            n_held = len(decoder.getstate()[0])
            if text := decoder.decode(piece):
                yield text
            start += n_held + len(piece) - len(decoder.getstate()[0])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{document.where}: byte {start + error.start} is {error.object[error.start]:#04x}, which is not UTF-8. "
            f"Convert the text, {advice}."
        ) from error
