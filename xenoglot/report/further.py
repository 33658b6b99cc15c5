"""Results that no other part of the page is about, such as those of an evaluation of one's own: tables and curves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xenoglot.evaluations.base import Row
from xenoglot.evaluations.tabulating import COUNT, Tabulated, tabulated
from xenoglot.report.charts import Chart, Curve, Scale, draw
from xenoglot.report.curves import N_RUN_COLOURS, WIDE, ChartGroup, colour_of_run
from xenoglot.report.reading import Evaluated, RunRecord, number

__all__ = ["FurtherResults", "further_results"]

SHOWN_ELSEWHERE = {"tokens_read", "part", "summary", "domain", "domains", "adaptation_steps", "method", "control"}
"""Slices of a run's own evaluations that other parts of the page are about."""
LONGEST_TABLE = 60
FEWEST_POINTS = 4
MOST_CHARTS = 6
SPREAD = 64
"""Counts that differ by more than this factor are drawn on a logarithmic axis, where there is no zero."""


@dataclass(frozen=True, kw_only=True)
class FurtherResults:
    """What came of one evaluation.

    Attributes:
        heading: Which one, and of what.
        tables: Of what is not too long.
        charts: Metrics over a slice that counts something; None if there is no such slice.
        notes: What is not in a table, in sentences.
    """

    heading: str
    tables: Sequence[Tabulated]
    charts: ChartGroup | None
    notes: Sequence[str]


def further_results(records: Sequence[RunRecord]) -> Iterator[FurtherResults]:
    """Yield what each run's folder holds besides what every page shows."""
    for record in records:
        of_run = f"{record.name}: " if len(records) > 1 else ""
        own = [row for row in record.final.rows if not row["slices"].keys() <= SHOWN_ELSEWHERE]
        if own:
            yield _shown(f"{of_run}further results, step {max(record.evaluations):,}", Evaluated(rows=own))
        for name, evaluated in record.further.items():
            yield _shown(f"{of_run}{name}", evaluated)


def _shown(heading: str, evaluated: Evaluated) -> FurtherResults:
    tables = list(tabulated(Row(slices=row["slices"], metrics=_numbers(row["metrics"])) for row in evaluated.rows))
    charts = [chart for table in tables for chart in _charts(table)][:MOST_CHARTS]
    lead = "Metrics over what is counted. Band: the interval that the evaluation gave."
    return FurtherResults(
        heading=heading,
        tables=[table for table in tables if len(table.rows) <= LONGEST_TABLE],
        charts=ChartGroup(heading=f"{heading}, drawn", lead=lead, charts=charts, has_legend=True) if charts else None,
        notes=[
            f"{len(table.rows):,} rows by {' and '.join(table.slices)} are in the file."
            for table in tables
            if len(table.rows) > LONGEST_TABLE
        ],
    )


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return all metrics as numbers, nan where there is none: the ends of an interval may be there without its mean."""
    numbers = {name: number(given) for name, given in metrics.items()}
    return {name: math.nan if value is None else value for name, value in numbers.items()}


def _charts(table: Tabulated) -> Iterator[tuple[Chart, Chart]]:
    """Draw each metric over the one slice that is a number, a curve for each value of the others."""
    counted = [name for name in table.slices if all(isinstance(row.slices[name], int) for row in table.rows)]
    if len(counted) != 1:
        return
    [along] = counted
    curves: dict[str, list[Row]] = {}
    for row in table.rows:
        others = " ".join(str(value) for name, value in row.slices.items() if name != along)
        curves.setdefault(others, []).append(row)
    if len(curves) > N_RUN_COLOURS or max(map(len, curves.values())) < FEWEST_POINTS:
        return
    places = [int(row.slices[along]) for row in table.rows]
    x_scale: Scale = "log2" if max(places) >= SPREAD * max(1, min(places)) and min(places) >= 0 else "linear"
    for metric in table.metrics:
        values = {value for row in table.rows if math.isfinite(value := row.metrics.get(metric, math.nan))}
        if len(values) > 1 and not metric.startswith(COUNT):
            lines = [_curve(rows, along, metric, label, index) for index, (label, rows) in enumerate(curves.items())]
            if chart := draw(lines, title=metric, x_label=along, x_scale=x_scale, size=WIDE):
                yield chart, chart


def _curve(rows: Sequence[Row], along: str, metric: str, label: str, index: int) -> Curve:
    finite = [(row, {name: value for name, value in row.metrics.items() if math.isfinite(value)}) for row in rows]
    known = [(int(row.slices[along]), metrics) for row, metrics in finite if metric in metrics]
    known.sort(key=lambda each: each[0])
    ends = (f"{metric}_low", f"{metric}_high")
    return Curve(
        label=label or metric,
        points=[(x, metrics[metric]) for x, metrics in known],
        band=[(x, metrics[ends[0]], metrics[ends[1]]) for x, metrics in known if metrics.keys() >= set(ends)],
        colour=colour_of_run(index),
    )
