"""Rows of tokens, each coloured by what it cost the model above the floor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from xenoglot.report.reading import RunRecord, number

__all__ = ["Sample", "Token", "coloured_samples"]

SHADES = 8
"""Of the colour: 0 is none, and the last is what guessing costs, or more."""
MOST_TOKENS = 384
"""Of a longer row, so many are shown: the first half of them from its beginning, the rest from its end."""


class Token(NamedTuple):
    """One token of a sample.

    Attributes:
        text: How it is written.
        shade: From 0, no excess, to `SHADES`.
        hint: Its loss, and what else is known, in words.
        is_disturbed: Whether something else was read in its place.
    """

    text: str
    shade: int
    hint: str
    is_disturbed: bool


class Sample(NamedTuple):
    """Rows of one kind.

    Attributes:
        of: What they are of.
        has_floor: Whether colours are of the excess; else of the loss.
        is_noisy: Whether something else was read somewhere in a token's place.
        is_spaced: Whether tokens need a space between them, as numbers do.
        rows: Each row's name and its tokens from the beginning and from the end, and how many are left out between.
    """

    of: str
    has_floor: bool
    is_noisy: bool
    is_spaced: bool
    rows: list[tuple[str, list[Token], int, list[Token]]]


def coloured_samples(record: RunRecord) -> list[Sample]:
    """Return a run's samples as they are shown; what is not as it should be is left out."""
    samples = []
    for sample in record.samples:
        rows = [row for row in sample["rows"] if isinstance(row, dict)]
        full_nats = number(sample.get("uniform_nats")) or 1.0
        coloured = [(str(row.get("name", "")), list(_tokens(row, full_nats))) for row in rows]
        tokens = [token for _, of_row in coloured for token in of_row]
        samples.append(
            Sample(
                of=str(sample.get("of", "")),
                has_floor=any("floor_nats" in row for row in rows),
                is_noisy=any(token.is_disturbed for token in tokens),
                is_spaced=any(token.text.isdigit() and len(token.text) > 1 for token in tokens),
                rows=[(name, *_ends(of_row)) for name, of_row in coloured],
            )
        )
    return samples


def _ends(tokens: list[Token]) -> tuple[list[Token], int, list[Token]]:
    half = MOST_TOKENS // 2
    if len(tokens) <= MOST_TOKENS:
        return tokens, 0, []
    return tokens[:half], len(tokens) - 2 * half, tokens[-half:]


def _tokens(row: Mapping[str, Any], full_nats: float) -> Iterator[Token]:
    targets, losses = _listed(row.get("targets")), _listed(row.get("loss_nats"))
    read, floors = _listed(row.get("read")), _listed(row.get("floor_nats"))
    for place, (target, given) in enumerate(zip(targets, losses, strict=False)):
        loss = number(given)
        if loss is None:
            continue
        floor = number(floors[place]) if place < len(floors) else None
        seen = str(read[place]) if place < len(read) else str(target)
        hint = f"{place + 2}. {str(target).strip() or repr(target)}: loss {loss:.2f}"
        hint += "" if floor is None else f", floor {floor:.2f}, excess {loss - floor:.2f}"
        hint += "" if seen == target else f"; read as {seen}"
        yield Token(
            text=str(target).replace("\n", "↵\n"),  # an end of line alone would be coloured, yet not be seen
            shade=_shade(loss - (floor or 0.0), full_nats),
            hint=hint,
            is_disturbed=seen != target,
        )


def _shade(nats: float, full_nats: float) -> int:
    """Grow with the square root: the eye should tell a tenth of a nat from none."""
    return min(SHADES, round(SHADES * math.sqrt(max(0.0, nats) / full_nats)))


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []
