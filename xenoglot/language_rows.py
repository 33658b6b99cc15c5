"""Which rows of which languages: enough to draw them again, with their floor, whenever that is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xenoglot.languages.base import Batch, Family
from xenoglot.options import options_of

__all__ = ["LanguageRows"]


@dataclass(frozen=True, kw_only=True)
class LanguageRows:
    """Rows that a family gives for a seed.

    Attributes:
        family: Whose languages.
        seed: 0 to 2^63 - 1.
        first: The first row's number among the seed's.
        n_rows: How many.
        length: Tokens of each.
        n_languages: How many languages there are in all; without end if None.

    Example:
        >>> from xenoglot.languages import MetaLMv1
        >>> rows = LanguageRows(family=MetaLMv1(vocab_size=8), seed=7, first=32, n_rows=2, length=16)
        >>> rows.batch().floor_nats.shape, rows.facts()["first"]
        ((2, 16), 32)
    """

    family: Family
    seed: int
    first: int
    n_rows: int
    length: int
    n_languages: int | None = None

    def batch(self) -> Batch:
        """Draw the rows, with the loss of one who knows each row's language."""
        return self.family.batch(
            self.n_rows, self.length, self.seed, start=self.first, floor=True, n_languages=self.n_languages
        )

    def facts(self) -> dict[str, Any]:
        """Return what the rows are a function of, as plain JSON values."""
        return {
            "family": self.family.name,
            "options": {known.name: getattr(self.family, known.name) for known in options_of(self.family)},
            "seed": self.seed,
            "first": self.first,
            "n_rows": self.n_rows,
            "length": self.length,
            "n_languages": self.n_languages,
        }
