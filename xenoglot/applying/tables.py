"""Rows of results as tables for a terminal: one for each kind of slice, an interval beside its mean."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from xenoglot.evaluations.base import Row

__all__ = ["print_tables"]

LONGEST = 40
"""Tables of more lines, such as those by position, are for files and pictures."""
WIDEST = 1000
COUNT = "n_"
"""What the names of counts begin with."""
Slices = tuple[str, ...]


def print_tables(rows: Sequence[Row], console: Console | None = None) -> None:
    """Print a table for each kind of slice, and a line instead where it would be long.

    Args:
        rows: Of one evaluation.
        console: Where to; the standard output if None.

    Example:
        >>> print_tables([Row(slices={"part": "whole"}, metrics={"loss_nats": 2.0, "loss_nats_low": 1.9,
        ...                                                      "loss_nats_high": 2.1, "n_tokens": 9000})])
        part   loss_nats      n_tokens
        whole  2.000 ± 0.100     9,000
    """
    console = console or Console(highlight=False)
    console.width = max(console.width, WIDEST)  # cut-off numbers are worse than long lines
    groups: dict[Slices, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.slices), []).append(row)
    for number, (slices, group) in enumerate(groups.items()):
        if number:
            console.print()
        if len(group) > LONGEST:
            console.print(f"{len(group):,} rows by {' and '.join(slices)}: in the file")
        else:
            for line in _lines(_table(slices, group), console):
                console.print(line, markup=False)


def _table(slices: Slices, rows: Sequence[Row]) -> Table:
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics if not _is_an_end(name, row.metrics)))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in slices:
        table.add_column(name)
    for name in metrics:
        table.add_column(name, justify="left" if any(f"{name}_high" in row.metrics for row in rows) else "right")
    for row in rows:
        cells = (_cell(name, row.metrics) for name in metrics)
        table.add_row(*(Text(str(row.slices[name])) for name in slices), *cells)
    return table


def _lines(table: Table, console: Console) -> Iterator[str]:
    """Yield a table's lines without the blanks that fill them."""
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        yield line.rstrip()


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
