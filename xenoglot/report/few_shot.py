"""Charts of learning by gradient: accuracy and loss on held-out tasks, by steps on a task and over training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from xenoglot.report.charts import Curve, draw
from xenoglot.report.curves import ChartGroup, colour_of_run
from xenoglot.report.reading import Evaluated, RunRecord

__all__ = ["few_shot_charts"]

SUMMARY = "few-shot learning"


def few_shot_charts(records: Sequence[RunRecord]) -> ChartGroup | None:
    """Return how well each run's newest model solves held-out tasks after more and more steps; None if not asked."""
    chances = {metrics["chance_accuracy"] for record in records for _, metrics in _points(record.final)}
    if len(chances) != 1:
        return None  # nobody was measured, or on tasks that cannot be compared
    [chance] = chances
    wanted = [
        ("accuracy", "Accuracy on held-out tasks", chance),
        ("loss_nats", "Loss on held-out tasks, nats", -math.log(chance)),
    ]
    charts = [
        draw(
            [*_chance(records, value), *_by_steps(records, name)],
            title=title,
            x_label="gradient steps on a task's support set",
            note="Dashed: chance. Band: 95 % interval over tasks.",
        )
        for name, title, value in wanted
    ]
    charts.append(
        draw(
            list(_over_training(records)),
            title="Accuracy on held-out tasks after as many steps as in training",
            x_label="training steps",
            x_span=(0.0, float(max(record.last_step for record in records))),
        )
    )
    drawn = [(chart, chart) for chart in charts if chart is not None]
    lead = "Each task names other words, none of which occurs in a task of training: what is learned is to adapt."
    return ChartGroup(heading="Learning by gradient", lead=lead, charts=drawn)


def _points(rows: Evaluated) -> list[tuple[float, dict[str, float]]]:
    """Return the newest model's metrics by steps, of the first way of adapting."""
    ways = [row["slices"].get("method") for row in rows.rows if "adaptation_steps" in row["slices"]]
    found = rows.by("adaptation_steps", method=ways[0]) if ways else []
    known = [
        (float(steps), dict(metrics))
        for steps, metrics in found
        if isinstance(steps, int) and metrics.keys() >= {"accuracy", "loss_nats", "chance_accuracy"}
    ]
    return sorted(point for point in known if 0 < point[1]["chance_accuracy"] <= 1)


def _by_steps(records: Sequence[RunRecord], name: str) -> Iterator[Curve]:
    for index, record in enumerate(records):
        points = _points(record.final)
        band = [
            (steps, metrics[f"{name}_low"], metrics[f"{name}_high"])
            for steps, metrics in points
            if f"{name}_low" in metrics and f"{name}_high" in metrics
        ]
        measured = [(steps, metrics[name]) for steps, metrics in points]
        yield Curve(label=record.name, points=measured, band=band, colour=colour_of_run(index))


def _chance(records: Sequence[RunRecord], value: float) -> Iterator[Curve]:
    furthest = max(steps for record in records for steps, _ in _points(record.final))
    points = [(0.0, value), (furthest, value)]
    yield Curve(label="chance", points=points, colour="var(--reference)", is_dashed=True)


def _over_training(records: Sequence[RunRecord]) -> Iterator[Curve]:
    for index, record in enumerate(records):
        points = [
            (float(step), metrics["few_shot_accuracy"])
            for step in sorted(record.evaluations)
            if "few_shot_accuracy" in (metrics := record.evaluations[step].one(summary=SUMMARY))
        ]
        yield Curve(label=record.name, points=points, colour=colour_of_run(index))
