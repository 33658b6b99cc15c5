"""Files of tokens: written once, read through a memory map, and never believed without their checksums.

```
offset 0      8 bytes    magic, "XENOTOK1": the name and version of the format
       8     32 bytes    SHA-256 of the rest of the header, bytes 40 to 4095
      40   4056 bytes    JSON, padded with spaces: dtype, shape, n_tokens, SHA-256 of tokens and of attachments,
                         the attachments' names and sizes, and facts about where the tokens come from
    4096                 tokens: uint16, uint32 or int32, little-endian
     ...                 attachments one behind the other: the tokenizer's own files
```

A file appears under its name only when it is whole, so two processes that write the same one do no harm: each writes
its own, and the last to finish replaces what the other wrote, byte for byte the same.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from xenoglot.errors import DataError
from xenoglot.storage.files import StagedFiles

__all__ = ["TokenFile", "found_token_file", "write_token_file"]

TokenArray: TypeAlias = NDArray[Any]

MAGIC = b"XENOTOK1"
DIGEST_BYTES = 32
HEADER_BYTES = 4096
JSON_START = len(MAGIC) + DIGEST_BYTES
CHUNK_BYTES = 1 << 22
DTYPES = ("<u2", "<u4", "<i4")


class TokenFile:
    """A file of tokens whose every byte has been checked.

    Attributes:
        path: The file.
        tokens: The ids, read from the disk when they are looked at.
        n_tokens: How many ids there may be; every token is less.
        sha256: Digest of the tokens, in hexadecimal digits.
        facts: Where the tokens come from, as plain JSON values.
        attachments: Small files that belong to them, by name.

    Args:
        path: Which file.

    Raises:
        DataError: If it is no such file, or truncated, or a single bit of it is not what was written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with open(self.path, "rb") as file:
                header = _read_header(file, self.path)
                dtype, shape = np.dtype(header["dtype"]), tuple(header["shape"])
                n_bytes = dtype.itemsize * math.prod(shape)
                self._check_size(n_bytes + sum(header["attachments"].values()))
                self._check_digest("tokens", _digest(file, n_bytes), header["tokens_sha256"])
                contents = {name: file.read(size) for name, size in header["attachments"].items()}
        except OSError as error:
            raise DataError(f"{path}: the token file cannot be read: {error.strerror}.") from error
        self._check_digest(
            "attachments", hashlib.sha256(b"".join(contents.values())).hexdigest(), header["attachments_sha256"]
        )
        self.tokens: TokenArray = np.memmap(self.path, dtype, mode="r", offset=HEADER_BYTES, shape=shape)
        self.n_tokens: int = header["n_tokens"]
        self.sha256: str = header["tokens_sha256"]
        self.facts: dict[str, Any] = header["facts"]
        self.attachments = contents

    def _check_size(self, n_bytes: int) -> None:
        got, expected = self.path.stat().st_size, HEADER_BYTES + n_bytes
        if got != expected:
            raise _damaged(self.path, f"it has {got} bytes instead of {expected}")

    def _check_digest(self, what: str, got: str, expected: str) -> None:
        if got != expected:
            raise _damaged(self.path, f"the SHA-256 of its {what} is {got} instead of {expected}")


def found_token_file(path: str | Path) -> TokenFile | None:
    """Return the file of tokens if it is there and whole; say so if it is damaged, and that it is made again."""
    if not Path(path).exists():
        return None
    try:
        return TokenFile(path)
    except DataError as error:
        print(error, file=sys.stderr)
        return None


def write_token_file(
    path: str | Path,
    pieces: Iterable[TokenArray],
    *,
    dtype: DTypeLike,
    n_tokens: int | None,
    row_shape: tuple[int, ...] = (),
    facts: Mapping[str, Any],
    attachments: Mapping[str, bytes] | None = None,
) -> None:
    """Write tokens as they come, in constant memory.

    Args:
        path: Where to; its folder exists.
        pieces: The tokens, one array behind the other, each [any, *row_shape].
        dtype: uint16, uint32 or int32, into which every token fits.
        n_tokens: How many ids there are; one more than the largest that came if None.
        row_shape: The shape of the tokens behind their first axis.
        facts: Where the tokens come from: plain JSON values, about 3,000 characters at most.
        attachments: Small files that belong to the tokens, by name.

    Raises:
        OutputError: If the file cannot be written; what was there before is untouched.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     pieces = [np.array([3, 1]), np.array([4])]
        ...     write_token_file(f"{folder}/pi.tokens", pieces, dtype=np.uint16, n_tokens=10, facts={"of": "pi"})
        ...     file = TokenFile(f"{folder}/pi.tokens")
        >>> file.tokens.tolist(), file.n_tokens, file.facts
        ([3, 1, 4], 10, {'of': 'pi'})
    """
    kind = np.dtype(dtype).newbyteorder("<")
    files = dict(attachments or {})
    digest, n_rows, largest = hashlib.sha256(), 0, -1
    with StagedFiles() as staged, staged.open(path) as file:
        file.write(bytes(HEADER_BYTES))
        for piece in pieces:
            if piece.size:
                content = np.ascontiguousarray(piece, kind).data.cast("B")
                digest.update(content)
                file.write(content)
                n_rows, largest = n_rows + len(piece), max(largest, int(piece.max()))
        file.write(b"".join(files.values()))
        header = {
            "dtype": kind.str,
            "shape": [n_rows, *row_shape],
            "n_tokens": largest + 1 if n_tokens is None else n_tokens,
            "tokens_sha256": digest.hexdigest(),
            "attachments": {name: len(content) for name, content in files.items()},
            "attachments_sha256": hashlib.sha256(b"".join(files.values())).hexdigest(),
            "facts": dict(facts),
        }
        file.seek(0)
        file.write(_header_bytes(header))


def _header_bytes(header: dict[str, Any]) -> bytes:
    content = json.dumps(header).encode().ljust(HEADER_BYTES - JSON_START)
    assert len(content) == HEADER_BYTES - JSON_START, "the facts about a token file must be few"
    return MAGIC + hashlib.sha256(content).digest() + content


def _read_header(file: BinaryIO, path: Path) -> dict[str, Any]:
    block = file.read(HEADER_BYTES)
    if not block.startswith(MAGIC):
        raise _damaged(path, f"it begins with {block[: len(MAGIC)]!r} instead of {MAGIC!r}")
    if len(block) < HEADER_BYTES or hashlib.sha256(block[JSON_START:]).digest() != block[len(MAGIC) : JSON_START]:
        raise _damaged(path, "its header is not the one that was written")
    header: dict[str, Any] = json.loads(block[JSON_START:])
    assert header["dtype"] in DTYPES
    return header


def _digest(file: BinaryIO, n_bytes: int) -> str:
    digest = hashlib.sha256()
    while n_bytes and (content := file.read(min(n_bytes, CHUNK_BYTES))):
        digest.update(content)
        n_bytes -= len(content)
    return digest.hexdigest()


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"{path}: the token file is damaged: {why}. It is made again from its source.")
