"""Numbers over layers and steps as coloured cells, in the coordinates of a drawing.

As with `xenoglot.report.charts`, the template writes them down and escapes every word. Colours are shades of one CSS
variable, from none to all of it, so that the page decides on light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xenoglot.analysis.tables import Grid
from xenoglot.report.charts import short

__all__ = ["HeatMap", "heat_map"]

WIDTH, ROW_HEIGHT, TOP, BOTTOM, RIGHT = 520, 18, 6, 34, 8
LETTER = 6.4
"""Width of a letter of a row's name, about."""
MOST_LABELS = 8
TURNED_FROM = 5
"""Columns with longer names are numbered instead: below each other they would overlap."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number.

    Attributes:
        x: Left end.
        width: To the right.
        share: Its colour, from 0 to 1; None where there is no number.
        hint: What it is, in words.
    """

    x: float
    width: float
    share: float | None
    hint: str


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """A drawing, ready to be written down; lengths are in its own units.

    Attributes:
        title: What the numbers are.
        x_label: What the columns are.
        width: Of the whole.
        height: Of the whole.
        left: Where the cells begin.
        rows: The middle of each row, its name and its cells.
        row_height: Of a cell.
        x_ticks: Where and what.
        low: What no colour stands for.
        high: What the full colour stands for.
        is_logarithmic: Whether shades between them are of the logarithm.
        has_gaps: Whether some cells have no number.
    """

    title: str
    x_label: str
    width: int
    height: int
    left: float
    rows: Sequence[tuple[float, str, Sequence[Cell]]]
    row_height: int
    x_ticks: Sequence[tuple[float, str]]
    low: str
    high: str
    is_logarithmic: bool
    has_gaps: bool


def heat_map(grid: Grid) -> HeatMap:
    """Lay out a grid.

    Args:
        grid: At least one row and one column.
    """
    n_rows, n_columns = grid.values.shape
    left = 12 + LETTER * max(len(row) for row in grid.rows)
    cell_width = (WIDTH - left - RIGHT) / n_columns
    rows = []
    for row, name in enumerate(grid.rows):
        cells = [
            Cell(
                x=round(left + column * cell_width, 2),
                width=round(cell_width + 0.2, 2),  # or the paper shows between them
                share=None if (share := grid.share(float(grid.values[row, column]))) is None else round(share, 3),
                hint=f"{name}; {grid.columns[column]}: {_spelled(float(grid.values[row, column]))}",
            )
            for column in range(n_columns)
        ]
        rows.append((TOP + (row + 0.5) * ROW_HEIGHT, name, cells))
    return HeatMap(
        title=grid.title,
        x_label=grid.column_label if grid.column_label != "layers" else "layers, in the order of the rows",
        width=WIDTH,
        height=TOP + n_rows * ROW_HEIGHT + BOTTOM,
        left=left,
        rows=rows,
        row_height=ROW_HEIGHT,
        x_ticks=_ticks(grid, left, cell_width),
        low=short(grid.low),
        high=short(grid.high),
        is_logarithmic=grid.is_logarithmic,
        has_gaps=not np.isfinite(grid.values).all(),
    )


def _spelled(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "no number"


def _ticks(grid: Grid, left: float, cell_width: float) -> list[tuple[float, str]]:
    n_columns = len(grid.columns)
    names = list(grid.columns)
    if max(len(name) for name in names) > TURNED_FROM + 1:
        names = [str(column + 1) for column in range(n_columns)]
    stride = max(1, math.ceil(n_columns / MOST_LABELS))
    return [(round(left + (column + 0.5) * cell_width, 1), names[column]) for column in range(0, n_columns, stride)]
