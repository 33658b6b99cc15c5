"""What formed inside each model, if it was looked at: when heads began to copy, and how layers changed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xenoglot.analysis.heads import INDUCTION, PREVIOUS, matched
from xenoglot.analysis.tables import Formation, curve, formation, grids, head_curves
from xenoglot.report.charts import Curve, Point, draw
from xenoglot.report.curves import ChartGroup, colour_of_run
from xenoglot.report.heat_maps import HeatMap, heat_map
from xenoglot.report.reading import RunRecord

__all__ = ["AnalysisSection", "analysis_charts", "analysis_sections", "formation_in_words"]

SCORES = [
    (INDUCTION, "Strongest induction head, random tokens read twice"),
    (matched(1), "Strongest induction head, new languages, one token matched"),
    (matched(2), "Strongest induction head, new languages, two tokens matched"),
    (PREVIOUS, "Strongest previous-token head"),
]
FEWEST_FOR_RANKS = 5
"""Checkpoints; two always correlate fully, and of five by chance one in sixty."""


@dataclass(frozen=True, kw_only=True)
class AnalysisSection:
    """What was found about one run.

    Attributes:
        name: The run's.
        sentences: When the strongest head formed.
        heat_maps: Scores and measures over layers and steps.
    """

    name: str
    sentences: Sequence[str]
    heat_maps: Sequence[HeatMap]


def formation_in_words(formed: Formation) -> str:
    """Say when a head formed, and what the loss did meanwhile."""
    before, after = formed.steps
    when = f"between steps {before:,} and {after:,}" if before != after else f"at step {after:,} already"
    words = (
        f"The strongest induction head is head {formed.head} of block {formed.layer}, which ends at a score of "
        f"{formed.score:.2f} on random tokens read twice. It passes half of its greatest score {when}"
    )
    if before != after and all(math.isfinite(loss) for loss in formed.losses):
        words += f", where the loss goes from {formed.losses[0]:.2f} to {formed.losses[1]:.2f} nats"
    if math.isfinite(formed.correlation) and formed.n_steps >= FEWEST_FOR_RANKS:
        words += (
            f"; over all {formed.n_steps} checkpoints score and loss have a rank correlation of "
            f"{formed.correlation:.2f}".replace("-", "−")
        )
    return f"{words}."


def analysis_charts(records: Sequence[RunRecord]) -> ChartGroup | None:
    """Return the loss and the strongest heads' scores over training; None if no run was looked into."""
    analysed = [(index, record) for index, record in enumerate(records) if record.findings]
    charts = [
        draw(
            [_of_run(index, record, _excess(record)) for index, record in analysed],
            title="Excess over the floor, brand-new languages, nats",
            x_label="training steps",
            x_scale="log2",
        )
    ]
    for score, title in SCORES:
        curves = [_of_run(index, record, _strongest(record, score)) for index, record in analysed]
        charts.append(draw(curves, title=title, x_label="training steps", x_scale="log2", top=1.0))
    drawn = [(chart, chart) for chart in charts if chart is not None]
    lead = (
        "An induction head looks for where the newest tokens stood before, and attends to what came after them. Where "
        "its score rises, copying begins. The axis of steps is logarithmic."
    )
    return ChartGroup(heading="Heads that copy by looking back", lead=lead, charts=drawn) if drawn else None


def analysis_sections(records: Sequence[RunRecord]) -> Iterator[AnalysisSection]:
    """Yield what was found about each run that was looked into."""
    for record in records:
        if record.findings:
            formed = formation(record.findings)
            yield AnalysisSection(
                name=record.name,
                sentences=[] if formed is None else [formation_in_words(formed)],
                heat_maps=[heat_map(grid) for grid in grids(record.findings)],
            )


def _strongest(record: RunRecord, score: str) -> list[Point]:
    """Return the greatest score of any head at each step."""
    greatest: dict[int, float] = {}
    for heads in head_curves(record.findings, score).values():
        for step, value in zip(*heads, strict=True):
            if math.isfinite(value):
                greatest[step] = max(value, greatest.get(step, 0.0))
    return sorted((float(step), value) for step, value in greatest.items())


def _excess(record: RunRecord) -> list[Point]:
    steps, values = curve(record.findings, "excess_nats")
    points = zip(steps, values, strict=True)
    return [(float(step), nats) for step, nats in points if math.isfinite(nats)]


def _of_run(index: int, record: RunRecord, points: Sequence[Point]) -> Curve:
    return Curve(label=record.name, points=points, colour=colour_of_run(index))
