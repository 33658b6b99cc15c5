"""Rows of brand-new languages for each step of training, easier ones first where there is a curriculum."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from xenoglot.batches import WHOLE, Part, TokenBatch
from xenoglot.language_rows import LanguageRows
from xenoglot.languages.base import Family
from xenoglot.laws import best_learner, laws
from xenoglot.options import options_of
from xenoglot.predictors import Predictor
from xenoglot.rng import derive

__all__ = ["LanguageBatches", "Stage"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """An easier beginning: other languages, shorter rows, or another number of them until a step is reached.

    Attributes:
        until_step: The first step that no longer belongs to it.
        family: Whose languages are read; no more ids than the run's own family has.
        length: Tokens of a row.
        batch_size: Rows of a step; those of the run if None.
    """

    until_step: int
    family: Family
    length: int
    batch_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Languages:
    """What the steps of one stage, or of the rest of a run, have in common."""

    name: str
    family: Family
    batch_size: int
    length: int
    seed: int
    learner: Predictor | None


class LanguageBatches:
    """Brand-new languages: every row of every step is of one that never comes again, unless there is only a pool.

    Step s holds the seed's rows s B, s B + 1, ..., s B + B - 1. Stages, in the order of their ends, have seeds of their
    own, and so pools of their own.

    Args:
        family: Whose languages are read.
        batch_size: Rows of a step, B.
        length: Tokens of a row, T.
        seed: 0 to 2^63 - 1.
        stages: What comes first.
        n_languages: How many languages there are, each seen again and again; without end if None.
        learns_laws: Whether rows come with what the best learner expects (`xenoglot.laws`).

    Raises:
        OptionError: If there is no best learner of the languages whose laws are wanted.

    Example:
        >>> from xenoglot.languages import MetaLMv1
        >>> batches = LanguageBatches(family=MetaLMv1(), batch_size=32, length=64, seed=17)
        >>> batches(10**9, Part(index=0, count=4)).inputs_BT.shape
        torch.Size([8, 64])
        >>> batches.identity(10)
        'rows 320 to 351 of seed 17 of metalm-v1'
    """

    def __init__(
        self,
        *,
        family: Family,
        batch_size: int,
        length: int,
        seed: int,
        stages: tuple[Stage, ...] = (),
        n_languages: int | None = None,
        learns_laws: bool = False,
    ) -> None:
        def learner_of(family: Family) -> Predictor | None:
            return best_learner(family, n_languages) if learns_laws else None

        self.n_tokens = family.n_tokens
        self._n_languages = n_languages
        self._stages = [
            (
                stage.until_step,
                _Languages(
                    name=f"{family.name}, stage {number + 1}",
                    family=stage.family,
                    batch_size=stage.batch_size or batch_size,
                    length=stage.length,
                    seed=derive(seed, "stage", number),
                    learner=learner_of(stage.family),
                ),
            )
            for number, stage in enumerate(stages)
        ]
        self._rest = _Languages(
            name=family.name,
            family=family,
            batch_size=batch_size,
            length=length,
            seed=seed,
            learner=learner_of(family),
        )

    def _at(self, step: int) -> _Languages:
        return next((languages for until_step, languages in self._stages if step < until_step), self._rest)

    def batch_size(self, step: int) -> int:
        """Return how many rows a step has, all parts together."""
        return self._at(step).batch_size

    def __call__(self, step: int, part: Part = WHOLE) -> TokenBatch:
        """Return the rows of a step, or a part of them."""
        languages = self._at(step)
        rows = part.rows_of(languages.batch_size)
        first = step * languages.batch_size + rows.start
        batch = languages.family.batch(
            len(rows), languages.length, languages.seed, start=first, n_languages=self._n_languages
        )
        expected = None if languages.learner is None else laws(languages.learner, batch.inputs)
        return TokenBatch.from_arrays(batch.inputs, batch.targets, expected)

    def languages(self, step: int) -> LanguageRows:
        """Return which rows of which languages a step reads, all parts together."""
        languages = self._at(step)
        return LanguageRows(
            family=languages.family,
            seed=languages.seed,
            first=step * languages.batch_size,
            n_rows=languages.batch_size,
            length=languages.length,
            n_languages=self._n_languages,
        )

    def identity(self, step: int) -> str:
        """Return which rows of which seed a step reads: enough to make them again."""
        languages = self._at(step)
        first = step * languages.batch_size
        pool = "" if self._n_languages is None else f", {self._n_languages} languages"
        return f"rows {first} to {first + languages.batch_size - 1} of seed {languages.seed} of {languages.name}{pool}"

    def fingerprint(self) -> dict[str, Any]:
        """Return the options of every stage, and a digest of a row: a changed sampler is changed data."""
        stages = [{"until_step": until_step, **_described(languages)} for until_step, languages in self._stages]
        return {
            "kind": "languages",
            **_described(self._rest),
            "n_languages": self._n_languages,
            "stages": stages,
        }


def _described(languages: _Languages) -> dict[str, Any]:
    batch = languages.family.batch(1, languages.length, languages.seed)
    row = batch.inputs.tobytes() + batch.targets.tobytes()
    return {
        "family": languages.family.name,
        "options": {known.name: getattr(languages.family, known.name) for known in options_of(languages.family)},
        "batch_size": languages.batch_size,
        "length": languages.length,
        "seed": languages.seed,
        "first_row_sha256": hashlib.sha256(row).hexdigest(),
        **({} if languages.learner is None else {"laws": languages.learner.name}),
    }
