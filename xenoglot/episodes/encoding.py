"""Sentences as tokens, each with the bytes that it stands for, so that a word's tokens are known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xenoglot.corpus.subwords import load_tokenizer
from xenoglot.corpus.tokenizer import ByteTokenizer, Tokenizer
from xenoglot.errors import OptionError
from xenoglot.kernels import compiled

__all__ = ["Encoded", "SentenceEncoder", "tokenizer_from"]

Bytes: TypeAlias = NDArray[np.uint8]
Integers: TypeAlias = NDArray[np.int64]
Places: TypeAlias = NDArray[np.int32]

SENTENCES_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Tokens of sentences, one behind the other.

    Attributes:
        token_ids: uint16 or uint32 [N].
        counts: int64 [S], tokens of each sentence.
        begins: int32 [N], the first byte of each token, counted from the beginning of its sentence.
        ends: int32 [N], behind its last byte.
    """

    token_ids: NDArray[Any]
    counts: Integers
    begins: Places
    ends: Places

    @property
    def places(self) -> tuple[Integers, Places, Places]:
        """The counts, begins and ends."""
        return self.counts, self.begins, self.ends


class SentenceEncoder:
    """Encodes sentences by themselves, without special tokens.

    Tokens of a letter of several bytes count as all of the letter's bytes.

    Args:
        tokenizer: How text becomes ids.
        mask_token: Which of its tokens is MASK; its own one if None.

    Attributes:
        mask_id: The id of MASK.
        dtype: uint16, or uint32 if there are more ids.

    Raises:
        OptionError: If the tokenizer has no such token.
    """

    def __init__(self, tokenizer: Tokenizer, mask_token: str | None) -> None:
        from tokenizers import Tokenizer as Engine

        files = tokenizer.files()
        self._engine = Engine.from_str(files["tokenizer.json"].decode())
        self._engine.encode_special_tokens = True  # a sentence that contains "<mask>" has no MASK there
        self._is_bytes = isinstance(tokenizer, ByteTokenizer)
        self.mask_id = _mask_id(self._engine, json.loads(files["tokenizer_config.json"]), mask_token, tokenizer.name)
        self.dtype = np.dtype(np.uint16 if tokenizer.n_tokens <= 2**16 else np.uint32)

    def __call__(self, text: Bytes, begins: Integers, ends: Integers) -> Encoded:
        """Encode the sentences that stand at some places of a text.

        Args:
            text: uint8 [N], UTF-8.
            begins: int64 [S], where each sentence begins.
            ends: int64 [S], behind its last byte.
        """
        if self._is_bytes:
            token_ids, token_begins, token_ends = _byte_tokens(text, begins, ends)
            return Encoded(token_ids=token_ids, counts=ends - begins, begins=token_begins, ends=token_ends)
        content = text.tobytes()
        sentences = [content[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
        parts = [
            self._tokens(sentences[first : first + SENTENCES_AT_ONCE])
            for first in range(0, len(sentences), SENTENCES_AT_ONCE)
        ]
        return Encoded(
            token_ids=np.concatenate([np.empty(0, self.dtype), *(part.token_ids for part in parts)]),
            counts=np.concatenate([np.empty(0, np.int64), *(part.counts for part in parts)]),
            begins=np.concatenate([np.empty(0, np.int32), *(part.begins for part in parts)]),
            ends=np.concatenate([np.empty(0, np.int32), *(part.ends for part in parts)]),
        )

    def _tokens(self, sentences: Sequence[bytes]) -> Encoded:
        encodings = self._engine.encode_batch([line.decode() for line in sentences], add_special_tokens=False)
        spans = [
            _in_bytes(np.array(encoding.offsets, np.int64).reshape(-1, 2), sentence)
            for encoding, sentence in zip(encodings, sentences, strict=True)
        ]
        both = np.concatenate([np.empty((0, 2), np.int64), *spans]).astype(np.int32)
        return Encoded(
            token_ids=np.array([token for encoding in encodings for token in encoding.ids], self.dtype),
            counts=np.array([len(encoding.ids) for encoding in encodings], np.int64),
            begins=both[:, 0],
            ends=both[:, 1],
        )


def tokenizer_from(tokenizer: Tokenizer | str) -> Tokenizer:
    """Return a tokenizer by its name: ``bytes``, or what `load_tokenizer` takes.

    Raises:
        DataError: If there is none, or it cannot be read.
    """
    if isinstance(tokenizer, Tokenizer):
        return tokenizer
    return ByteTokenizer(marks_ends=False) if tokenizer == ByteTokenizer.name else load_tokenizer(tokenizer)


def _in_bytes(offsets: Integers, sentence: bytes) -> Integers:
    """Turn places counted in characters into places counted in bytes."""
    if sentence.isascii():
        return offsets
    is_first = (np.frombuffer(sentence, np.uint8) & 0xC0) != 0x80
    places = np.append(np.flatnonzero(is_first), len(sentence))
    return places[offsets]


@compiled
def _byte_tokens(text: Any, begins: Any, ends: Any) -> Any:
    """Return each byte plus one, and where it begins and ends in its sentence."""
    n_bytes = np.sum(ends - begins)
    token_ids = np.empty(n_bytes, np.uint16)
    token_begins, token_ends = np.empty(n_bytes, np.int32), np.empty(n_bytes, np.int32)
    n_read = 0
    for sentence in range(len(begins)):
        for place in range(ends[sentence] - begins[sentence]):
            token_ids[n_read] = text[begins[sentence] + place] + 1
            token_begins[n_read], token_ends[n_read] = place, place + 1
            n_read += 1
    return token_ids, token_begins, token_ends


def _mask_id(engine: Any, config: dict[str, Any], mask_token: str | None, name: str) -> int:
    own = config.get("mask_token")
    wanted = mask_token or (own["content"] if isinstance(own, dict) else own)
    found = None if wanted is None else engine.token_to_id(wanted)
    if found is None:
        got = "none" if wanted is None else wanted
        raise OptionError("mask_token", got, f"one of the tokens of {name}, best one that occurs in no text")
    return int(found)
