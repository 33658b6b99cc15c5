"""What a configuration says is adapted to: masked words of a text, or brand-new languages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from xenoglot.config import RunConfig
from xenoglot.corpus.base import Corpus, Document
from xenoglot.episodes.batches import TaskSource
from xenoglot.episodes.languages import LanguageEpisodes
from xenoglot.episodes.smlmt import SMLMT
from xenoglot.errors import OptionError
from xenoglot.languages import Family
from xenoglot.rng import derive
from xenoglot.text import Text

__all__ = ["TrainingPart", "language_tasks", "sentence_tasks"]

CONTINUATIONS = bytes(range(0x80, 0xC0))
"""The bytes that can only stand inside a character of UTF-8."""


class TrainingPart(Corpus):
    """What of a text is learned, as one document, so that no task is made of what the model is measured on.

    Args:
        text: The text, with its tokenizer.

    Example:
        >>> from xenoglot.text import ByteText
        >>> [document] = TrainingPart(ByteText("ü".encode() * 160, length=16)).documents()
        >>> len(b"".join(document.pieces).decode())
        144
    """

    has_many_documents = False

    def __init__(self, text: Text) -> None:
        self.name = f"the training part of {text.source}"
        self._text = text

    def documents(self) -> Iterator[Document]:
        yield Document(where=self.name, pieces=self._pieces())

    def digest(self) -> str:
        """Return the SHA-256 of the tokens' own."""
        return hashlib.sha256(f"training part of {self._text.sha256}".encode()).hexdigest()

    def _pieces(self) -> Iterator[bytes]:
        last = b""
        for piece in self._text.training_bytes():
            yield last
            last = piece
        yield _without_torn_end(last)


def sentence_tasks(config: RunConfig, text: Text, cache_dir: str | Path) -> TaskSource:
    """Make tasks of the sentences that were named, or of the text's training part.

    Raises:
        DataError: If there are too few words or sentences, or they cannot be read.
        OptionError: If the tokenizer has no MASK, or is not known.
    """
    tasks = config.smlmt
    if text.tokenizer is None:
        raise OptionError(
            "data.tokenizer.name",
            None,
            f"the tokenizer of the ids in {text.source}, where smlmt.enabled is true",
            "Words are looked for in the text that the ids stand for.",
        )
    made = SMLMT.from_sentences(
        TrainingPart(text) if tasks.sentences is None else tasks.sentences,
        text.tokenizer,
        n_way=tasks.n_way,
        k_shot=tasks.k_shot,
        q_query=tasks.q_query,
        seed=derive(config.training.seed, "smlmt"),
        mask_token=tasks.mask_token,
        min_token_freq=tasks.min_token_freq,
        max_token_freq=tasks.max_token_freq,
        max_length=config.model.max_seq_len,
        stem_language=tasks.stem_language,
        cache_dir=cache_dir,
    )
    made(0)  # what cannot be drawn at all is found out before the run begins
    return made


def language_tasks(config: RunConfig, family: Family) -> TaskSource:
    """Make tasks of languages that nobody has ever spoken: a few rows of each to learn from, and others."""
    return LanguageEpisodes(
        family,
        n_support=config.smlmt.k_shot,
        n_query=config.smlmt.q_query,
        length=config.model.max_seq_len,
        seed=derive(config.training.seed, "smlmt"),
    )


def _without_torn_end(content: bytes) -> bytes:
    """Leave out a last character of which only the first bytes are there."""
    begin = max(0, len(content.rstrip(CONTINUATIONS)) - 1)
    try:
        content[begin:].decode()
    except UnicodeDecodeError:
        return content[:begin]
    return content
