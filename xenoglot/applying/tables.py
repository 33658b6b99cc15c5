"""Rows of results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from xenoglot.evaluations.base import Row
from xenoglot.evaluations.tabulating import Tabulated, tabulated

__all__ = ["print_tables"]

LONGEST = 40
"""Tables of more lines, such as those by position, are for files and pictures."""
WIDEST = 1000


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
    for number, given in enumerate(tabulated(rows)):
        if number:
            console.print()
        if len(given.rows) > LONGEST:
            console.print(f"{len(given.rows):,} rows by {' and '.join(given.slices)}: in the file")
        else:
            for line in _lines(_table(given), console):
                console.print(line, markup=False)


def _table(given: Tabulated) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in given.slices:
        table.add_column(name)
    for name, has_interval in given.metrics.items():
        table.add_column(name, justify="left" if has_interval else "right")
    for line in given.lines:
        table.add_row(*map(Text, line))
    return table


def _lines(table: Table, console: Console) -> Iterator[str]:
    """Yield a table's lines without the blanks that fill them."""
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        yield line.rstrip()
