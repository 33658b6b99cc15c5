"""What an episode is to an inner loop: weights that adapt, what is given beside them, and losses of both sets.

Shapes: N examples (or all tokens of a language's rows), C classes (or ids).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from xenoglot.adaptation.reading import BACKBONE, Reader, joined
from xenoglot.adaptation.selection import HEAD
from xenoglot.batches import TokenBatch
from xenoglot.decoder import Decoder
from xenoglot.episodes import Episode, Examples, LanguageEpisode
from xenoglot.heads import Head, Weights
from xenoglot.rng import MAX_SEED, derive

__all__ = ["HEAD_PREFIX", "FeatureTask", "LanguageTask", "SentenceTask", "Task"]

HEAD_PREFIX = f"{HEAD}."


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """One episode.

    Attributes:
        weights: What adapts, by name, before any step; with the graph of what it is made of.
        given: What else the losses depend on.
    """

    weights: Weights
    given: Weights

    @property
    @abstractmethod
    def n_classes(self) -> int:
        """How many classes there are, C: by chance, one in so many answers is right."""

    @abstractmethod
    def targets(self, part: str) -> Tensor:
        """Return the right classes, int64 [N], of the "support" or the "query" set."""

    @abstractmethod
    def logits(self, weights: Weights, given: Weights, part: str, step: int | None = None) -> Tensor:
        """Return the logits [N, C] of a set; those of a gradient step, with its dropout, if its number is given."""

    def support_loss(self, weights: Weights, given: Weights, step: int) -> Tensor:
        """Return the mean loss of the support set in nats: what gradient steps minimise."""
        return _loss_nats(self.logits(weights, given, "support", step), self.targets("support"))

    def judge(self, weights: Weights, part: str) -> tuple[Tensor, Tensor]:
        """Return the mean loss of a set in nats, with its graph, and the accuracy."""
        logits_NC, targets_N = self.logits(weights, self.given, part), self.targets(part)
        accuracy = (logits_NC.detach().argmax(dim=1) == targets_N).float().mean()
        return _loss_nats(logits_NC, targets_N), accuracy


@dataclass(frozen=True, kw_only=True)
class _ClassificationTask(Task):
    """Sentences to be sorted by a head.

    Attributes:
        dropout_seed: What a step leaves out is a function of this seed and the step's number.
    """

    episode: Episode
    head: Head
    dropout_seed: int

    @property
    def n_classes(self) -> int:
        return self.episode.n_way

    def examples(self, part: str) -> Examples:
        """Return the sentences of a set."""
        return self.episode.support if part == "support" else self.episode.query

    def targets(self, part: str) -> Tensor:
        return self.examples(part).labels_N

    def logits(self, weights: Weights, given: Weights, part: str, step: int | None = None) -> Tensor:
        dropout = None
        if step is not None:
            dropout = torch.Generator().manual_seed(derive(self.dropout_seed, "dropout", step))
        features_ND = self.features({**given, **weights}, part)
        return self.head.logits(_of_head({**given, **weights}), features_ND, dropout)

    @abstractmethod
    def features(self, weights: Weights, part: str) -> Tensor:
        """Return the features [N, D] of a set."""


class FeatureTask(_ClassificationTask):
    """Only the head adapts: sentences were encoded once, and their features are given."""

    @classmethod
    def of(
        cls,
        decoder: Decoder,
        episode: Episode,
        *,
        head: Head,
        reader: Reader,
        rng: np.random.Generator,
        has_support_graph: bool,
    ) -> FeatureTask:
        """Encode an episode's sentences; its support set without graph where no gradient would come back to it."""
        if has_support_graph:
            features_ND = reader.features(decoder, joined(episode.support, episode.query))
            support_ND, query_ND = features_ND.tensor_split([len(episode.support.labels_N)])
        else:
            with torch.no_grad():
                support_ND = reader.features(decoder, episode.support)
            query_ND = reader.features(decoder, episode.query)
        return cls.of_features(support_ND, query_ND, episode, head=head, rng=rng)

    @classmethod
    def of_features(
        cls, support_ND: Tensor, query_ND: Tensor, episode: Episode, *, head: Head, rng: np.random.Generator
    ) -> FeatureTask:
        """Take an episode's features as they were read."""
        return cls(
            weights=_start(head, support_ND, episode, rng),
            given={"support": support_ND, "query": query_ND},
            episode=episode,
            head=head,
            dropout_seed=int(rng.integers(MAX_SEED)),
        )

    def features(self, weights: Weights, part: str) -> Tensor:
        return weights[part]


@dataclass(frozen=True, kw_only=True)
class SentenceTask(_ClassificationTask):
    """The decoder adapts too: sentences are encoded with the weights of every step."""

    decoder: Decoder
    reader: Reader

    @classmethod
    def of(
        cls,
        decoder: Decoder,
        episode: Episode,
        *,
        head: Head,
        reader: Reader,
        rng: np.random.Generator,
        adapting: Collection[str],
    ) -> SentenceTask:
        """Take the named weights of an episode's model to be those that adapt, and all others as given."""
        gains_D = decoder.model.norm.weight
        features_ND = gains_D.new_empty(0, len(gains_D)).to(torch.promote_types(gains_D.dtype, torch.float32))
        if head.reads_support:
            features_ND = reader.features(decoder, episode.support)
        every: Weights = {name: weight for name, weight in decoder.named_parameters() if name.startswith(BACKBONE)}
        every |= _start(head, features_ND, episode, rng)
        return cls(
            **_parted(every, adapting),
            episode=episode,
            head=head,
            dropout_seed=int(rng.integers(MAX_SEED)),
            decoder=decoder,
            reader=reader,
        )

    def features(self, weights: Weights, part: str) -> Tensor:
        own = {name: weight for name, weight in weights.items() if name.startswith(BACKBONE)}
        return self.reader.features(self.decoder, self.examples(part), own)


@dataclass(frozen=True, kw_only=True)
class LanguageTask(Task):
    """One language: every next token is an example, and every id a class."""

    episode: LanguageEpisode
    decoder: Decoder

    @classmethod
    def of(cls, decoder: Decoder, episode: LanguageEpisode, *, adapting: Collection[str]) -> LanguageTask:
        """Take the named weights to be those that adapt, and all others as given."""
        return cls(**_parted(dict(decoder.named_parameters()), adapting), episode=episode, decoder=decoder)

    @property
    def n_classes(self) -> int:
        return self.decoder.vocab_size

    def _rows(self, part: str) -> TokenBatch:
        return self.episode.support if part == "support" else self.episode.query

    def targets(self, part: str) -> Tensor:
        return self._rows(part).targets_BT.flatten()

    def logits(self, weights: Weights, given: Weights, part: str, step: int | None = None) -> Tensor:
        logits_BTV: Tensor = functional_call(self.decoder, {**given, **weights}, (self._rows(part).inputs_BT,))
        return logits_BTV.flatten(0, 1)


def _loss_nats(logits_NC: Tensor, targets_N: Tensor) -> Tensor:
    return F.cross_entropy(logits_NC.to(torch.promote_types(logits_NC.dtype, torch.float32)), targets_N)


def _start(head: Head, support_ND: Tensor, episode: Episode, rng: np.random.Generator) -> Weights:
    """Return a head's weights for an episode, under the names that they have beside a decoder's."""
    torch_rng = torch.Generator().manual_seed(int(rng.integers(MAX_SEED)))
    weights = head.start(support_ND, episode.support.labels_N, episode.n_way, torch_rng)
    return {HEAD_PREFIX + name: weight for name, weight in weights.items()}


def _of_head(weights: Weights) -> Weights:
    """Return the head's weights among others, under the names that the head knows."""
    return {name.removeprefix(HEAD_PREFIX): weight for name, weight in weights.items() if name.startswith(HEAD_PREFIX)}


def _parted(every: Weights, adapting: Collection[str]) -> dict[str, Weights]:
    """Cut up weights by name; HEAD_PREFIX among the names stands for all of the head's."""
    is_adapting = {
        name: name in adapting or (name.startswith(HEAD_PREFIX) and HEAD_PREFIX in adapting) for name in every
    }
    return {
        "weights": {name: weight for name, weight in every.items() if is_adapting[name]},
        "given": {name: weight for name, weight in every.items() if not is_adapting[name]},
    }
