"""Subword tokenizers: a byte-level BPE trained on the corpus itself, or one that others trained."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xenoglot.corpus.base import Document, decoded
from xenoglot.corpus.tokenizer import (
    END_OF_TEXT,
    MASK_TOKEN,
    TokenArray,
    Tokenizer,
    byte_letters,
    tokenizer_config,
)
from xenoglot.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Engine

__all__ = ["SubwordTokenizer", "load_tokenizer", "restore_tokenizer", "train_bpe"]

PIECE_LETTERS = 1 << 16
LETTERS_AT_ONCE = 1 << 22  # in pieces, over which the library's threads share
BEFORE_A_WORD = re.compile(r"(?s).*[^\W_](?=[ \n])")
TASKS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
SINGLE_BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # how SentencePiece writes a byte of a letter that it does not know
METASPACE = "\u2581"  # how it writes a blank
BYTE_OF_LETTER = {letter: byte for byte, letter in enumerate(byte_letters())}
ENDS = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "[SEP]")


class SubwordTokenizer(Tokenizer):
    """A tokenizer of the `tokenizers` library; adds no special tokens by itself, nor takes any from the text.

    Long texts are cut into pieces of 65,536 letters, before a blank or newline behind a letter or digit. Byte-level BPE
    as GPT-2 and Llama 3 split words gives the same ids as without cuts; other kinds may differ in a token at a cut.

    Args:
        name: What to call it.
        engine: The library's own object; is changed.
        names: Tokens with a task, such as ``{"eos_token": "</s>"}``.
    """

    def __init__(self, name: str, engine: Engine, names: dict[str, str]) -> None:
        from tokenizers import decoders

        engine.no_padding()
        engine.no_truncation()
        self.name = name
        self.n_tokens = 1 + max(engine.get_vocab(with_added_tokens=True).values())
        known_ends = (engine.token_to_id(end) for end in _ends(names))
        self.end_of_text = next((end for end in known_ends if end is not None), None)
        self._files = {"tokenizer.json": engine.to_str().encode(), "tokenizer_config.json": tokenizer_config(names)}
        engine.encode_special_tokens = True  # a text that contains "<|endoftext|>" does not end there
        self._engine = engine
        self._is_byte_level = isinstance(engine.decoder, decoders.ByteLevel)
        self._added = {
            token: b"" if added.special else added.content.encode()  # as they stand in a text, not in byte letters
            for token, added in engine.get_added_tokens_decoder().items()
        }

    def encode(self, documents: Iterable[Document], *, with_ends: bool = False) -> Iterator[TokenArray]:
        marked = ((piece, is_last) for document in documents for piece, is_last in _with_last(_pieces(document)))
        end = [self.end_of_text] if with_ends and self.end_of_text is not None else []
        for batch in _batches(marked):
            encodings = self._engine.encode_batch_fast([piece for piece, _ in batch], add_special_tokens=False)
            for (_, is_last), encoding in zip(batch, encodings, strict=True):
                yield np.array(encoding.ids + end if is_last else encoding.ids, np.uint32)

    def token_bytes(self, token: int) -> bytes:
        letters = self._engine.id_to_token(token)
        if letters is None:
            return b""
        if token in self._added:
            return self._added[token]
        if self._is_byte_level:
            return bytes(BYTE_OF_LETTER[letter] for letter in letters)
        if single := SINGLE_BYTE.fullmatch(letters):
            return bytes.fromhex(single[1])
        return str(letters).replace(METASPACE, " ").encode()

    def files(self) -> dict[str, bytes]:
        return dict(self._files)


def train_bpe(documents: Iterable[Document], vocab_size: int) -> SubwordTokenizer:
    """Train a byte-level BPE (Sennrich et al. 2016; on bytes: Radford et al. 2019): the same text, the same tokens.

    Id 0 is ``<mask>``, which is also the padding, and id 1 ``<|endoftext|>``; then come the 256 bytes and what they are
    merged to.

    Args:
        documents: The text; memory grows with its different words, not with its length.
        vocab_size: Ids at most; fewer if the text has no more pairs that occur twice.

    Raises:
        DataError: If the text is not UTF-8.

    Example:
        >>> tokenizer = train_bpe([Document(where="here", pieces=[b"low lower lowest " * 9])], vocab_size=270)
        >>> [ids] = tokenizer.encode([Document(where="there", pieces=[b"slow"])])
        >>> len(ids), tokenizer.n_tokens
        (2, 265)
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    engine = Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[MASK_TOKEN, END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    engine.train_from_iterator((piece for document in documents for piece in _pieces(document)), trainer)
    names = {"eos_token": END_OF_TEXT, "pad_token": MASK_TOKEN, "mask_token": MASK_TOKEN}
    return SubwordTokenizer("bpe", engine, names)


def load_tokenizer(name: str) -> SubwordTokenizer:
    """Load a tokenizer that others trained.

    Args:
        name: A ``tokenizer.json``, or a folder with one, or a name on the Hugging Face Hub.

    Raises:
        DataError: If there is none, or it cannot be read.
        MissingExtraError: If it has to come from the Hub, and `huggingface_hub` is not installed.
    """
    path = Path(name)
    if path.is_dir():
        path = path / "tokenizer.json"
    if path.exists():
        return restore_tokenizer(name, path.read_bytes(), _content(path.with_name("tokenizer_config.json")))
    if Path(name).is_dir() or name.endswith(".json"):
        raise DataError(f"{name}: there is no tokenizer.json. Allowed: bytes, bpe, a tokenizer.json, a folder, a name.")
    return restore_tokenizer(name, *_from_hub(name))


def restore_tokenizer(name: str, tokenizer_json: bytes, config_json: bytes) -> SubwordTokenizer:
    """Make a tokenizer of the contents of its files; the second may be empty."""
    from tokenizers import Tokenizer

    try:
        engine = Tokenizer.from_str(tokenizer_json.decode())
        config: dict[str, Any] = json.loads(config_json) if config_json else {}
    except Exception as error:  # the library raises nothing more definite
        raise DataError(f"{name}: the tokenizer cannot be read: {error}. Name a tokenizer.json.") from error
    tasks = {task: config[task] for task in TASKS if config.get(task)}
    return SubwordTokenizer(
        name, engine, {task: token["content"] if isinstance(token, dict) else token for task, token in tasks.items()}
    )


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _from_hub(name: str) -> tuple[bytes, bytes]:
    try:
        import huggingface_hub
        from huggingface_hub.errors import EntryNotFoundError
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", extra="hub", purpose=f"a tokenizer from the Hub ({name})") from error
    try:
        tokenizer_json = Path(huggingface_hub.hf_hub_download(name, "tokenizer.json")).read_bytes()
        try:
            return tokenizer_json, Path(huggingface_hub.hf_hub_download(name, "tokenizer_config.json")).read_bytes()
        except EntryNotFoundError:
            return tokenizer_json, b""
    except Exception as error:  # no such name, no permission, no network: the library has an error for each
        raise DataError(
            f"{name}: the Hub gives no tokenizer: {error}. Allowed: bytes, bpe, a tokenizer.json, a folder, a name."
        ) from error


def _ends(names: dict[str, str]) -> Iterator[str]:
    """Go through what may be called the end of a text, the tokenizer's own word for it first."""
    yield from (names[task] for task in ("eos_token", "sep_token") if task in names)
    yield from ENDS


def _pieces(document: Document) -> Iterator[str]:
    """Cut a text into pieces that can be encoded one by one."""
    text = ""
    for more in decoded(document):
        text, start = text + more, 0
        while len(text) - start > PIECE_LETTERS:
            found = BEFORE_A_WORD.match(text, start, start + PIECE_LETTERS)
            cut = found.end() if found else start + PIECE_LETTERS
            yield text[start:cut]
            start = cut
        text = text[start:]
    yield text


def _batches(marked: Iterator[tuple[str, bool]]) -> Iterator[list[tuple[str, bool]]]:
    """Gather pieces that are encoded at once."""
    batch: list[tuple[str, bool]] = []
    n_letters = 0
    for piece, is_last in marked:
        batch.append((piece, is_last))
        n_letters += 1 + len(piece)
        if n_letters >= LETTERS_AT_ONCE:
            yield batch
            batch, n_letters = [], 0
    if batch:
        yield batch


def _with_last(pieces: Iterator[str]) -> Iterator[tuple[str, bool]]:
    """Say of each piece whether it is the last."""
    earlier = next(pieces)
    for piece in pieces:
        yield earlier, False
        earlier = piece
    yield earlier, True
