"""The contract of episodes: small tasks, each with a support set to learn from and a query set to be judged by.

Shapes: N examples, T tokens of the longest of them; B rows of T tokens for languages.

```python
episode = source(17, "train")          # task 17 of the source's seed and the split, the same whenever it is asked for
episode.support.token_ids_NT           # k_shot examples of each of n_way classes ...
episode.query.labels_N                 # ... and q_query others, whose labels are to be found
```
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from xenoglot.batches import TokenBatch
from xenoglot.errors import UnknownNameError
from xenoglot.options import whole_number

__all__ = ["SPLITS", "Episode", "EpisodeSource", "Examples", "LanguageEpisode", "check_task"]

SPLITS = ("train", "validation", "test")
"""What can be asked for: no sentence of a task of one occurs in a task of another."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Labelled sentences.

    Attributes:
        token_ids_NT: int64, padded on the right with 0. MASK may be 0 too: `lengths_N` tells them apart.
        lengths_N: int64, tokens of each sentence, at least 1.
        mask_positions_N: int64, where its first MASK stands; its last token where the task masks nothing.
        labels_N: int64, 0 to n_way - 1.
    """

    token_ids_NT: Tensor
    lengths_N: Tensor
    mask_positions_N: Tensor
    labels_N: Tensor

    def to(self, device: torch.device) -> Examples:
        """Return the sentences on a device; they are copied only if they are not there."""
        return Examples(
            token_ids_NT=self.token_ids_NT.to(device),
            lengths_N=self.lengths_N.to(device),
            mask_positions_N=self.mask_positions_N.to(device),
            labels_N=self.labels_N.to(device),
        )


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One classification task.

    Attributes:
        support: What is learned from: shot by shot, each class once in every shot, in a random order.
        query: Other examples of the same classes, in the same manner.
        n_way: How many classes there are.
        identity: What to call the task in a message: enough to make it again.
    """

    support: Examples
    query: Examples
    n_way: int
    identity: str

    def to(self, device: torch.device) -> Episode:
        """Return the task on a device."""
        return Episode(
            support=self.support.to(device), query=self.query.to(device), n_way=self.n_way, identity=self.identity
        )


@dataclass(frozen=True, kw_only=True)
class LanguageEpisode:
    """Rows of one language, to learn it from, and others, to be judged by: next-token prediction on both.

    Attributes:
        support: Rows [B, T] to learn from.
        query: Other rows of the same language.
        identity: What to call the language in a message: enough to make it again.
    """

    support: TokenBatch
    query: TokenBatch
    identity: str

    def to(self, device: torch.device) -> LanguageEpisode:
        """Return the rows on a device."""
        return LanguageEpisode(support=self.support.to(device), query=self.query.to(device), identity=self.identity)


class EpisodeSource(ABC):
    """Something that classification tasks come from.

    To add one, put a file into ``xenoglot/episodes/`` (or anywhere on the path): a class with a ``name``, `__call__`
    and `fingerprint`.
    """

    name: ClassVar[str]
    """What the source is called."""

    @abstractmethod
    def __call__(self, index: int, split: str = "train") -> Episode:
        """Draw a task; a function of (the source's seed, split, index), whatever was drawn before.

        Args:
            index: Which task, from 0; they never end.
            split: ``train``, ``validation`` or ``test``.

        Raises:
            OptionError: If there is no such task.
            UnknownNameError: If there is no such split.
        """

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Return what the tasks are a function of, as plain JSON values: equal exactly where all tasks are."""


def check_task(index: int, split: str) -> int:
    """Return the index as a plain ``int``, or raise unless it is a whole number, at least 0, of a known split."""
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    if type(index) is int and 0 <= index < 2**63:
        return index  # without the long way, which takes as long as drawing a task
    return whole_number("index", index, minimum=0, maximum=2**63 - 1)
