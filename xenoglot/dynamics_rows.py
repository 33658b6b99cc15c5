"""The rows that learning dynamics are taken on, and where those for validation come from: nothing that is learned.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xenoglot.batches import TokenBatch
from xenoglot.corpus.base import Corpus, Document
from xenoglot.corpus.columns import open_dataset
from xenoglot.corpus.text_files import TextFiles
from xenoglot.corpus.tokenizer import Tokenizer
from xenoglot.errors import DataError
from xenoglot.language_rows import LanguageRows
from xenoglot.languages.base import MASK, Nats, Tokens
from xenoglot.rng import generator
from xenoglot.samples import StoredSamples
from xenoglot.text import Text

__all__ = ["DynamicsRows", "rows_of_corpus", "rows_of_held_out", "rows_of_languages"]

SPLIT = "val"
"""Which part of a dataset of the Hub is read, as in Pico."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DynamicsRows:
    """Rows, and what they are.

    Attributes:
        batch: The rows.
        facts: Plain JSON values; ``identity`` says in words which rows they are.
        floor_nats_BT: float32, the loss of one who knows each row's language; None where that is not known.
    """

    batch: TokenBatch
    facts: Mapping[str, Any]
    floor_nats_BT: Tensor | None = None


def rows_of_languages(rows: LanguageRows, identity: str) -> DynamicsRows:
    """Draw rows of languages, with their floor."""
    batch = rows.batch()
    return DynamicsRows(
        batch=TokenBatch.from_arrays(batch.inputs, batch.targets),
        facts={"identity": identity, "languages": rows.facts()},
        floor_nats_BT=torch.from_numpy(batch.floor_nats.copy()),
    )


def rows_of_held_out(text: Text | StoredSamples, *, n_rows: int, seed: int) -> DynamicsRows:
    """Choose some of the rows that are held out, or all if there are no more.

    Args:
        text: Whose.
        n_rows: How many, B.
        seed: What the choice is a function of.
    """
    inputs, targets = next(iter(text.held_out_windows()))
    rng = generator(seed, "dynamics")
    chosen = np.sort(rng.choice(len(inputs), size=min(n_rows, len(inputs)), replace=False))
    floor = text.held_out_floor_nats() if isinstance(text, StoredSamples) else None
    numbers = ", ".join(str(row) for row in chosen)
    return DynamicsRows(
        batch=TokenBatch.from_arrays(inputs[chosen], targets[chosen]),
        facts={"identity": f"held-out rows {numbers} of {text.source}", "sha256": text.sha256},
        floor_nats_BT=_floor(floor, chosen),
    )


def _floor(floor_nats: Nats | None, chosen: NDArray[np.int64]) -> Tensor | None:
    return None if floor_nats is None else torch.from_numpy(floor_nats[chosen])


def rows_of_corpus(
    source: str, tokenizer: Tokenizer | None, *, n_rows: int, length: int, n_tokens: int
) -> DynamicsRows:
    """Cut the first rows of a text: its documents one behind the other, each after an end-of-text token or MASK.

    Args:
        source: A text or parquet file, a folder of them, or a dataset's name on the Hub.
        tokenizer: Makes ids of text; None if there are ids.
        n_rows: How many rows, B, if there are so many.
        length: Tokens of a row, T.
        n_tokens: How many ids the model has.

    Raises:
        DataError: If there is not one row, an id that the model has not, or text without a tokenizer.
    """
    corpus = _opened(source)
    if tokenizer is None and not corpus.holds_ids:
        raise DataError(
            f"{source}: got text; allowed: ids, since the model is not trained on text and has no tokenizer. Leave out "
            "--checkpointing.learning_dynamics.eval_data."
        )
    windows = _windows(corpus, tokenizer, length=length, n_tokens=n_tokens)
    rows = [row for _, row in zip(range(n_rows), windows, strict=False)]
    if not rows:
        raise DataError(
            f"{source}: got less than {length + 1} tokens; allowed: a row and one more. Give a longer text."
        )
    ids = np.stack(rows)
    identity = f"the first {len(rows)} rows of {corpus.name}"
    return DynamicsRows(batch=TokenBatch.from_arrays(ids[:, :-1], ids[:, 1:]), facts={"identity": identity})


def _opened(source: str) -> Corpus:
    path = Path(source)
    is_text = path.exists() and path.suffix != ".parquet" and next(path.rglob("*.parquet"), None) is None
    return TextFiles(path) if is_text else open_dataset(source, split=SPLIT)


def _windows(corpus: Corpus, tokenizer: Tokenizer | None, *, length: int, n_tokens: int) -> Iterator[Tokens]:
    """Cut ids into rows of T + 1, which overlap by one; what others made ids of, each document by itself."""
    end = None if tokenizer is None else tokenizer.end_of_text
    before = np.array([MASK if end is None else end], np.int32)
    held = before[:0]
    for document in corpus.documents():
        held = before[:0] if corpus.holds_ids else np.append(held, before)
        for ids in _ids(document, tokenizer):
            if len(ids) and int(ids.max()) >= n_tokens:
                raise DataError(f"{document.where}: got id {ids.max()}; allowed: 0 to {n_tokens - 1}, the model's.")
            held = np.concatenate([held, ids.astype(np.int32)])
            while len(held) > length:
                yield held[: length + 1]
                held = held[length:]


def _ids(document: Document, tokenizer: Tokenizer | None) -> Iterator[NDArray[np.unsignedinteger]]:
    if document.ids is not None:
        yield document.ids
    elif tokenizer is not None:
        yield from tokenizer.encode([document])
