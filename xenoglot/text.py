"""The user's own text: its bytes are the tokens, its last tenth is held out.

Byte b is id b + 1, because id 0 is MASK everywhere in the package: 257 ids, of which 256 occur. Any file will do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from xenoglot.errors import DataError
from xenoglot.languages.base import Tokens
from xenoglot.rng import generator

__all__ = ["ByteText"]

Bytes: TypeAlias = NDArray[np.uint8]

HELD_OUT_PARTS = 10


class ByteText:
    """A text in two parts: the first nine tenths are for training, the last tenth for measuring.

    Args:
        content: The whole text.
        length: Tokens of a row, L; the held-out part must fill two of them.
        source: What to call the text in messages.

    Raises:
        DataError: If the text is empty or too short.

    Example:
        >>> text = ByteText(b"the quick brown fox " * 16, length=16)
        >>> inputs, targets = text.windows(batch_size=2, seed=0, step=0)
        >>> inputs.shape, bool((inputs[:, 1:] == targets[:, :-1]).all())
        ((2, 16), True)
    """

    n_tokens = 257

    def __init__(self, content: bytes, *, length: int, source: str = "text") -> None:
        needed = HELD_OUT_PARTS * 2 * length
        if len(content) < needed:
            size = "an empty file" if not content else f"{len(content)} bytes"
            raise DataError(
                f"{source}: got {size}; allowed: at least {needed} bytes, so that the held-out tenth fills two rows "
                f"of {length} tokens. Give more text, or shorter rows (--model.max_seq_len)."
            )
        self.length = length
        self.source = source
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._bytes = np.frombuffer(content, np.uint8)
        self._n_training = len(content) - len(content) // HELD_OUT_PARTS

    @classmethod
    def read(cls, path: str | Path, *, length: int) -> ByteText:
        """Read a file, text or not.

        Raises:
            DataError: If it cannot be read, is empty or too short.
        """
        try:
            content = Path(path).read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise DataError(f"{path}: the text cannot be read: {reason}. Name a file.") from error
        return cls(content, length=length, source=str(path))

    def windows(self, *, batch_size: int, seed: int, step: int) -> tuple[Tokens, Tokens]:
        """Draw inputs and targets [B, L] from anywhere in the training part; a function of (seed, step)."""
        rng = generator(seed, "windows", step)
        starts = rng.integers(0, self._n_training - self.length, size=(batch_size, 1))
        rows = _ids(self._bytes[starts + np.arange(self.length + 1)])
        return rows[:, :-1], rows[:, 1:]

    def held_out_windows(self) -> Iterator[tuple[Tokens, Tokens]]:
        """Cut the held-out part into rows: inputs and targets [N, L], then the shorter rest [1, R] if there is one.

        Every held-out byte is a target exactly once; the first one's context is the last byte of the training part.
        """
        ids = _ids(self._bytes[self._n_training - 1 :])
        n_targets = len(ids) - 1
        whole = n_targets - n_targets % self.length
        yield ids[:whole].reshape(-1, self.length), ids[1 : whole + 1].reshape(-1, self.length)
        if whole < n_targets:
            yield ids[None, whole:-1], ids[None, whole + 1 :]

    @staticmethod
    def token_bytes(token: int) -> bytes:
        """Return the byte that an id stands for; none for MASK."""
        return bytes([token - 1]) if token else b""


def _ids(content: Bytes) -> Tokens:
    return content.astype(np.int32) + 1
