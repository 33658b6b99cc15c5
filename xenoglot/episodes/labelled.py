r"""Few-shot tasks from examples that somebody labelled.

A task draws some of the labels, gives each a random number, and draws examples of each; so the numbers say nothing
without the support set, also where there are only as many labels as a task has.

```python
tasks = LabelledTasks.from_file("intents.jsonl", "bytes", n_way=3, k_shot=8, q_query=8)   # {"text": ..., "label": ...}
episode = tasks(0, "test")
tasks.labels(0, "test")           # what the numbers 0, 1, 2 stand for
```
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from xenoglot.corpus.base import Document
from xenoglot.corpus.tokenizer import Tokenizer
from xenoglot.episodes.base import SPLITS, Episode, EpisodeSource, Examples, check_task
from xenoglot.episodes.encoding import tokenizer_from
from xenoglot.episodes.word_forms import hashes_of_texts
from xenoglot.episodes.word_index import split_of_hashes
from xenoglot.errors import DataError
from xenoglot.options import whole_number
from xenoglot.rng import check_seed, generator

__all__ = ["LabelledTasks"]

Integers: TypeAlias = NDArray[np.int64]


class LabelledTasks(EpisodeSource):
    """Tasks of labelled texts; see `LabelledTasks.from_file` for a file of them.

    An example belongs to one split, by a hash of its text; labels may occur in all three. A text that occurs twice
    counts once, and one with several labels not at all.

    Args:
        examples: Pairs of text and label.
        tokenizer: How text becomes ids: ``bytes``, or what `load_tokenizer` takes, or such an object.
        n_way: Labels of a task.
        k_shot: Examples of each in the support set.
        q_query: Examples of each in the query set.
        seed: 0 to 2^63 - 1. The splits do not depend on it.
        max_length: Tokens of an example; what a longer one has more is cut off.
        held_out_share: Share of the examples of validation and of test each; with 0.5 none are left to train on.
        source: What to call the examples in messages.

    Raises:
        DataError: If there are too few labels or examples for tasks of the train split, or of the others where nothing
            is left to train on; or a text is empty.
        OptionError: If an argument is not allowed.

    Example:
        >>> pairs = [(f"{word} {number}", word) for word in ("yes", "no", "why") for number in range(9)]
        >>> tasks = LabelledTasks(pairs, "bytes", n_way=2, k_shot=2, q_query=1, held_out_share=0)
        >>> tasks(3).query.token_ids_NT.shape, tasks.labels(3)
        (torch.Size([2, 5]), ('no', 'why'))
    """

    name: ClassVar[str] = "labelled"

    def __init__(
        self,
        examples: Iterable[tuple[str, Any]],
        tokenizer: Tokenizer | str = "bytes",
        *,
        n_way: int = 2,
        k_shot: int = 4,
        q_query: int = 8,
        seed: int = 0,
        max_length: int = 256,
        held_out_share: float = 0.2,
        source: str = "the examples",
    ) -> None:
        self.n_way = whole_number("n_way", n_way, minimum=2)
        self.k_shot = whole_number("k_shot", k_shot, minimum=1)
        self.q_query = whole_number("q_query", q_query, minimum=1)
        self.seed = check_seed(seed)
        self._source = source
        texts, labels = _unambiguous(examples, source)
        self._rows = _encoded(texts, tokenizer_from(tokenizer), whole_number("max_length", max_length, minimum=1))
        self._labels = sorted(set(labels))
        self._digest = hashlib.sha256(json.dumps([texts, labels]).encode()).hexdigest()
        self._settings = {"max_length": max_length, "held_out_share": held_out_share}
        splits = split_of_hashes(hashes_of_texts([json.dumps(text) for text in texts]), held_out_share)
        of_label = np.array([self._labels.index(label) for label in labels], np.int64)
        self._members = {
            split: [np.flatnonzero((splits == place) & (of_label == label)) for label in range(len(self._labels))]
            for place, split in enumerate(SPLITS)
        }
        for split in ("train",) if held_out_share < 0.5 else ("validation", "test"):
            self._usable(split)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        tokenizer: Tokenizer | str = "bytes",
        *,
        text: str = "text",
        label: str = "label",
        **sizes: Any,
    ) -> LabelledTasks:
        """Read JSON lines, an example each.

        Args:
            path: The file.
            tokenizer: As in `LabelledTasks`.
            text: The field with the text.
            label: The field with the label: text, a whole number, or true or false.
            sizes: The other arguments of `LabelledTasks`.

        Raises:
            DataError: Naming the line that cannot be used.
        """
        return cls(_pairs(Path(path), text, label), tokenizer, source=str(path), **sizes)

    def __call__(self, index: int, split: str = "train") -> Episode:
        """Draw a task.

        Raises:
            DataError: If the split has too few labels or examples.
        """
        _, examples = self._draw(index, split)
        orders = generator(self.seed, "order", split, index)
        return Episode(
            support=self._examples(examples[:, : self.k_shot], orders),
            query=self._examples(examples[:, self.k_shot :], orders),
            n_way=self.n_way,
            identity=f"task {index} of seed {self.seed} of {self._source}, {split}",
        )

    def labels(self, index: int, split: str = "train") -> tuple[Any, ...]:
        """Return what the numbers of a task's labels stand for."""
        labels, _ = self._draw(index, split)
        return tuple(self._labels[label] for label in labels.tolist())

    def fingerprint(self) -> dict[str, Any]:
        """Return a digest of the examples and of their tokens, the sizes and the seed."""
        return {
            "kind": self.name,
            "examples_sha256": self._digest,
            "tokens_sha256": hashlib.sha256(b"".join(row.tobytes() + b"|" for row in self._rows)).hexdigest(),
            "n_way": self.n_way,
            "k_shot": self.k_shot,
            "q_query": self.q_query,
            "seed": self.seed,
            **self._settings,
        }

    def _draw(self, index: int, split: str) -> tuple[Integers, Integers]:
        """Draw labels [n_way], and the places of examples of each [n_way, k_shot + q_query]."""
        number, usable = check_task(index, split), self._usable(split)
        draws = generator(self.seed, "labelled", split, number)
        labels = draws.choice(usable, self.n_way, replace=False)
        n_examples = self.k_shot + self.q_query
        members = [draws.choice(self._members[split][label], n_examples, replace=False) for label in labels]
        return labels, np.stack(members)

    def _usable(self, split: str) -> Integers:
        """Return the labels with examples enough.

        Raises:
            DataError: If there are too few; it says what would suffice.
        """
        counts = np.array([len(members) for members in self._members[split]])
        n_examples = self.k_shot + self.q_query
        usable = np.flatnonzero(counts >= n_examples)
        if len(usable) < self.n_way:
            found = ", ".join(f"{label!r}: {count}" for label, count in zip(self._labels[:8], counts[:8], strict=False))
            more = "" if len(counts) <= 8 else f" and {len(counts) - 8} more"
            raise DataError(
                f"{self._source}, {split}: got {len(usable)} labels with at least {n_examples} (k_shot + q_query) "
                f"different examples ({found}{more}); allowed: at least {self.n_way} (n_way) such labels. Give more "
                "examples, take fewer of them or fewer labels, or hold less out (held_out_share)."
            )
        return usable

    def _examples(self, examples: Integers, orders: np.random.Generator) -> Examples:
        """Put examples [n_way, shots] into tensors, shot by shot."""
        order = np.stack([orders.permutation(self.n_way) for _ in range(examples.shape[1])])
        rows = [self._rows[place] for place in examples.T[np.arange(len(order))[:, None], order].ravel()]
        lengths = np.array([len(row) for row in rows])
        token_ids = np.zeros((len(rows), lengths.max()), np.int64)
        for padded, row in zip(token_ids, rows, strict=True):
            padded[: len(row)] = row
        return Examples(
            token_ids_NT=torch.from_numpy(token_ids),
            lengths_N=torch.from_numpy(lengths),
            mask_positions_N=torch.from_numpy(lengths - 1),
            labels_N=torch.from_numpy(order.ravel()),
        )


def _unambiguous(examples: Iterable[tuple[str, Any]], source: str) -> tuple[list[str], list[Any]]:
    """Return each text once, with its label; those that have several are left out."""
    labels_of: dict[str, Any] = {}
    ambiguous = set()
    for number, (text, label) in enumerate(examples):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{source}, example {number}: got {text!r}; allowed: a text that is not empty.")
        if labels_of.setdefault(text, label) != label:
            ambiguous.add(text)
    kept = [text for text in labels_of if text not in ambiguous]
    labels = [labels_of[text] for text in kept]
    if len({type(label) for label in labels}) > 1:
        kinds = ", ".join(sorted({type(label).__name__ for label in labels}))
        raise DataError(f"{source}: got labels of different kinds ({kinds}); allowed: one kind.")
    return kept, labels


def _encoded(texts: Sequence[str], tokenizer: Tokenizer, max_length: int) -> list[NDArray[Any]]:
    rows = []
    for number, text in enumerate(texts):
        where = f"example {number}"
        try:
            pieces = list(tokenizer.encode([Document(where=where, pieces=[text.encode()])]))
        except UnicodeEncodeError as error:
            raise DataError(f"{where}: character {error.start} is half of a pair (a lone surrogate).") from error
        row = np.concatenate(pieces)[:max_length] if pieces else np.empty(0, np.uint16)
        if not len(row):
            raise DataError(f"{where}: {tokenizer.name} gives no token for {text!r}. Leave it out.")
        rows.append(row)
    return rows


def _pairs(path: Path, text: str, label: str) -> Iterator[tuple[str, Any]]:
    """Go through the examples of a file of JSON lines."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the examples cannot be read: {error.strerror}. Name a .jsonl file.") from error
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            yield _pair(line, f"{path}, line {number}", text, label)


def _pair(line: bytes, where: str, text: str, label: str) -> tuple[str, Any]:
    try:
        fields = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: byte {error.start} of the line is not UTF-8. JSON lines are.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: it is not JSON: {error}. Allowed: one object a line.") from error
    if not isinstance(fields, Mapping) or text not in fields or label not in fields:
        got = f"the fields {', '.join(fields) or 'none'}" if isinstance(fields, Mapping) else type(fields).__name__
        raise DataError(f"{where}: got {got}; allowed: an object with {text!r} and {label!r}; others may be named.")
    if not isinstance(fields[text], str) or not fields[text].strip():
        raise DataError(f"{where}: got {fields[text]!r} as {text!r}; allowed: a text that is not empty.")
    if not isinstance(fields[label], str | int):
        raise DataError(f"{where}: got {fields[label]!r} as {label!r}; allowed: text, a whole number, true or false.")
    return fields[text], fields[label]
