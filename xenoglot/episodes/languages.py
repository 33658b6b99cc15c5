"""Tasks of one brand-new language each: some of its rows to learn it from, others to be judged by.

So the same language can be learned in context, by reading on, or by gradient, from the support rows; and the floor says
how much of it was there to be learned.

```python
tasks = LanguageEpisodes(MetaLMv1(vocab_size=16), n_support=8, n_query=8, length=128, seed=0)
episode = tasks(0, "test")
episode.support.inputs_BT                     # rows of a language that nobody has ever spoken
tasks.query_rows(0, "test").floor_nats        # what the query rows cost one who knows it
```
"""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

from xenoglot.batches import TokenBatch
from xenoglot.episodes.base import LanguageEpisode, check_task
from xenoglot.languages.base import Batch, Family, Language
from xenoglot.options import options_of, whole_number
from xenoglot.rng import check_seed, derive

__all__ = ["LanguageEpisodes"]


class LanguageEpisodes:
    """Support and query rows from one new language each; both are for predicting the next token.

    It is like an `EpisodeSource`, but what it gives are rows without labels.

    Args:
        family: Whose languages they are.
        n_support: Rows to learn from.
        n_query: Rows to be judged by.
        length: Tokens of a row, T.
        seed: 0 to 2^63 - 1.

    Raises:
        OptionError: If an argument is not allowed.

    Example:
        >>> from xenoglot.languages import MetaLMv1
        >>> tasks = LanguageEpisodes(MetaLMv1(), n_support=2, n_query=3, length=64, seed=0)
        >>> episode = tasks(10**9, "validation")
        >>> episode.support.inputs_BT.shape, episode.query.targets_BT.shape
        (torch.Size([2, 64]), torch.Size([3, 64]))
        >>> episode.identity
        'language 1000000000 of seed 0 of metalm-v1, validation'
    """

    name: ClassVar[str] = "languages"

    def __init__(self, family: Family, *, n_support: int, n_query: int, length: int, seed: int) -> None:
        self.family = family
        self.n_tokens = family.n_tokens
        self.n_support = whole_number("n_support", n_support, minimum=1)
        self.n_query = whole_number("n_query", n_query, minimum=1)
        self.length = whole_number("length", length, minimum=1)
        self.seed = check_seed(seed)

    def __call__(self, index: int, split: str = "train") -> LanguageEpisode:
        """Draw a language and its rows; a function of (seed, split, index).

        Args:
            index: Which language, from 0; they never end.
            split: ``train``, ``validation`` or ``test``.

        Raises:
            OptionError: If there is no such language.
            UnknownNameError: If there is no such split.
        """
        support, query = self.support_rows(index, split), self.query_rows(index, split)
        return LanguageEpisode(
            support=TokenBatch.from_arrays(support.inputs, support.targets),
            query=TokenBatch.from_arrays(query.inputs, query.targets),
            identity=f"language {index} of seed {self.seed} of {self.family.name}, {split}",
        )

    def language(self, index: int, split: str = "train") -> Language:
        """Return the language of a task, with its exact law."""
        return self.family.draw(self._seed(index, split))

    def support_rows(self, index: int, split: str = "train") -> Batch:
        """Return the rows of a task to learn from, with their floor."""
        return self.language(index, split).batch(self.n_support, self.length, self._seed(index, split))

    def query_rows(self, index: int, split: str = "train") -> Batch:
        """Return the rows of a task to be judged by, with their floor."""
        return self.language(index, split).batch(
            self.n_query, self.length, self._seed(index, split), start=self.n_support
        )

    def fingerprint(self) -> dict[str, Any]:
        """Return the family's options, the sizes and the seed, and a digest of a row: a changed sampler shows."""
        row = self.support_rows(0).inputs[0].tobytes()
        return {
            "kind": self.name,
            "family": self.family.name,
            "options": {known.name: getattr(self.family, known.name) for known in options_of(self.family)},
            "n_support": self.n_support,
            "n_query": self.n_query,
            "length": self.length,
            "seed": self.seed,
            "first_row_sha256": hashlib.sha256(row).hexdigest(),
        }

    def _seed(self, index: int, split: str) -> int:
        return derive(self.seed, "language", split, check_task(index, split))
