"""One language, learned in two ways: by reading on, and by gradient steps; the same tokens are predicted after either.

Judged are the last few tokens of rows of a brand-new language. In context, a model has read the t tokens before them
and nothing else. By gradient, it has taken steps on n tokens of other rows of the language, and reads none before those
that it is judged by. So at equal numbers of tokens seen the two can be compared, and both with the floor, the loss of
one who knows the language. How many steps, and at which rate, is chosen for each n on other languages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from xenoglot.adaptation import AdaptationConfig, MetaLearner
from xenoglot.batches import TokenBatch
from xenoglot.decoder import Decoder
from xenoglot.episodes import LanguageEpisode
from xenoglot.episodes.languages import LanguageEpisodes
from xenoglot.errors import OptionError
from xenoglot.evaluations.base import Evaluation, Row
from xenoglot.evaluations.measuring import interval
from xenoglot.heads import Weights
from xenoglot.languages.base import Batch, Family, Floats
from xenoglot.options import check_options, option
from xenoglot.rng import MAX_SEED, generator

__all__ = ["LanguageCurves", "LanguageLearning", "difference_rows"]

JUDGED_TOKENS = 16
"""How many tokens at the end of a row are predicted."""
RATES = (0.03, 0.1, 0.3, 1.0)
STEPS = (1, 5, 20)
CLIP_NORM = 1.0


@dataclass(frozen=True, kw_only=True)
class LanguageCurves:
    """What came of every language.

    Attributes:
        losses_nats_N: Each language's mean loss, by how it was learned and how many tokens of it were seen.
        floor_nats_N: The mean loss there of one who knows the language.
        uniform_nats: The loss of one who guesses.
    """

    losses_nats_N: Mapping[tuple[str, int], Floats]
    floor_nats_N: Floats
    uniform_nats: float

    def rows(self) -> list[Row]:
        """Return means over languages, with their intervals."""
        constants = {"floor_nats": float(self.floor_nats_N.mean()), "uniform_nats": self.uniform_nats}
        rows = []
        for (learning, n_seen), losses_N in self.losses_nats_N.items():
            metrics = interval("loss_nats", float(losses_N.mean()), losses_N)
            excess_N = losses_N - self.floor_nats_N
            metrics |= interval("excess_nats", float(excess_N.mean()), excess_N)
            rows.append(Row(slices={"learning": learning, "tokens_seen": n_seen}, metrics=metrics | constants))
        return rows


def difference_rows(first: LanguageCurves, second: LanguageCurves) -> list[Row]:
    """Return how much more the first loses than the second on the same languages, with intervals over languages."""
    rows = []
    for (learning, n_seen), losses_N in first.losses_nats_N.items():
        if (learning, n_seen) in second.losses_nats_N:
            difference_N = losses_N - second.losses_nats_N[learning, n_seen]
            metrics = interval("loss_nats_difference", float(difference_N.mean()), difference_N)
            rows.append(Row(slices={"learning": learning, "tokens_seen": n_seen}, metrics=metrics))
    return rows


@dataclass(frozen=True, kw_only=True)
class LanguageLearning(Evaluation):
    """Loss against tokens of a new language seen: read in context, learned by gradient, and both.

    Rows have slices "learning" ("in context", "by gradient", "by gradient, then in context") and "tokens_seen", and the
    loss and the floor, both over the same tokens. Intervals are over languages.

    Args:
        family: Whose languages.
        length: Tokens of a row.
        by_gradient: Numbers of tokens to take gradient steps on: up to ``length``, or multiples of it.
    """

    name: ClassVar[str] = "language-learning"

    family: Family
    length: int
    n_languages: int = option(16, "new languages", unit="languages", minimum=2)
    n_rows: int = option(8, "rows of each that are judged", unit="rows", minimum=1)
    by_gradient: tuple[int, ...] = (16, 64, 256, 1024)
    n_tuning: int = option(4, "other languages, on which steps and rate are chosen", unit="languages", minimum=1)

    def __post_init__(self) -> None:
        if self.length <= JUDGED_TOKENS:
            raise OptionError("length", self.length, f"more than the {JUDGED_TOKENS} tokens that are judged")
        check_options(self)

    def __call__(self, model: nn.Module, rng: np.random.Generator) -> list[Row]:
        """Return loss and floor for every number of tokens seen, in every way."""
        return self.measure(model, rng).rows()

    def measure(self, model: nn.Module, rng: np.random.Generator) -> LanguageCurves:
        """Return the loss on each language; the languages are the same for every model, if ``rng`` is."""
        if not isinstance(model, Decoder):
            raise OptionError("model", type(model).__name__, "a bare Decoder: weights that adapt are put into it")
        tasks = self._tasks(int(rng.integers(MAX_SEED, endpoint=True)))
        queries = [tasks.query_rows(index, "test") for index in range(self.n_languages)]
        losses = dict[tuple[str, int], Floats]()
        for n_read in self._contexts:
            losses["in context", n_read] = np.array([_judged(model, batch, n_read) for batch in queries])
        for n_tokens in self._amounts:
            cold_N, warm_N = self._after_steps(model, tasks, queries, n_tokens)
            losses["by gradient", n_tokens] = cold_N
            losses["by gradient, then in context", n_tokens + self._contexts[-1]] = warm_N
        return LanguageCurves(
            losses_nats_N=losses,
            floor_nats_N=np.array([batch.floor_nats[:, -JUDGED_TOKENS:].mean() for batch in queries], np.float64),
            uniform_nats=math.log(self.family.n_tokens - 1),
        )

    @property
    def _contexts(self) -> list[int]:
        most = self.length - JUDGED_TOKENS
        return [0, *(2**power for power in range(most.bit_length()) if 2**power < most), most]

    @property
    def _amounts(self) -> list[int]:
        return [n for n in self.by_gradient if n <= self.length or n % self.length == 0]

    def _tasks(self, seed: int) -> LanguageEpisodes:
        n_support = max(1, max(self._amounts, default=0) // self.length)
        return LanguageEpisodes(self.family, n_support=n_support, n_query=self.n_rows, length=self.length, seed=seed)

    def _after_steps(
        self, model: Decoder, tasks: LanguageEpisodes, queries: Sequence[Batch], n_tokens: int
    ) -> tuple[Floats, Floats]:
        """Return each language's loss after gradient steps on some tokens: with nothing read, and with all of it."""
        rate, n_steps = self._chosen(model, tasks, n_tokens)
        learner, cold, warm = _learner(model, rate), [], []
        for index, batch in enumerate(queries):
            episode = _episode(tasks, index, "test", n_tokens).to(_device(model))
            [adapted] = learner.adapt(model, episode, generator(tasks.seed, "adapting", index), (n_steps,))
            cold.append(_judged(model, batch, 0, adapted.weights))
            warm.append(_judged(model, batch, self._contexts[-1], adapted.weights))
        return np.array(cold), np.array(warm)

    def _chosen(self, model: Decoder, tasks: LanguageEpisodes, n_tokens: int) -> tuple[float, int]:
        """Return rate and number of steps that lose least on languages of the validation split."""
        losses: dict[tuple[float, int], list[float]] = {}
        for rate in RATES:
            learner = _learner(model, rate)
            for index in range(self.n_tuning):
                episode = _episode(tasks, index, "validation", n_tokens).to(_device(model))
                for adapted in learner.adapt(model, episode, generator(tasks.seed, "adapting", index), STEPS):
                    losses.setdefault((rate, adapted.n_steps), []).append(adapted.query_loss_nats)
        means = {choice: float(np.mean(measured)) for choice, measured in losses.items()}
        return min(means, key=lambda choice: means[choice] if math.isfinite(means[choice]) else math.inf)


def _learner(model: Decoder, rate: float) -> MetaLearner:
    config = AdaptationConfig(adapts="all", inner_lr=rate, inner_clip_norm=CLIP_NORM, order="first")
    return MetaLearner(config, None, model)


def _device(model: Decoder) -> torch.device:
    return next(model.parameters()).device


def _episode(tasks: LanguageEpisodes, index: int, split: str, n_tokens: int) -> LanguageEpisode:
    """Return so many tokens of a language to learn from, and the last ones of other rows, without what is before."""
    support, query = tasks.support_rows(index, split), tasks.query_rows(index, split)
    n_rows, length = max(1, n_tokens // tasks.length), min(n_tokens, tasks.length)
    return LanguageEpisode(
        support=TokenBatch.from_arrays(support.inputs[:n_rows, :length], support.targets[:n_rows, :length]),
        query=TokenBatch.from_arrays(query.inputs[:, -JUDGED_TOKENS:], query.targets[:, -JUDGED_TOKENS:]),
        identity=f"{n_tokens} tokens of language {index} of seed {tasks.seed} of {tasks.family.name}, {split}",
    )


def _judged(model: Decoder, batch: Batch, n_read: int, weights: Weights | None = None) -> float:
    """Return the mean loss of the last tokens of a language's rows, after reading some before them."""
    first = batch.inputs.shape[1] - JUDGED_TOKENS - n_read
    rows = TokenBatch.from_arrays(batch.inputs[:, first:], batch.targets[:, first:]).to(_device(model))
    with torch.no_grad():
        logits_BTV = functional_call(model, weights or {}, (rows.inputs_BT,))[:, -JUDGED_TOKENS:]
        losses = F.cross_entropy(logits_BTV.flatten(0, 1).float(), rows.targets_BT[:, -JUDGED_TOKENS:].flatten())
    return float(losses)
