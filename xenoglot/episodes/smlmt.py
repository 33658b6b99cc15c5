"""SMLMT: tasks from any sentences, by masking words (Bansal et al. 2020, arXiv 2009.08445).

A task is a few words, labelled at random, and for each of them sentences in which it is masked: which word was it? The
labels mean something else in every task, so nothing can be known without the support set.

```python
tasks = SMLMT.from_sentences("book.txt", "bytes", n_way=5, k_shot=4, cache_dir="runs/.tokens")
episode = tasks(0, "train")
episode.support.token_ids_NT      # 20 sentences, each word of the task replaced by MASK ...
episode.support.labels_N          # ... and which of the five it was
tasks.words(0, "train")           # the five
```
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from xenoglot.corpus.base import Corpus
from xenoglot.corpus.tokenizer import Tokenizer
from xenoglot.episodes.array_folder import ArrayFolder
from xenoglot.episodes.base import SPLITS, Episode, EpisodeSource, Examples, check_task
from xenoglot.episodes.drawing import MOST_ATTEMPTS, draw_task
from xenoglot.episodes.encoding import SentenceEncoder, tokenizer_from
from xenoglot.episodes.sentence_store import open_sentences
from xenoglot.episodes.sentences import corpus_of
from xenoglot.episodes.word_index import WordChoice, checked_vocabulary, open_words, task_candidates, words_of
from xenoglot.errors import DataError
from xenoglot.options import whole_number
from xenoglot.rng import check_seed, derive

__all__ = ["SMLMT"]


class SMLMT(EpisodeSource):
    """Masked-word tasks; made by `SMLMT.from_sentences`.

    Every task draws ``n_way`` words, gives each a random label, and draws ``k_shot`` + ``q_query`` different sentences
    for each, in which every occurrence of the word becomes one MASK, however many tokens it has; a token that reaches
    beyond the word is masked with it. No sentence is in both sets; none shows another word of its task, or another form
    of one, as far as such forms are among the words that tasks are made of; and no two words of a task have the same
    stem. Train, validation and test have neither words, in whatever form, nor sentences in common.

    The paper (Bansal et al. 2020) does not settle what becomes of words of several tokens; that words of a task
    differ by stem is the rule of a re-implementation (hjkim811/SMLMT-PyTorch). That no sentence shows another word or
    form, and that splits share neither words nor sentences, are rules of our own.

    Args:
        sentences: What `open_sentences` returned.
        words: What `open_words` returned for them.
        mask_id: The id of MASK.
        n_way: Words of a task.
        k_shot: Sentences of each in the support set.
        q_query: Sentences of each in the query set.
        seed: 0 to 2^63 - 1. The splits do not depend on it.

    Raises:
        OptionError: If an argument is not allowed.
        DataError: If there are too few words or sentences for tasks of the train split.
    """

    name: ClassVar[str] = "smlmt"

    def __init__(
        self,
        sentences: ArrayFolder,
        words: ArrayFolder,
        *,
        mask_id: int,
        n_way: int,
        k_shot: int,
        q_query: int,
        seed: int,
    ) -> None:
        self.n_way = whole_number("n_way", n_way, minimum=2)
        self.k_shot = whole_number("k_shot", k_shot, minimum=1)
        self.q_query = whole_number("q_query", q_query, minimum=1)
        self.seed = check_seed(seed)
        self.counts: Mapping[str, Any] = {**sentences.facts, **words.facts}
        self._words = words
        self._word_texts = words_of(sentences)
        self._shape = (self.n_way, self.k_shot, self.q_query, mask_id)
        self._arrays = _grouped(sentences.arrays, words.arrays)
        self._candidates: dict[str, NDArray[np.int64]] = {}
        self._seeds = {split: derive(seed, "smlmt", split) for split in SPLITS}
        self._candidates_of("train")  # so that too few are found out at once

    @classmethod
    def from_sentences(
        cls,
        sentences: Corpus | Iterable[str] | str | Path,
        tokenizer: Tokenizer | str = "bytes",
        *,
        n_way: int = 5,
        k_shot: int = 4,
        q_query: int = 8,
        seed: int = 0,
        vocabulary: Iterable[str] | None = None,
        splitting: str = "auto",
        mask_token: str | None = None,
        min_token_freq: int = 1,
        max_token_freq: int | None = None,
        max_length: int = 256,
        held_out_share: float = 0.2,
        stem_language: str = "english",
        cache_dir: str | Path | None = None,
    ) -> SMLMT:
        """Make tasks of sentences.

        Args:
            sentences: Texts, a sentence each; or a path: a text file, JSON lines, a folder of them, parquet; or any
                other corpus, such as ``open_dataset("roneneldan/TinyStories")``.
            tokenizer: How text becomes ids: ``bytes``, or what `load_tokenizer` takes, or such an object.
            n_way: Words of a task.
            k_shot: Sentences of each in the support set.
            q_query: Sentences of each in the query set.
            seed: 0 to 2^63 - 1.
            vocabulary: Which words tasks may be made of; any if None.
            splitting: ``lines`` if every line is a sentence, ``running`` if the text is to be split, ``auto`` to look.
            mask_token: Which token is MASK, for a tokenizer that has none of its own.
            min_token_freq: Fewest sentences of the corpus that a word occurs in, whatever a task needs besides.
            max_token_freq: Most sentences that it occurs in.
            max_length: Tokens of the longest sentence that is used.
            held_out_share: Share of the words, and of the sentences, of validation and of test each.
            stem_language: Whose endings are taken off to compare words, by Snowball (Porter 2001); ``any`` takes none
                off.
            cache_dir: Where tokens and index are kept, for the next time too; nowhere if None.

        Raises:
            DataError: If the sentences cannot be read, or are too few.
            OptionError: If an argument is not allowed.
            OutputError: If the index cannot be written.

        Example:
            >>> animals = ["cat", "dog", "owl", "bee", "fox", "hen", "ant", "elk"]
            >>> lines = [f"look at {number}: the {animal} runs" for animal in animals for number in range(6)]
            >>> tasks = SMLMT.from_sentences(lines, n_way=2, k_shot=2, q_query=1, vocabulary=animals, held_out_share=0)
            >>> episode = tasks(7)
            >>> episode.support.token_ids_NT.shape, sorted(episode.query.labels_N.tolist())
            (torch.Size([4, 21]), [0, 1])
        """
        choice = WordChoice(
            min_token_freq=min_token_freq,
            max_token_freq=max_token_freq,
            max_length=max_length,
            held_out_share=held_out_share,
            stem_language=stem_language,
        )
        wanted, found = checked_vocabulary(vocabulary), tokenizer_from(tokenizer)
        encoder = SentenceEncoder(found, mask_token)
        with _folder_of(cache_dir) as folder:
            store = open_sentences(corpus_of(sentences), found, encoder, splitting=splitting, cache_dir=folder)
            words = open_words(store, choice, wanted, cache_dir=folder)
            return cls(store, words, mask_id=encoder.mask_id, n_way=n_way, k_shot=k_shot, q_query=q_query, seed=seed)

    def __call__(self, index: int, split: str = "train") -> Episode:
        """Draw a task.

        Raises:
            DataError: If the split has too few words or sentences, or its words occur together too often.
        """
        _, _, support, query = self._draw(index, split)
        return Episode(
            support=_examples(support),
            query=_examples(query),
            n_way=self.n_way,
            identity=f"task {index} of seed {self.seed} of {self.counts['source']}, {split}",
        )

    def words(self, index: int, split: str = "train") -> tuple[str, ...]:
        """Return the words of a task, by label."""
        words, _, _, _ = self._draw(index, split)
        return tuple(self._word_texts[number] for number in words.tolist())

    def sentences(self, index: int, split: str = "train") -> NDArray[np.int64]:
        """Return which sentences of the corpus a task is made of: int64 [n_way, k_shot + q_query], by label."""
        _, sentences, _, _ = self._draw(index, split)
        return cast("NDArray[np.int64]", sentences)

    def fingerprint(self) -> dict[str, Any]:
        """Return what the index was made of, the sizes and the seed, and a digest of a task: changed drawing shows."""
        _, _, (ids, *_), _ = self._draw(0, "train")
        return {
            "kind": self.name,
            "words": self._words.path.name,
            "n_way": self.n_way,
            "k_shot": self.k_shot,
            "q_query": self.q_query,
            "mask_id": self._shape[-1],
            "seed": self.seed,
            "first_task_sha256": hashlib.sha256(ids.tobytes()).hexdigest(),
        }

    def _draw(self, index: int, split: str) -> Any:
        number = check_task(index, split)
        drawn = draw_task(self._seeds[split], number, self._shape, self._candidates_of(split), *self._arrays)
        if len(drawn[1]) == 0:
            raise DataError(
                f"{self.counts['source']}, {split}: {self.n_way} words were drawn {MOST_ATTEMPTS:,} times, and always "
                f"one had fewer than {self.k_shot + self.q_query} sentences without the others. Leave out frequent "
                "words (max_token_freq), take fewer or smaller classes (n_way, k_shot, q_query), or more sentences."
            )
        return drawn

    def _candidates_of(self, split: str) -> NDArray[np.int64]:
        """Return the words of a split that have sentences enough, as places in the index; counted the first time."""
        found = self._candidates.get(split)
        if found is None:
            found = self._candidates[split] = task_candidates(
                self._words,
                split,
                n_way=self.n_way,
                n_sentences=self.k_shot + self.q_query,
                source=self.counts["source"],
            )
        return found


@contextlib.contextmanager
def _folder_of(cache_dir: str | Path | None) -> Iterator[Path]:
    """Give the folder to keep things in; one of our own is removed, but what has been mapped from it remains."""
    if cache_dir is not None:
        yield Path(cache_dir)
        return
    with tempfile.TemporaryDirectory(prefix="xenoglot-") as folder:
        yield Path(folder)


def _grouped(sentences: Mapping[str, Any], words: Mapping[str, Any]) -> tuple[tuple[Any, ...], ...]:
    """Return the arrays as `draw_task` takes them."""
    return (
        (words["task_words"], words["stems"]),
        (words["posting_starts"], words["postings"]),
        (sentences["starts"], sentences["occurrences"], sentences["tokens"]),
    )


def _examples(arrays: tuple[Any, Any, Any, Any]) -> Examples:
    token_ids, lengths, positions, labels = arrays
    return Examples(
        token_ids_NT=torch.from_numpy(token_ids),
        lengths_N=torch.from_numpy(lengths),
        mask_positions_N=torch.from_numpy(positions),
        labels_N=torch.from_numpy(labels),
    )
