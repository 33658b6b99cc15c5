r"""Text in files: a text, JSON lines, either compressed, or a folder of them.

- ``.jsonl``: one JSON object a line, each a document: its field ``text``, or else its first field that is a string.
- ``.gz`` and ``.zst`` behind any ending: decompressed on the way.
- Any other file is one document as it is. In a folder only ``.txt`` and ``.jsonl`` count, compressed or not, at any
  depth, in the order of their paths; what begins with a dot does not.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

from xenoglot.corpus.base import Corpus, Document, encoded
from xenoglot.errors import DataError

__all__ = ["TextFiles", "sha256_of"]

CHUNK_BYTES = 1 << 20
COMPRESSED_CHUNK_BYTES = 1 << 9  # zstd makes up to 128 KiB of four bytes
COMPRESSIONS = (".gz", ".zst")
ENDINGS = (".txt", ".jsonl")


class TextFiles(Corpus):
    r"""A text file, or a folder of text files.

    Args:
        path: The file or folder.

    Raises:
        DataError: If there is no such file, or no text in the folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(f"{folder}/talk.jsonl").write_text('{"id": 1, "text": "Hello."}\n{"text": "Ah."}\n')
        ...     [b"".join(document.pieces) for document in TextFiles(folder).documents()]
        [b'Hello.', b'Ah.']
    """

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        self.files = _files_of(Path(path))
        self.has_many_documents = Path(path).is_dir() or _kind(self.files[0]) == ".jsonl"

    def documents(self) -> Iterator[Document]:
        for path in self.files:
            if _kind(path) == ".jsonl":
                yield from _documents_of_lines(path)
            else:
                yield Document(where=str(path), pieces=_chunks(path))

    def digest(self) -> str:
        """Return the SHA-256 of the files' own, in their order, and of what kind they are."""
        contents = [[path.suffix.lower(), _kind(path), sha256_of(path)] for path in self.files]
        return hashlib.sha256(json.dumps([self.has_many_documents, contents]).encode()).hexdigest()


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        if not path.exists():
            raise DataError(f"{path}: the text cannot be read: No such file or directory. Name a file or a folder.")
        if not path.is_file():
            raise DataError(f"{path}: it is no regular file, and a text is read more than once. Write it to a file.")
        return [path]
    found = [inner for inner in path.rglob("*") if inner.is_file() and _kind(inner) in ENDINGS]
    shown = [inner for inner in found if not any(part.startswith(".") for part in inner.relative_to(path).parts)]
    if not shown:
        raise DataError(
            f"{path}: got a folder without text; allowed: {' and '.join(ENDINGS)} files in it, at any depth, "
            f"also with {' or '.join(COMPRESSIONS)} behind."
        )
    return sorted(shown, key=lambda inner: inner.relative_to(path).parts)


def _kind(path: Path) -> str:
    """Return the ending that says how the content is read, whatever it is compressed with."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _documents_of_lines(path: Path) -> Iterator[Document]:
    for number, line in enumerate(_lines(path), start=1):
        where = f"{path}, line {number}"
        if line.strip() and (text := _text_of_line(line, where)):
            yield Document(where=where, pieces=[text])


def _text_of_line(line: bytes, where: str) -> bytes:
    try:
        fields = json.loads(line.decode("utf-8-sig"))  # some programs begin a file with a byte order mark
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: byte {error.start} of the line is not UTF-8. JSON lines are.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: it is not JSON: {error}. Allowed: one object a line.") from error
    if not isinstance(fields, dict):
        raise DataError(f'{where}: got {type(fields).__name__}; allowed: an object, such as {{"text": "..."}}.')
    text = fields.get("text", next((value for value in fields.values() if isinstance(value, str)), None))
    if not isinstance(text, str):
        raise DataError(f"{where}: got the fields {', '.join(fields) or 'none'}; allowed: one with text, best 'text'.")
    return encoded(text, where)


def _lines(path: Path) -> Iterator[bytes]:
    """Go through the lines of a file, without their ends; one line must fit into memory."""
    begun: list[bytes] = []
    for chunk in _chunks(path):
        first, *others = chunk.split(b"\n")
        begun.append(first)
        if others:
            yield b"".join(begun)
            yield from others[:-1]
            begun = [others[-1]]
    yield b"".join(begun)


def _chunks(path: Path) -> Iterator[bytes]:
    """Go through the content of a file, decompressed."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".gz":
            with gzip.open(path, "rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
        else:
            stored = _stored_chunks(path, COMPRESSED_CHUNK_BYTES if suffix == ".zst" else CHUNK_BYTES)
            yield from _joined(_zstd_chunks(stored)) if suffix == ".zst" else stored
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: it cannot be decompressed: {error}. Is it whole?") from error
    except OSError as error:
        raise DataError(f"{path}: the text cannot be read: {error.strerror or error}. Name a file.") from error


def _stored_chunks(path: Path, size: int) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(size):
            yield chunk


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Put small pieces together into larger ones."""
    waiting, n_bytes = [], 0
    for piece in pieces:
        waiting.append(piece)
        n_bytes += len(piece)
        if n_bytes >= CHUNK_BYTES:
            yield b"".join(waiting)
            waiting, n_bytes = [], 0
    yield b"".join(waiting)


def _zstd_chunks(stored: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress frames, one behind the other; unlike the library's readers, take notice when the last is cut short."""
    import zstandard

    decompressor = zstandard.ZstdDecompressor()
    frame = decompressor.decompressobj()
    try:
        for chunk in stored:
            rest = chunk
            while rest:
                if frame.eof:
                    frame = decompressor.decompressobj()
                if piece := frame.decompress(rest):
                    yield piece
                rest = frame.unused_data if frame.eof else b""
    except zstandard.ZstdError as error:
        raise EOFError(str(error)) from error
    if not frame.eof:
        raise EOFError("it ends before its last frame does")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as it lies there, in hexadecimal digits."""
    digest = hashlib.sha256()
    try:
        for chunk in _stored_chunks(path, CHUNK_BYTES):
            digest.update(chunk)
    except OSError as error:
        raise DataError(f"{path}: the text cannot be read: {error.strerror}. Name a file.") from error
    return digest.hexdigest()
