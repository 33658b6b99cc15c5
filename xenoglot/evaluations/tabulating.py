"""Rows of results as tables of text: one for each kind of slice, an interval beside its mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from xenoglot.evaluations.base import Row

__all__ = ["Tabulated", "tabulated"]

COUNT = "n_"
"""What the names of counts begin with."""


@dataclass(frozen=True, kw_only=True)
class Tabulated:
    """Rows with the same slices.

    Attributes:
        slices: The slices' names.
        metrics: The metrics' names, without the ends of intervals, and whether any row has an interval of it.
        lines: For each row what its slices are, then its metrics.
        rows: What they were made of.
    """

    slices: tuple[str, ...]
    metrics: Mapping[str, bool]
    lines: Sequence[Sequence[str]]
    rows: Sequence[Row]


def tabulated(rows: Iterable[Row]) -> Iterator[Tabulated]:
    """Yield a table for each kind of slice, in the order in which they come.

    Example:
        >>> [table] = tabulated([Row(slices={"part": "whole"}, metrics={"loss_nats": 2.0, "loss_nats_low": 1.9,
        ...                                                             "loss_nats_high": 2.1, "n_tokens": 9000})])
        >>> table.slices, table.metrics, table.lines
        (('part',), {'loss_nats': True, 'n_tokens': False}, [['whole', '2.000 ± 0.100', '9,000']])
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.slices), []).append(row)
    for slices, group in groups.items():
        names = dict.fromkeys(name for row in group for name in row.metrics if not _is_an_end(name, row.metrics))
        yield Tabulated(
            slices=slices,
            metrics={name: any(f"{name}_high" in row.metrics for row in group) for name in names},
            lines=[
                [*(str(row.slices[name]) for name in slices), *(_cell(name, row.metrics) for name in names)]
                for row in group
            ],
            rows=group,
        )


def _is_an_end(name: str, metrics: Mapping[str, float]) -> bool:
    """Return whether a metric is the end of another one's interval."""
    return any(name.endswith(end) and name.removesuffix(end) in metrics for end in ("_low", "_high"))


def _cell(name: str, metrics: Mapping[str, float]) -> str:
    value = metrics.get(name, math.nan)
    if math.isnan(value):
        return "–"
    if name.startswith(COUNT):
        return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
    low, high = metrics.get(f"{name}_low", math.nan), metrics.get(f"{name}_high", math.nan)
    if math.isnan(low) or math.isnan(high):
        return f"{value:,.3f}"
    is_symmetric = math.isclose(high - value, value - low, rel_tol=1e-6, abs_tol=1e-12)
    return f"{value:,.3f} ± {high - value:,.3f}" if is_symmetric else f"{value:,.3f} ({low:,.3f} to {high:,.3f})"
