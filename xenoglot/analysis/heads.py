"""Heads over training: induction, previous-token and copy scores, beside the loss on the same rows.

Three kinds of rows are drawn once, the same for every checkpoint and for every run with the same family and length:

- random tokens, read twice: what a head does by itself, whatever it was trained on;
- brand-new languages of the run's own family, with the loss and the floor of every token;
- the same, shuffled within each row: the null, where no order is left to find.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from xenoglot.analysis.config import InductionConfig
from xenoglot.analysis.results import Finding
from xenoglot.decoder import Decoder
from xenoglot.evaluations.measuring import losses_nats
from xenoglot.languages import Family
from xenoglot.languages.base import Batch, Floats, Tokens
from xenoglot.mechanisms.attention import attention_patterns
from xenoglot.mechanisms.induction import (
    Mask,
    copy_scores,
    matched_sources,
    previous_sources,
    repeated_sources,
    repeated_tokens,
    source_scores,
    uniform_score,
)
from xenoglot.rng import derive, generator

__all__ = ["COPY", "INDUCTION", "PREVIOUS", "Heads", "matched", "uniform"]

INDUCTION, PREVIOUS, COPY = "induction_random", "previous_token_random", "copy"
LONGEST = 512
NUMBERS_AT_ONCE = 2**25
"""Of attention, all layers together: 128 MiB."""


def matched(n_matched: int, *, is_shuffled: bool = False) -> str:
    """Return what the score is called on languages, or on shuffled ones.

    Example:
        >>> matched(2), matched(2, is_shuffled=True)
        ('induction_languages_2', 'induction_shuffled_2')
    """
    return f"induction_{'shuffled' if is_shuffled else 'languages'}_{n_matched}"


def uniform(score: str) -> str:
    """Return what the score of uniform attention is called, which is the same at every step."""
    return f"{score}_uniform"


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Rows to read, and what is scored on them."""

    inputs_BT: Tokens
    sources: Mapping[str, Mask]


class Heads:
    """Scores of the heads of models with the same ids and length.

    Args:
        config: On how much.
        model: Whose sizes and ids.
        family: Whose languages the run learned; None for a text, where random tokens are all that is read.
    """

    def __init__(self, config: InductionConfig, model: Decoder, family: Family | None) -> None:
        longest = model.config.max_seq_len
        self._length = min(config.length or min(longest, LONGEST), longest)
        self._batch = None if family is None else self._drawn(config, family)
        self._rows = list(self._all_rows(config, model, family))
        self._n_tokens = None if family is None else family.n_tokens

    def __call__(self, run: str, step: int, model: Decoder) -> Iterator[Finding]:
        """Yield every score of every head, and the losses.

        Args:
            run: The run's name.
            step: After how many updates.
            model: The model then.
        """
        scores = {name: scores_LH for rows in self._rows for name, scores_LH in _scores(model, rows).items()}
        for name, scores_LH in (scores | {COPY: copy_scores(model)}).items():
            for (layer, head), score in np.ndenumerate(scores_LH):
                yield Finding(run=run, step=step, metric=name, value=float(score), layer=str(layer), head=head)
        for name, nats in self._losses(model).items():
            yield Finding(run=run, step=step, metric=name, value=nats)

    def baselines(self, run: str, step: int) -> Iterator[Finding]:
        """Yield what uniform attention scores on the same rows."""
        for rows in self._rows:
            for name, sources_BTT in rows.sources.items():
                yield Finding(run=run, step=step, metric=uniform(name), value=uniform_score(sources_BTT))

    def _losses(self, model: Decoder) -> dict[str, float]:
        if self._batch is None or self._n_tokens is None:
            return {}
        loss_nats = float(losses_nats(model, self._batch.inputs, self._batch.targets, self._n_tokens).mean())
        floor_nats = float(self._batch.floor_nats.mean())
        return {"loss_nats": loss_nats, "floor_nats": floor_nats, "excess_nats": loss_nats - floor_nats}

    def _drawn(self, config: InductionConfig, family: Family) -> Batch:
        return family.batch(config.n_sequences, self._length, derive(0, "analysis", "languages"), floor=True)

    def _all_rows(self, config: InductionConfig, model: Decoder, family: Family | None) -> Iterator[_Rows]:
        n_rows, n_once = config.n_sequences, self._length // 2
        last_id = model.vocab_size - 1 if family is None else _n_words(family)
        random = repeated_tokens(n_rows, n_once, 1, last_id, generator(0, "analysis", "random-tokens"))
        of_random = {INDUCTION: repeated_sources(n_rows, n_once), PREVIOUS: previous_sources(n_rows, 2 * n_once)}
        yield _Rows(inputs_BT=random, sources=of_random)
        if self._batch is not None:
            read = self._batch.inputs
            shuffled = generator(0, "analysis", "shuffled").permuted(read, axis=1)
            for rows, is_shuffled in ((read, False), (shuffled, True)):
                sources = {
                    matched(n, is_shuffled=is_shuffled): matched_sources(rows, n_matched=n) for n in config.n_matched
                }
                yield _Rows(inputs_BT=rows, sources=sources)


def _n_words(family: Family) -> int:
    """Return the last ordinary id: MASK is 0, and a separator comes after all words."""
    separator: int | None = getattr(family, "separator_id", None)
    return family.n_tokens - (1 if separator is None else 2)


def _scores(model: Decoder, rows: _Rows) -> dict[str, Floats]:
    """Return the scores of all heads [L, H] by name, some rows at a time."""
    n_rows, length = rows.inputs_BT.shape
    sizes = model.config
    n_at_once = max(1, NUMBERS_AT_ONCE // (sizes.n_layers * sizes.attention_n_heads * length**2))
    totals = {name: np.zeros((sizes.n_layers, sizes.attention_n_heads)) for name in rows.sources}
    counts = dict.fromkeys(rows.sources, 0)
    for first in range(0, n_rows, n_at_once):
        part = slice(first, first + n_at_once)
        patterns = attention_patterns(model, torch.from_numpy(rows.inputs_BT[part]).long())
        for name, sources_BTT in rows.sources.items():
            n_sourced = int(sources_BTT[part].any(axis=2).sum())
            if n_sourced:
                scores_LH = np.stack([source_scores(layer, sources_BTT[part]) for layer in patterns])
                totals[name] += scores_LH * n_sourced
                counts[name] += n_sourced
    return {name: total / counts[name] if counts[name] else total * np.nan for name, total in totals.items()}
