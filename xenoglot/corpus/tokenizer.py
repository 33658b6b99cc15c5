"""How text becomes ids: the contract, and bytes as tokens.

Every tokenizer is written into a checkpoint's folder as files that `transformers` opens, and gives the same ids there.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xenoglot.corpus.base import Document
from xenoglot.languages.base import MASK

__all__ = ["END_OF_TEXT", "MASK_TOKEN", "ByteTokenizer", "Tokenizer", "byte_letters", "tokenizer_config"]

TokenArray: TypeAlias = NDArray[Any]

MASK_TOKEN = "<mask>"
"""What id 0 is called in the tokenizers of our own: MASK, and the padding."""
END_OF_TEXT = "<|endoftext|>"


class Tokenizer(ABC):
    """Turns documents into ids, and itself into files.

    Attributes:
        name: What it is called: ``bytes``, ``bpe``, or where it was loaded from.
        n_tokens: How many ids there are.
        end_of_text: The id that ends a document; None if it has none.
    """

    name: str
    n_tokens: int
    end_of_text: int | None

    @abstractmethod
    def encode(self, documents: Iterable[Document], *, with_ends: bool = False) -> Iterator[TokenArray]:
        """Turn documents into ids, piece by piece.

        Args:
            documents: What is read, to its end.
            with_ends: Whether ``end_of_text`` stands behind every document.

        Raises:
            DataError: If a document is not what the tokenizer can read.
        """

    @abstractmethod
    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that an id stands for; none for those that stand for no text."""

    @abstractmethod
    def files(self) -> dict[str, bytes]:
        """Return ``tokenizer.json`` and ``tokenizer_config.json``, of which ``transformers`` makes it again."""


class ByteTokenizer(Tokenizer):
    r"""Byte b is id b + 1, because id 0 is MASK everywhere in the package: anything can be read.

    There are 257 ids, and one more, 257, where documents have ends to be marked.

    Args:
        marks_ends: Whether there is a token that ends a document.

    Example:
        >>> [ids] = ByteTokenizer(marks_ends=False).encode([Document(where="here", pieces=[b"\x00A"])])
        >>> ids.tolist()
        [1, 66]
    """

    name = "bytes"

    def __init__(self, *, marks_ends: bool) -> None:
        self.n_tokens = 258 if marks_ends else 257
        self.end_of_text = 257 if marks_ends else None

    def encode(self, documents: Iterable[Document], *, with_ends: bool = False) -> Iterator[TokenArray]:
        end = [np.array([self.end_of_text], np.uint16)] if with_ends else []
        for document in documents:
            for piece in document.pieces:
                yield np.frombuffer(piece, np.uint8).astype(np.uint16) + np.uint16(1)
            yield from end

    def token_bytes(self, token: int) -> bytes:
        return bytes([token - 1]) if 1 <= token <= 256 else b""

    def files(self) -> dict[str, bytes]:
        """Return a byte-level BPE without merges: it knows single bytes only."""
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

        vocabulary = {MASK_TOKEN: MASK} | {letter: 1 + byte for byte, letter in enumerate(byte_letters())}
        specials = [MASK_TOKEN]
        if self.end_of_text is not None:
            vocabulary[END_OF_TEXT] = self.end_of_text
            specials.append(END_OF_TEXT)
        twin = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
        twin.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        twin.decoder = decoders.ByteLevel()
        twin.add_special_tokens([AddedToken(special, special=True, normalized=False) for special in specials])
        names = {"pad_token": MASK_TOKEN, "mask_token": MASK_TOKEN}
        if self.end_of_text is not None:
            names["eos_token"] = END_OF_TEXT
        return {"tokenizer.json": twin.to_str().encode(), "tokenizer_config.json": tokenizer_config(names)}


def byte_letters() -> list[str]:
    """Return the letter that byte-level BPE (Radford et al. 2019) writes for each byte: itself if it can be seen."""
    seen = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    unseen = [byte for byte in range(256) if byte not in seen]
    return [chr(byte) if byte in seen else chr(256 + unseen.index(byte)) for byte in range(256)]


def tokenizer_config(names: Mapping[str, str]) -> bytes:
    """Return a ``tokenizer_config.json`` for a ``tokenizer.json`` beside it.

    The class is the one that transformers 4 and 5 both know; what 5 itself writes there, 4 refuses.

    Args:
        names: Tokens with a task, such as ``{"eos_token": "<|endoftext|>"}``.
    """
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **names}
    return (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()
