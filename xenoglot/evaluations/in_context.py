"""Learning in context: how the loss falls as a model reads on, against the best possible predictor.

Two yardsticks stand beside the model. The floor is the loss of one who knows the language. The reference predictors
are the best learners who do not: what a model loses above them is what it failed to learn, and what they lose above
the floor is what not knowing the language costs anybody.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from torch import nn

from xenoglot import predictors
from xenoglot.evaluations.base import Evaluation, Row
from xenoglot.evaluations.by_position import learning_row, rows_by_position
from xenoglot.evaluations.measuring import losses_nats
from xenoglot.languages.base import MASK, Batch, Family, Floats, Tokens
from xenoglot.options import option
from xenoglot.rng import MAX_SEED

__all__ = ["FreshLanguages", "HeldOut", "HeldOutText"]

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, kw_only=True)
class FreshLanguages(Evaluation):
    """Loss by position on languages drawn for this evaluation, beside the floor of each.

    Args:
        family: Whose languages.
        length: Tokens of a row.
    """

    name: ClassVar[str] = "fresh-languages"
    aliases: ClassVar[tuple[str, ...]] = ("in-context",)

    family: Family
    length: int
    n_languages: int = option(256, "fresh languages, one row each", unit="languages", minimum=2)
    epsilon_nats: float = option(
        0.1,
        "how near to the floor counts as having learned a language",
        unit="nats a token",
        minimum=0,
        exclusive_minimum=True,
    )

    def __call__(self, model: nn.Module, rng: np.random.Generator) -> list[Row]:
        """Return loss, floor, and excess = loss - floor for every position and part, then how fast it was learned."""
        batch = self._draw(rng, self.n_languages)
        losses = losses_nats(model, batch.inputs, batch.targets, self.family.n_tokens)
        return self._rows(losses, batch, rng, {})

    def references(self, rng: np.random.Generator) -> list[Row]:
        """Return the same for the predictors that suit the family, with slices "predictor" and "exactness"."""
        batch = self._draw(rng, self.n_languages)
        rows: list[Row] = []
        for predictor in predictors.references(self.family):
            slices: dict[str, str | int] = {"predictor": predictor.name, "exactness": predictor.exactness}
            losses = predictor.nats(batch.inputs, batch.targets).astype(np.float64)
            rows += self._rows(losses, batch, rng, slices)
        return rows

    def samples(self, model: nn.Module, rng: np.random.Generator, n_rows: int) -> dict[str, Any]:
        """Return fresh languages token by token: what was to be predicted, what was read next, loss and floor."""
        batch = self._draw(rng, n_rows)
        losses = losses_nats(model, batch.inputs, batch.targets, self.family.n_tokens)
        spellings = _spellings(self.family)
        rows = [
            {
                "name": f"language {row + 1}",
                "targets": [spellings[token] for token in batch.targets[row, :-1]],
                "read": [spellings[token] for token in batch.inputs[row, 1:]],
                "loss_nats": [round(float(nats), 4) for nats in losses[row, :-1]],
                "floor_nats": [round(float(nats), 4) for nats in batch.floor_nats[row, :-1]],
            }
            for row in range(n_rows)
        ]
        return {"of": self.family.name, "uniform_nats": self._uniform_nats, "rows": rows}

    def _draw(self, rng: np.random.Generator, n_languages: int) -> Batch:
        seed = int(rng.integers(MAX_SEED, endpoint=True))
        return self.family.batch(n_languages, self.length, seed, floor=True)

    @property
    def _uniform_nats(self) -> float:
        return math.log(self.family.n_tokens - 1)  # MASK is never a target

    def _rows(
        self, losses_NT: Floats, batch: Batch, rng: np.random.Generator, slices: dict[str, str | int]
    ) -> list[Row]:
        floor_NT = batch.floor_nats.astype(np.float64)
        nats = {"loss_nats": losses_NT, "floor_nats": floor_NT, "excess_nats": losses_NT - floor_NT}
        rows = rows_by_position(nats, {"uniform_nats": self._uniform_nats}, slices)
        return [*rows, learning_row(losses_NT, nats["excess_nats"], self.epsilon_nats, rng, slices)]


class HeldOut(Protocol):
    """A text whose held-out part can be measured."""

    @property
    def length(self) -> int:
        """Tokens of a row, T."""

    @property
    def n_tokens(self) -> int:
        """How many ids there are, V."""

    def held_out_windows(self) -> Iterator[tuple[Tokens, Tokens]]:
        """Cut the held-out part into inputs and targets [N, T], then the shorter rest [1, R] if there is one."""

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that an id stands for; none for those that stand for no text."""


@dataclass(frozen=True, kw_only=True)
class HeldOutText(Evaluation):
    """Loss by position on the whole held-out part of a text, in rows as long as those of training."""

    name: ClassVar[str] = "held-out-text"

    text: HeldOut

    def __call__(self, model: nn.Module, rng: np.random.Generator) -> list[Row]:
        """Return the loss for every position and part, in nats a token, and for the whole in bits a byte too."""
        windows = list(self.text.held_out_windows())
        losses = np.full((sum(len(inputs) for inputs, _ in windows), self.text.length), np.nan)
        first = 0
        for inputs, targets in windows:
            measured = losses_nats(model, inputs, targets, self.text.n_tokens)
            losses[first : first + len(inputs), : inputs.shape[1]] = measured
            first += len(inputs)
        rows = rows_by_position({"loss_nats": losses}, {"uniform_nats": self._uniform_nats})
        whole = rows[-1].metrics
        bits_in_nats = self._tokens_per_byte([targets for _, targets in windows]) / math.log(2)
        bits = {f"bits_per_byte{end}": whole[f"loss_nats{end}"] * bits_in_nats for end in ("", "_low", "_high")}
        rows[-1] = Row(slices=rows[-1].slices, metrics={**whole, **bits})
        return [*rows, learning_row(losses, None, math.nan, rng)]

    def samples(self, model: nn.Module, rng: np.random.Generator, n_rows: int) -> dict[str, Any]:
        """Return rows of the held-out part token by token: the text and the loss."""
        inputs, targets = next(iter(self.text.held_out_windows()))
        chosen = np.sort(rng.choice(len(inputs), size=min(n_rows, len(inputs)), replace=False))
        losses = losses_nats(model, inputs[chosen], targets[chosen], self.text.n_tokens)
        rows = [
            {
                "name": f"held-out row {row + 1}",
                "targets": self._pieces(targets[row]),
                "loss_nats": [round(float(nats), 4) for nats in nats_T],
            }
            for row, nats_T in zip(chosen.tolist(), losses, strict=True)
        ]
        return {"of": "what was held out", "uniform_nats": self._uniform_nats, "rows": rows}

    @property
    def _uniform_nats(self) -> float:
        return math.log(self.text.n_tokens - 1)

    def _tokens_per_byte(self, targets: list[Tokens]) -> float:
        counts_V = np.sum([np.bincount(part.ravel(), minlength=self.text.n_tokens) for part in targets], axis=0)
        n_bytes = sum(
            int(counts_V[token]) * len(self.text.token_bytes(token)) for token in counts_V.nonzero()[0].tolist()
        )
        return int(counts_V.sum()) / n_bytes if n_bytes else math.nan

    def _pieces(self, tokens: Tokens) -> list[str]:
        """Return each token as text, or its number; a character of several tokens is written at the last of them."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        pieces = [self.text.token_bytes(token) for token in tokens.tolist()]
        if not any(pieces):
            return [str(token) for token in tokens.tolist()]  # ids that stand for no text
        return [decoder.decode(piece) if piece else f"<{token}>" for piece, token in zip(pieces, tokens, strict=True)]


def _spellings(family: Family) -> list[str]:
    """Return how each id is written: letters if they are enough, else numbers."""
    separator = getattr(family, "separator_id", None)
    n_words = family.n_tokens - (1 if separator is None else 2)
    words = list(LETTERS[:n_words]) if n_words <= len(LETTERS) else [str(word + 1) for word in range(n_words)]
    spellings = ["_", *words]
    if separator is not None:
        spellings.insert(separator, "|")
    assert spellings[MASK] == "_"
    return spellings
