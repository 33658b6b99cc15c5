"""The user's own text: rows of tokens, read where they stand; the last tenth is held out.

Shapes: B rows, L tokens of a row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xenoglot.corpus.base import Corpus
from xenoglot.corpus.prepared import prepare_tokens, tokenizer_of
from xenoglot.corpus.tokenizer import ByteTokenizer, Tokenizer
from xenoglot.errors import DataError
from xenoglot.held_out import FEWEST_ROWS, measured_rows, training_part
from xenoglot.languages.base import Tokens
from xenoglot.permutation import EpochOrder
from xenoglot.rng import derive

__all__ = ["ByteText", "Text", "read_text"]

TokenArray: TypeAlias = NDArray[Any]

TOKENS_AT_ONCE = 1 << 20


class Text:
    r"""Tokens in two parts: the first nine tenths are for training, the last tenth for measuring.

    Training reads windows of L + 1 tokens, which overlap by one: of N training tokens an epoch cuts

    .. math::
        n = \lfloor (N - L) / L \rfloor

    windows, beginning at an offset of its own, so that the cuts fall elsewhere each time, and goes through them once in
    a random order.

    Args:
        tokens: All ids, one behind the other; may be a memory map.
        n_tokens: How many ids there are.
        length: Tokens of a row, L; the held-out part must fill two of them.
        source: What to call the text in messages.
        sha256: Digest of the tokens.
        tokenizer: What made them, if that is known.

    Attributes:
        unit: What a token is: ``byte`` or ``token``.
        tokenizer: What made the tokens, if that is known.

    Raises:
        DataError: If the text is too short.
    """

    def __init__(
        self,
        tokens: TokenArray,
        *,
        n_tokens: int,
        length: int,
        source: str,
        sha256: str,
        tokenizer: Tokenizer | None,
    ) -> None:
        unit = "byte" if isinstance(tokenizer, ByteTokenizer) else "token"
        needed = FEWEST_ROWS * length
        if len(tokens) < needed:
            raise DataError(
                f"{source}: got {len(tokens)} {unit}s; allowed: at least {needed} {unit}s, so that the held-out tenth "
                f"fills two rows of {length} tokens. Give more text, or shorter rows (--model.max_seq_len)."
            )
        self.n_tokens = n_tokens
        self.length = length
        self.source = source
        self.sha256 = sha256
        self.unit = unit
        self.tokenizer = tokenizer
        self._tokens = tokens
        self._n_training = training_part(len(tokens))
        self._n_windows = (self._n_training - length) // length

    def tokenizer_files(self) -> dict[str, bytes]:
        """Return ``tokenizer.json`` and ``tokenizer_config.json``; nothing if there is no tokenizer."""
        return {} if self.tokenizer is None else self.tokenizer.files()

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that an id stands for; none for those that stand for no text, or for nobody knows which."""
        return b"" if self.tokenizer is None else self.tokenizer.token_bytes(token)

    def training_bytes(self) -> Iterator[bytes]:
        """Give the text of the training part, in pieces; where a document ends there is an empty line."""
        text_of = [self.token_bytes(token) for token in range(self.n_tokens)]
        if self.tokenizer is not None and self.tokenizer.end_of_text is not None:
            text_of[self.tokenizer.end_of_text] = b"\n\n"
        for first in range(0, self._n_training, TOKENS_AT_ONCE):
            ids = self._tokens[first : min(first + TOKENS_AT_ONCE, self._n_training)]
            yield b"".join([text_of[token] for token in ids.tolist()])

    def rows(self, numbers: Sequence[int] | NDArray[np.int64], seed: int) -> tuple[Tokens, Tokens]:
        """Read windows of the training part.

        Args:
            numbers: Which of the seed's rows; they go on without end, from epoch to epoch.
            seed: 0 to 2^63 - 1.

        Returns:
            Inputs and targets, int32 [B, L].
        """
        epochs, windows = EpochOrder(self._n_windows, seed)(numbers)
        offsets = {epoch: self._offset(seed, epoch) for epoch in np.unique(epochs).tolist()}
        starts = np.array([offsets[epoch] for epoch in epochs.tolist()]) + windows * self.length
        rows = _int32(self._tokens[starts[:, None] + np.arange(self.length + 1)])
        return rows[:, :-1], rows[:, 1:]

    def _offset(self, seed: int, epoch: int) -> int:
        n_choices = self._n_training - self._n_windows * self.length
        return derive(seed, "offset", epoch) % n_choices

    def held_out_windows(self) -> Iterator[tuple[Tokens, Tokens]]:
        """Cut the held-out part into rows: inputs and targets [N, L], then the shorter rest [1, R] if there is one.

        Every held-out token is a target exactly once; the first one's context is the last token of the training part.
        Where there are more than 2^20, so many of them are read in rows at equal distances instead.
        """
        ids = self._tokens[self._n_training - 1 :]
        n_targets = len(ids) - 1
        n_rows, n_rest = divmod(n_targets, self.length)
        starts = measured_rows(n_rows, self.length) * self.length
        rows = _int32(ids[starts[:, None] + np.arange(self.length + 1)])
        yield rows[:, :-1], rows[:, 1:]
        if n_rest and len(starts) == n_rows:
            rest = _int32(ids[None, n_targets - n_rest :])
            yield rest[:, :-1], rest[:, 1:]


class ByteText(Text):
    """A text in memory, whose bytes are the tokens: byte b is id b + 1, because id 0 is MASK everywhere.

    Args:
        content: The whole text.
        length: Tokens of a row, L.
        source: What to call the text in messages.

    Raises:
        DataError: If the text is too short.

    Example:
        >>> text = ByteText(b"the quick brown fox " * 16, length=16)
        >>> inputs, targets = text.rows(range(2), seed=0)
        >>> inputs.shape, bool((inputs[:, 1:] == targets[:, :-1]).all())
        ((2, 16), True)
    """

    def __init__(self, content: bytes, *, length: int, source: str = "text") -> None:
        tokens = np.frombuffer(content, np.uint8).astype(np.uint16) + np.uint16(1)
        digest = hashlib.sha256(tokens.data).hexdigest()
        tokenizer = ByteTokenizer(marks_ends=False)
        super().__init__(
            tokens, n_tokens=tokenizer.n_tokens, length=length, source=source, sha256=digest, tokenizer=tokenizer
        )


def read_text(
    corpus: Corpus, *, length: int, cache_dir: str | Path, tokenizer: str | None = None, vocab_size: int = 8192
) -> Text:
    """Turn a corpus into tokens, unless an earlier run did, and read them from there.

    Args:
        corpus: `TextFiles`, or what `open_dataset` returns.
        length: Tokens of a row, L.
        cache_dir: Where files of tokens are kept.
        tokenizer: As in `prepare_tokens`.
        vocab_size: Ids of a BPE that is trained, at most.

    Raises:
        DataError: If the text is empty, too short or cannot be read.
    """
    file = prepare_tokens(corpus, cache_dir=cache_dir, tokenizer=tokenizer, vocab_size=vocab_size)
    return Text(
        file.tokens,
        n_tokens=file.n_tokens,
        length=length,
        source=corpus.name,
        sha256=file.sha256,
        tokenizer=tokenizer_of(file),
    )


def _int32(tokens: TokenArray) -> Tokens:
    return np.asarray(tokens).astype(np.int32)
