"""From words to tokens: where in a row of tokens the tag of each word is read.

A word is read at its **last** token. A causal decoder has seen the whole word there, and all before it; at the first
token it would have to tell "New" from "Newton" by what comes later. What stands behind a word it does not see: "Bay" is
no help for "Tampa". With attention to both sides every token has seen everything, and the last serves as well as any.

Words stand in one line, divided by blanks, as `# text` need not be there. Each is encoded by itself, with the blank
before it, as tokenizers that split at blanks do anyhow. A sentence that is longer than the model reads is cut between
words, and what stands before a cut is read once more, up to half a row, as context.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from xenoglot.corpus.base import Document
from xenoglot.corpus.tokenizer import Tokenizer
from xenoglot.evaluations.tagging_files import TaggedSentence
from xenoglot.languages.base import MASK

__all__ = ["Window", "WindowBatch", "collate", "encode_words"]


class Window(NamedTuple):
    """A row of tokens, and the words whose tags are read in it.

    Attributes:
        token_ids: The tokens.
        positions: Of each word's last token.
        labels: Of each word, the number of its tag.
    """

    token_ids: list[int]
    positions: list[int]
    labels: list[int]


class WindowBatch(NamedTuple):
    """Windows side by side; their words, W together, one behind the other.

    Attributes:
        token_ids_NT: Filled up with MASK behind each end.
        lengths_N: Tokens of each.
        rows_W: In which window each word stands.
        positions_W: At which token it is read.
    """

    token_ids_NT: Tensor
    lengths_N: Tensor
    rows_W: Tensor
    positions_W: Tensor


def encode_words(
    sentences: Sequence[TaggedSentence], tokenizer: Tokenizer, tags: Sequence[str], max_length: int
) -> list[Window]:
    """Turn sentences into windows whose words, in their order, are the words of the sentences.

    Args:
        sentences: Words and tags.
        tokenizer: Makes ids of text.
        tags: All tags; a label is a place in them.
        max_length: Tokens of a window, at most.

    Example:
        >>> from xenoglot.corpus.tokenizer import ByteTokenizer
        >>> sentence = TaggedSentence(where="here", words=("in", "Rome"), tags=("O", "B-LOC"))
        >>> [window] = encode_words([sentence], ByteTokenizer(marks_ends=False), ["O", "B-LOC", "I-LOC"], 16)
        >>> bytes(token - 1 for token in window.token_ids), window.positions, window.labels
        (b'in Rome', [1, 6], [0, 1])
    """
    known: dict[str, list[int]] = {}
    label_of = {tag: label for label, tag in enumerate(tags)}
    windows: list[Window] = []
    for sentence in sentences:
        spelled = [f"{' ' if place else ''}{word}" for place, word in enumerate(sentence.words)]
        for text in spelled:
            if text not in known:
                known[text] = _ids(text, tokenizer, sentence.where)
        labels = [label_of[tag] for tag in sentence.tags]
        windows += _windows([known[text] for text in spelled], labels, max_length)
    return windows


def _ids(text: str, tokenizer: Tokenizer, where: str) -> list[int]:
    """Encode a word; one that a tokenizer leaves out is a MASK, so that there is something to read it at."""
    pieces = tokenizer.encode([Document(where=where, pieces=[text.encode()])])
    return [int(token) for piece in pieces for token in piece] or [MASK]


def _windows(tokens: Sequence[Sequence[int]], labels: Sequence[int], max_length: int) -> Iterator[Window]:
    first = 0
    while first < len(tokens):
        ids = _context(tokens[:first], max_length // 2)
        positions: list[int] = []
        last = first
        while last < len(tokens) and (last == first or len(ids) + len(tokens[last]) <= max_length):
            ids = [*ids, *tokens[last]][-max_length:]  # is too long only where one word is, or nearly
            positions.append(len(ids) - 1)
            last += 1
        yield Window(ids, positions, list(labels[first:last]))
        first = last


def _context(before: Sequence[Sequence[int]], n_tokens: int) -> list[int]:
    """Return the tokens of as many whole words as fit."""
    ids: list[int] = []
    for word in reversed(before):
        if len(ids) + len(word) > n_tokens:
            break
        ids = [*word, *ids]
    return ids


def collate(windows: Sequence[Window], device: torch.device) -> WindowBatch:
    """Put windows side by side on a device."""
    longest = max(len(window.token_ids) for window in windows)
    padded = [window.token_ids + [MASK] * (longest - len(window.token_ids)) for window in windows]
    rows = [row for row, window in enumerate(windows) for _ in window.positions]
    positions = [position for window in windows for position in window.positions]
    return WindowBatch(
        token_ids_NT=torch.tensor(padded, device=device),
        lengths_N=torch.tensor([len(window.token_ids) for window in windows], device=device),
        rows_W=torch.tensor(rows, device=device),
        positions_W=torch.tensor(positions, device=device),
    )
