"""Which charts a page has, and which curves are in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from xenoglot.evaluations.by_position import in_log_bins
from xenoglot.report.charts import Chart, Curve, Point, Scale, draw, short, thinned
from xenoglot.report.reading import Evaluated, RunRecord, number

__all__ = [
    "ChartGroup",
    "by_position_charts",
    "colour_of_run",
    "over_training_charts",
    "telling_steps",
    "training_charts",
]

N_RUN_COLOURS = 7
N_EARLY_COLOURS = 4
WIDE, NARROW = (1040, 400), (400, 300)
LEAST_TOLD_NATS = 1e-4
"""Of an excess over the floor: the best learner's may fall to what rounding leaves of zero."""


@dataclass(frozen=True, kw_only=True)
class ChartGroup:
    """Charts under one heading.

    Attributes:
        heading: What they are about.
        lead: What to look for.
        charts: In twos: as drawn on a wide screen, and on a narrow one; the same one where it suits both.
        has_legend: Whether the curves are more than one for each run, so that they need their names beside them.
    """

    heading: str
    lead: str
    charts: Sequence[tuple[Chart, Chart]]
    has_legend: bool = False


def colour_of_run(index: int) -> str:
    """Return the colour of a run, a CSS variable."""
    return f"var(--run-{index % N_RUN_COLOURS})"


def telling_steps(steps: Iterable[int]) -> list[int]:
    """Choose the last step and, going back, each that is at most half the one before; step 0 only if it is alone.

    Example:
        >>> telling_steps([0, 100, 200, 300, 400])
        [100, 200, 400]
    """
    *earlier, last = sorted(steps)
    chosen = [last]
    for step in reversed(earlier):
        if 0 < step <= chosen[0] / 2:
            chosen.insert(0, step)
    return chosen


def by_position_charts(records: Sequence[RunRecord]) -> ChartGroup | None:
    """Return loss and excess by position: what reading on taught each model."""
    measured = [(index, record) for index, record in enumerate(records) if record.evaluations]
    if not measured:
        return None
    make = _curves_of_one if len(records) == 1 else _curves_of_many
    top = max((metrics.get("uniform_nats", 0.0) for _, record in measured for metrics in _parts(record)), default=0.0)
    loss, excess = list(make(measured, "loss_nats")), list(make(measured, "excess_nats"))
    charts = _wide_and_narrow(
        lambda size: draw(
            loss,
            title="Loss by position, nats a token",
            x_label="tokens read",
            note=f"Band: 95 % interval of the mean at one position. Guessing costs {top:.2f} nats.",
            x_scale="log2",
            size=size,
            top=top,
        ),
        lambda size: draw(
            excess,
            title="Excess over the floor by position, nats a token",
            x_label="tokens read",
            note="Both axes are logarithmic. The floor is the loss of one who knows the language. "
            f"Curves that leave the frame fall below {short(LEAST_TOLD_NATS)} nats.",
            x_scale="log2",
            y_scale="log10",
            size=size,
            bottom=LEAST_TOLD_NATS,
        ),
    )
    lead = "The more a model has read, the better it predicts what comes next: that is learning in context."
    return ChartGroup(heading="Learning in context", lead=lead, charts=charts, has_legend=True) if charts else None


def over_training_charts(records: Sequence[RunRecord]) -> ChartGroup | None:
    """Return the evaluations' main numbers over training."""
    has_floor = any(record.final.one(part="last quarter").get("excess_nats") is not None for record in records)
    name = "excess_nats" if has_floor else "loss_nats"
    what = "Excess over the floor" if has_floor else "Held-out loss"
    steps = (0.0, float(max(record.last_step for record in records)))
    learner = list(_best_learner_needs(records, steps))
    dashed = " Dashed: the best learner." if learner else ""
    epsilon = next((eps for record in records if (eps := _summary(record.final).get("epsilon_nats"))), None)
    charts = [
        draw(
            list(_over_training(records, name, lambda rows: rows.one(part="last quarter"))),
            title=f"{what}, last quarter of the context, nats",
            x_label="training steps",
            x_span=steps,
        ),
        draw(
            [*learner, *_over_training(records, "tokens_to_epsilon", _summary)],
            title=f"Tokens read until within {epsilon:g} nats of the floor" if epsilon else "",
            x_label="training steps",
            x_span=steps,
            note=f"No dot where the model does not come so near and stay there.{dashed}",
            y_scale="log2",
        ),
        draw(
            list(_over_training(records, "in_context_score_nats", _summary)),
            title="In-context score: late loss minus early loss, nats",
            x_label="training steps",
            x_span=steps,
            note="Below zero where reading on helps (Olsson et al., 2022).",
        ),
    ]
    return _group("Over training", "The same data at every evaluation; only the model differs.", charts)


def training_charts(records: Sequence[RunRecord]) -> ChartGroup | None:
    """Return what was written down at each logged step."""
    wanted: list[tuple[str, str, Scale]] = [
        ("loss_nats", "Training loss, nats a token", "linear"),
        ("lr", "Learning rate", "linear"),
        ("gradient_norm", "Norm of the gradient before clipping", "log10"),
        ("query_loss_nats", "Tasks: loss on the query set after adapting, nats", "linear"),
        ("query_accuracy", "Tasks: accuracy on the query set after adapting", "linear"),
        ("inner_gradient_norm", "Tasks: mean norm of the gradients that adapt", "log10"),
        ("meta_gradient_norm", "Tasks: norm of the meta-gradient before clipping", "log10"),
        ("tokens_per_second", "Speed, tokens a second", "linear"),
        ("mfu", "Share of the device's peak arithmetic (MFU)", "linear"),
    ]
    charts = [
        draw(list(_logged(records, name)), title=title, x_label="training steps", y_scale=scale)
        for name, title, scale in wanted
    ]
    return _group("Training", "Many lines of the log are averaged to one point where they would overlap.", charts)


def _group(heading: str, lead: str, charts: Iterable[Chart | None]) -> ChartGroup | None:
    drawn = [(chart, chart) for chart in charts if chart is not None]
    return ChartGroup(heading=heading, lead=lead, charts=drawn) if drawn else None


def _wide_and_narrow(*drawings: Callable[[tuple[int, int]], Chart | None]) -> list[tuple[Chart, Chart]]:
    pairs = [(drawing(WIDE), drawing(NARROW)) for drawing in drawings]
    return [(wide, narrow) for wide, narrow in pairs if wide is not None and narrow is not None]


def _parts(record: RunRecord) -> list[dict[str, float]]:
    return [dict(record.final.one(part="whole"))]


def _summary(rows: Evaluated) -> dict[str, float]:
    return dict(rows.one(summary="learning in context"))


def _curves_of_one(measured: Sequence[tuple[int, RunRecord]], name: str) -> Iterator[Curve]:
    """Yield one run's curves: earlier ones lighter, then the best learners, the floor, and the last evaluation."""
    [(index, record)] = measured
    *earlier, last = telling_steps(record.evaluations)
    for place, step in enumerate(earlier[-N_EARLY_COLOURS:]):
        colour = f"var(--early-{place + N_EARLY_COLOURS - len(earlier[-N_EARLY_COLOURS:])})"
        yield _by_position(record.evaluations[step], name, f"after {step:,} steps", colour, weight=1.3)
    yield from _references(record, name)
    yield from _floor(record, name)
    final = _by_position(record.final, name, f"after {last:,} steps", colour_of_run(index), weight=2.4, has_band=True)
    yield final


def _curves_of_many(measured: Sequence[tuple[int, RunRecord]], name: str) -> Iterator[Curve]:
    """Yield each run's last curve, above the yardsticks; one that only some runs share says whose it is."""
    shared: dict[tuple[str, tuple[Point, ...]], tuple[Curve, list[int]]] = {}
    for place, (_, record) in enumerate(measured):
        for curve in (*_references(record, name), *_floor(record, name)):
            shared.setdefault((curve.label, tuple(curve.points)), (curve, []))[1].append(place)
    for curve, places in shared.values():
        if len(places) == len(measured):
            yield curve
        else:
            label = f"{curve.label}; of {', '.join(measured[place][1].name for place in places)}"
            colour = colour_of_run(measured[places[0]][0])
            yield dataclasses.replace(curve, label=label, colour=colour, weight=1.3, is_dashed=True)
    for index, record in measured:
        yield _by_position(record.final, name, record.name, colour_of_run(index), weight=2.4, has_band=True)


def _references(record: RunRecord, name: str) -> Iterator[Curve]:
    """Yield the best learners' curves; of the simple ones, whose prior is not the family's, only the best one's."""
    known = {(row["slices"].get("predictor"), row["slices"].get("exactness")) for row in record.references.rows}
    curves = []
    for predictor, exactness in sorted(known, key=str):
        kind = "a simple learner" if exactness == "bound" else "best learner"
        slices = {"predictor": predictor, "exactness": exactness}
        label = f"{kind} ({predictor})" if exactness == "bound" else f"{kind} ({predictor}, {exactness})"
        curve = _by_position(record.references, name, label, "var(--reference)", is_dashed=True, **slices)
        if curve.points:
            curves.append((exactness == "bound", sum(nats for _, nats in curve.points), curve))
    suiting = [curve for is_bound, _, curve in curves if not is_bound]
    yield from suiting or [min(curves, key=lambda each: each[1])[2]] if curves else []


def _floor(record: RunRecord, name: str) -> Iterator[Curve]:
    if name == "loss_nats":
        floor = _by_position(record.final, "floor_nats", "best possible: the language is known", "var(--floor)")
        if floor.points:
            yield floor


def _by_position(
    rows: Evaluated,
    name: str,
    label: str,
    colour: str,
    *,
    weight: float = 1.8,
    has_band: bool = False,
    is_dashed: bool = False,
    **slices: str,
) -> Curve:
    """Return a metric by position in bins; none where some position lacks it."""
    found = sorted((int(t), metrics) for t, metrics in rows.by("tokens_read", **slices))
    names = [name, f"{name}_low", f"{name}_high"] if has_band else [name]
    known = [each for each in names if found and all(each in metrics for _, metrics in found)]
    points: list[Point] = []
    band: list[tuple[float, float, float]] = []
    if name in known:
        middles, means = in_log_bins(np.array([[metrics[each] for _, metrics in found] for each in known]))
        points = list(zip(middles.tolist(), means[0].tolist(), strict=True))
        if len(known) == len(names) and has_band:
            band = list(zip(middles.tolist(), means[1].tolist(), means[2].tolist(), strict=True))
    return Curve(label=label, points=points, colour=colour, band=band, weight=weight, is_dashed=is_dashed)


def _best_learner_needs(records: Sequence[RunRecord], steps: tuple[float, float]) -> Iterator[Curve]:
    """Yield how many tokens the best learner needs, if that is the same for all runs."""
    summary = {"summary": "learning in context"}
    needed = {
        (str(predictor), metrics["tokens_to_epsilon"])
        for record in records
        for exactness in ("exact", "near-exact")
        for predictor, metrics in record.references.by("predictor", exactness=exactness, **summary)
        if "tokens_to_epsilon" in metrics
    }
    if len(needed) == 1:
        [(predictor, tokens)] = needed
        points = [(step, tokens) for step in steps]
        yield Curve(label=f"best learner ({predictor})", points=points, colour="var(--reference)", is_dashed=True)


def _over_training(
    records: Sequence[RunRecord], name: str, row_of: Callable[[Evaluated], dict[str, float] | object]
) -> Iterator[Curve]:
    for index, record in enumerate(records):
        rows = [(float(step), row_of(record.evaluations[step])) for step in sorted(record.evaluations)]
        measured = [(step, metrics) for step, metrics in rows if isinstance(metrics, dict) and name in metrics]
        yield Curve(
            label=record.name,
            points=[(step, metrics[name]) for step, metrics in measured],
            band=[
                (step, metrics[f"{name}_low"], metrics[f"{name}_high"])
                for step, metrics in measured
                if f"{name}_low" in metrics and f"{name}_high" in metrics
            ],
            colour=colour_of_run(index),
        )


def _logged(records: Sequence[RunRecord], name: str) -> Iterator[Curve]:
    for index, record in enumerate(records):
        lines = [(float(line["step"]), number(line.get(name))) for line in record.metrics]
        points = [(step, value) for step, value in lines if value is not None]
        yield Curve(label=record.name, points=thinned(points), colour=colour_of_run(index), weight=1.5)
