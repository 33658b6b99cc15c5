r"""Named-entity tagging: how well entities are found after learning from tagged sentences.

The sentences are Universal NER's, or others in its form. From a decoder, several taggers are fitted that differ in
their seed only, and judged by F1 of whole entities, by type and over all types; beside them stand an untrained twin of
the same sizes, and who finds nothing at all (only ``O``), whose F1 is 0 though it is right about nearly every word.

A decoder that was trained on bare ids, those of made-up languages, has no vectors for the tokens of a text. It gets a
**fresh embedding**, drawn from the seed, and keeps its blocks; its untrained twin gets the very same embedding and the
same head, so that the two differ in the blocks alone. What learns is then by default ``embedding``: the embedding and
the head (`xenoglot.evaluations.tagging_fitting` has the three ways).

With S seeds and F1 x of each, the interval is that of the mean over seeds, on one test set:

.. math::
    \bar x \pm t_{S-1}\, s / \sqrt S

Source: Universal NER (Mayhew et al. 2024, arXiv 2311.09122). Pico-MAML's paper (arXiv 2508.02189) speaks of a
conditional random field and early stopping; its code fits a linear layer for ten epochs, with one seed. Here tags are
valid sequences, dev says when to stop, and the seeds are several.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from xenoglot.corpus.tokenizer import Tokenizer
from xenoglot.decoder import Decoder
from xenoglot.errors import DataError, OptionError
from xenoglot.evaluations.base import Evaluation, Row
from xenoglot.evaluations.tagging_files import OUTSIDE, TaggedSentence, TaggedSplits
from xenoglot.evaluations.tagging_fitting import Part, Recipe, best_of_rates
from xenoglot.evaluations.tagging_scores import ALL_TYPES, SpanScore, check_seqeval, span_scores, tags_of_types
from xenoglot.evaluations.tagging_words import encode_words
from xenoglot.evaluations.task_means import seed_interval
from xenoglot.options import check_options, option
from xenoglot.rng import MAX_SEED, derive

__all__ = ["TagScores", "Tagging", "tagging_rows", "untrained_twin", "with_fresh_embedding"]

HEAD_RATES = (0.003, 0.01, 0.03)
OTHER_RATES = (0.003, 0.01)
ONLY_OUTSIDE = "only O"


class TagScores(NamedTuple):
    """What one tagger came to.

    Attributes:
        by_type: Precision, recall and F1 on test of each type, and of all.
        word_accuracy: Share of words with the right tag.
        dev_f1: What it was chosen by.
        n_epochs: It learned for.
        rate: It learned at.
    """

    by_type: Mapping[str, SpanScore]
    word_accuracy: float
    dev_f1: float
    n_epochs: int
    rate: float


@dataclass(frozen=True, kw_only=True)
class Tagging(Evaluation):
    """F1 of entities by type, of taggers that begin with a decoder.

    Args:
        sentences: To learn from, to choose by, to be judged by.
        tokenizer: Makes ids of text.
        has_fresh_embedding: Whether the tokenizer is another than the decoder's, which then gets new vectors for it.

    Raises:
        OptionError: If an option is not allowed.
        MissingExtraError: If `seqeval` is not installed.
    """

    name: ClassVar[str] = "tagging"

    sentences: TaggedSplits
    tokenizer: Tokenizer
    has_fresh_embedding: bool = False
    adapts: str | None = option(
        None,
        "what learns besides the head: head, nothing; embedding, the vectors of the tokens; all, everything; if none, "
        "embedding where that is fresh, else head",
        choices=("head", "embedding", "all"),
    )
    n_seeds: int = option(3, "taggers that differ in their seed", minimum=1)
    attention: str = option(
        "as-trained",
        "what words see: as-trained, which is what stands before them in a causal decoder, or both-sides",
        choices=("as-trained", "both-sides"),
    )
    lr: float | None = option(
        None, "Adam's rate; if none, the best on dev of several", minimum=0, exclusive_minimum=True
    )
    max_epochs: int = option(40, "times that the training sentences are gone through, at most", minimum=1)
    patience: int = option(5, "epochs after which to stop if dev is tagged no better", unit="epochs", minimum=1)
    batch_size: int = option(16, "rows of tokens of a step", unit="rows", minimum=1)
    compare_untrained: bool = option(True, "whether an untrained twin is measured too")

    def __post_init__(self) -> None:
        check_options(self)
        check_seqeval()

    def __call__(self, model: nn.Module, rng: np.random.Generator) -> list[Row]:
        """Return a row for each model and type, those of who only says ``O``, and a summary."""
        if not isinstance(model, Decoder):
            raise OptionError("model", type(model).__name__, "a bare Decoder: its blocks are learned on from")
        seeds = rng.integers(MAX_SEED, endpoint=True, size=self.n_seeds).tolist()
        scores = [self.measure(model, seed) for seed in seeds]
        rows = tagging_rows(scores, {"model": "this one"})
        if self.compare_untrained:
            twins = [self.measure(untrained_twin(model, seed), seed) for seed in seeds]
            rows += tagging_rows(twins, {"model": "untrained"})
        summary = {"tagging_f1": float(np.mean([each.by_type[ALL_TYPES].f1 for each in scores]))}
        return [*rows, *self.baseline(), Row(slices={"summary": self.name}, metrics=summary)]

    def measure(self, decoder: Decoder, seed: int) -> TagScores:
        """Fit one tagger, and judge it on test.

        Args:
            decoder: Where it begins; is left as it was.
            seed: Of a fresh embedding, and of the order of the sentences.

        Raises:
            DataError: If the tokenizer has more ids than the decoder.
        """
        decoder = self._reader(decoder, seed)
        tags = tags_of_types(self.sentences.types)
        train, dev, test = (
            self._part(part, tags, decoder) for part in (self.sentences.train, self.sentences.dev, self.sentences.test)
        )
        fitted = best_of_rates(decoder, train, dev, tags, self._recipe, seed)
        predicted = fitted.predicted(test, tags)
        return TagScores(
            by_type=span_scores(test.tags, predicted),
            word_accuracy=_share_of_right_words(test.tags, predicted),
            dev_f1=fitted.dev_f1,
            n_epochs=fitted.n_epochs,
            rate=fitted.rate,
        )

    def baseline(self) -> list[Row]:
        """Return what comes of saying nothing but ``O``."""
        true = [sentence.tags for sentence in self.sentences.test]
        said = [[OUTSIDE] * len(tags) for tags in true]
        metrics = {"f1": span_scores(true, said)[ALL_TYPES].f1, "word_accuracy": _share_of_right_words(true, said)}
        return [Row(slices={"model": ONLY_OUTSIDE, "type": ALL_TYPES}, metrics=metrics)]

    @property
    def ways(self) -> str:
        """What learns besides the head."""
        return self.adapts or ("embedding" if self.has_fresh_embedding else "head")

    @property
    def _recipe(self) -> Recipe:
        rates = HEAD_RATES if self.ways == "head" else OTHER_RATES
        return Recipe(
            adapts=self.ways,
            sees_all=self.attention == "both-sides",
            rates=rates if self.lr is None else (self.lr,),
            max_epochs=self.max_epochs,
            patience=self.patience,
            batch_size=self.batch_size,
        )

    def _reader(self, decoder: Decoder, seed: int) -> Decoder:
        if self.has_fresh_embedding:
            return with_fresh_embedding(decoder, self.tokenizer.n_tokens, seed)
        if self.tokenizer.n_tokens > decoder.vocab_size:
            raise DataError(
                f"{self.tokenizer.name}: got a tokenizer with {self.tokenizer.n_tokens:,} ids; allowed: at most the "
                f"{decoder.vocab_size:,} of the model, or a fresh embedding."
            )
        return decoder

    def _part(self, sentences: Sequence[TaggedSentence], tags: Sequence[str], decoder: Decoder) -> Part:
        windows = encode_words(sentences, self.tokenizer, tags, decoder.config.max_seq_len)
        return Part(windows=windows, tags=[sentence.tags for sentence in sentences])


def with_fresh_embedding(decoder: Decoder, n_tokens: int, seed: int) -> Decoder:
    """Return a decoder with the same blocks and last norm that reads another vocabulary, whose vectors are new.

    Args:
        decoder: Whose blocks are copied.
        n_tokens: How many ids the new one reads.
        seed: What the vectors are drawn from, whatever the blocks are.
    """
    config = dataclasses.replace(decoder.config, vocab_size=n_tokens)
    other = Decoder(config, torch.Generator().manual_seed(derive(seed, "fresh embedding")))
    blocks = {name: weight for name, weight in decoder.model.state_dict().items() if not name.startswith("embed_")}
    other.model.load_state_dict(blocks, strict=False)
    return other.to(decoder.lm_head.weight.device)


def untrained_twin(decoder: Decoder, seed: int) -> Decoder:
    """Return a decoder of the same sizes that has learned nothing."""
    twin = Decoder(decoder.config, torch.Generator().manual_seed(derive(seed, "untrained twin")))
    return twin.to(decoder.lm_head.weight.device)


def tagging_rows(scores: Sequence[TagScores], slices: Mapping[str, str | int]) -> list[Row]:
    """Return a row for each type and for all: means over taggers, and the interval of F1.

    Args:
        scores: Of each tagger, judged on the same sentences.
        slices: What the rows are about, besides.
    """
    rows = []
    for kind in dict.fromkeys(name for each in scores for name in each.by_type):
        found = [each.by_type.get(kind, SpanScore(0.0, 0.0, 0.0, 0)) for each in scores]
        metrics = seed_interval("f1", np.array([score.f1 for score in found]))
        metrics |= {name: float(np.mean([getattr(score, name) for score in found])) for name in ("precision", "recall")}
        metrics |= {"n_spans": found[0].n_spans, "n_seeds": len(scores)}
        if kind == ALL_TYPES:
            names = ("word_accuracy", "dev_f1", "n_epochs")
            metrics |= {name: float(np.mean([getattr(each, name) for each in scores])) for name in names}
        rows.append(Row(slices={**slices, "type": kind}, metrics=metrics))
    return rows


def _share_of_right_words(true: Sequence[Sequence[str]], said: Sequence[Sequence[str]]) -> float:
    pairs = [pair for of_true, of_said in zip(true, said, strict=True) for pair in zip(of_true, of_said, strict=True)]
    return sum(tag == guess for tag, guess in pairs) / len(pairs)
