"""From documents to a file of tokens, once: the next run of the same text with the same tokenizer finds it there.

The file's name is a digest of the documents and the tokenizer, so a changed text has another one, and what is found
under a name is right. To know whether a text has changed, its files are read and digested, unless they have the size
and the time of last change that they had when this was last done.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from xenoglot.corpus.base import Corpus
from xenoglot.corpus.subwords import load_tokenizer, restore_tokenizer, train_bpe
from xenoglot.corpus.text_files import TextFiles
from xenoglot.corpus.token_files import TokenArray, TokenFile, found_token_file, write_token_file
from xenoglot.corpus.tokenizer import ByteTokenizer, Tokenizer
from xenoglot.errors import DataError, OptionError, OutputError
from xenoglot.storage.files import StagedFiles

__all__ = ["made_folder", "prepare_tokens", "source_digest", "tokenizer_of"]

LAYOUT = 1  # of what stands in the file; changes whenever the same text would give other tokens
BYTES, BPE = "bytes", "bpe"
SETTLED_SECONDS = 2.0  # a file may change twice within what its clock can tell apart
ABANDONED_SECONDS = 24 * 3600.0
LONGEST_NAME = 200


def prepare_tokens(
    corpus: Corpus, *, cache_dir: str | Path, tokenizer: str | None = None, vocab_size: int = 8192
) -> TokenFile:
    """Return the tokens of a corpus, made now or earlier.

    Args:
        corpus: The documents.
        cache_dir: Where files of tokens are kept; it is made if need be.
        tokenizer: ``bytes``, ``bpe``, or what `load_tokenizer` takes; bytes for text files if None, else bpe. Where
            documents are ids already: what their ids mean, or None.
        vocab_size: Ids of a BPE that is trained, at most.

    Raises:
        DataError: If the corpus is empty, cannot be read, or holds ids that the tokenizer has not.
        OptionError: If the corpus holds ids, and the tokenizer is one for text.
        OutputError: If the file cannot be written.
    """
    name = tokenizer or (None if corpus.holds_ids else BYTES if isinstance(corpus, TextFiles) else BPE)
    if corpus.holds_ids and name in (BYTES, BPE):
        raise OptionError("data.tokenizer.name", name, f"the tokenizer of the ids in {corpus.name}, or none")
    folder = made_folder(cache_dir)
    loaded = None if name in (None, BYTES, BPE) else load_tokenizer(str(name))
    recipe = f"{name} {vocab_size}" if name == BPE else name if loaded is None else _digest(loaded.files())
    source = source_digest(corpus, folder)
    path = folder / f"{_digest([LAYOUT, source, recipe])[:32]}.tokens"
    if (found := found_token_file(path)) is not None:
        return found
    _remove_abandoned(path)
    if sys.stderr.isatty():
        print(f"{corpus.name}: making its tokens, once; they are kept in {folder}", file=sys.stderr)
    engine = loaded or _own_tokenizer(name, corpus, vocab_size)
    n_tokens = None if engine is None else engine.n_tokens
    write_token_file(
        path,
        _counted(_ids_of(corpus, engine) if corpus.holds_ids else _tokens_of(corpus, engine), corpus),
        dtype=np.uint16 if n_tokens is not None and n_tokens <= 2**16 else np.uint32,
        n_tokens=n_tokens,
        facts={
            "source": corpus.name[-LONGEST_NAME:],
            "source_sha256": source,
            "tokenizer": name and name[-LONGEST_NAME:],
        },
        attachments=None if engine is None else engine.files(),
    )
    return TokenFile(path)


def tokenizer_of(file: TokenFile) -> Tokenizer | None:
    """Return the tokenizer that a file's tokens were made with; None if they were ids from the beginning."""
    name = file.facts["tokenizer"]
    if name is None:
        return None
    if name == BYTES:
        return ByteTokenizer(marks_ends=file.n_tokens > ByteTokenizer(marks_ends=False).n_tokens)
    return restore_tokenizer(name, *(file.attachments[part] for part in ("tokenizer.json", "tokenizer_config.json")))


def made_folder(path: str | Path) -> Path:
    """Make a folder, unless it is there.

    Raises:
        OutputError: If it cannot be made.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: the folder for tokens cannot be made: {error.strerror}.") from error
    return folder


def source_digest(corpus: Corpus, folder: Path) -> str:
    """Return a corpus's digest, from memory if its files are as they were when it was last worked out.

    Args:
        corpus: The documents.
        folder: Where such memories are kept.
    """
    if not corpus.files:
        return corpus.digest()
    try:
        stats = [(path, path.stat()) for path in corpus.files]
    except OSError as error:
        raise DataError(f"{corpus.name}: the text cannot be read: {error.strerror}.") from error
    state = [type(corpus).__name__, *([str(path.absolute()), stat.st_size, stat.st_mtime_ns] for path, stat in stats)]
    memory = folder / f"{_digest([corpus.name, getattr(corpus, 'column', None), state])[:32]}.digest"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(memory.read_text())["source_sha256"])
    digest = corpus.digest()
    if time.time() - max(stat.st_mtime for _, stat in stats) > SETTLED_SECONDS:
        with StagedFiles() as staged, staged.open(memory) as file:
            file.write(json.dumps({"source": corpus.name, "source_sha256": digest}).encode())
    return digest


def _remove_abandoned(path: Path) -> None:
    """Remove what killed processes left of the same file; one that is still at work writes all the time."""
    for partial in path.parent.glob(f".{path.name}.*.partial"):
        with contextlib.suppress(OSError):
            if time.time() - partial.stat().st_mtime > ABANDONED_SECONDS:
                partial.unlink()


def _own_tokenizer(name: str | None, corpus: Corpus, vocab_size: int) -> Tokenizer | None:
    if name == BPE:
        return train_bpe(corpus.documents(), vocab_size)
    return ByteTokenizer(marks_ends=corpus.has_many_documents) if name == BYTES else None


def _tokens_of(corpus: Corpus, engine: Tokenizer | None) -> Iterator[TokenArray]:
    assert engine is not None
    if corpus.has_many_documents and engine.end_of_text is None:
        raise DataError(
            f"{engine.name}: the tokenizer has no token that ends a document, and {corpus.name} has many. "
            "Add an eos_token to its tokenizer_config.json, or give the text as one file."
        )
    yield from engine.encode(corpus.documents(), with_ends=corpus.has_many_documents)


def _ids_of(corpus: Corpus, engine: Tokenizer | None) -> Iterator[TokenArray]:
    """Go through ids that others made; with a tokenizer, every document ends with its end-of-text token, once."""
    end = None if engine is None else engine.end_of_text
    for document in corpus.documents():
        ids = document.ids
        assert ids is not None
        if engine is not None and ids.size and ids.max() >= engine.n_tokens:
            raise DataError(
                f"{document.where}: got id {ids.max()}; allowed: 0 to {engine.n_tokens - 1}, the ids of {engine.name}."
            )
        yield ids
        if end is not None and (ids.size == 0 or ids[-1] != end):
            yield np.array([end], np.uint32)


def _counted(pieces: Iterator[TokenArray], corpus: Corpus) -> Iterator[TokenArray]:
    """Pass tokens on, and raise an error if there are none: before the file gets its name."""
    n_tokens = 0
    for piece in pieces:
        n_tokens += piece.size
        yield piece
    if n_tokens == 0:
        what = "documents without text" if corpus.has_many_documents else "an empty file"
        raise DataError(f"{corpus.name}: got {what}; allowed: at least twenty rows of text.")


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, default=bytes.decode).encode()).hexdigest()
