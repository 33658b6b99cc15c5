"""Pictures of learning by gradient: what is drawn is given, and nothing is measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from xenoglot.figures import FAINT, FINAL, FLOOR, INK, LEARNER, Line, label_ends, plain_frame, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from xenoglot.evaluations.base import Row

__all__ = ["draw_few_shot", "draw_language_learning"]

COLOURS = (FINAL, LEARNER, "#cc79a7", "#e69f00", "#56b4e9", "#7d3c98")
Curves = Mapping[str, Sequence["Row"]]


def draw_few_shot(curves: Curves, path: str | Path, *, title: str) -> None:
    """Draw accuracy and loss on held-out tasks against gradient steps, with chance.

    Args:
        curves: Rows by what the curve is called; those with a slice "adaptation_steps" and no "control" are drawn.
        path: A .png, .svg or .pdf file, which appears only when whole.
        title: What is seen.

    Raises:
        OptionError: If the path has another ending.
        OutputError: If it cannot be written.
    """
    figure = Figure(figsize=(13.0, 4.6), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=13, fontweight="bold")
    for axes, (name, label) in zip(
        figure.subplots(1, 2), (("accuracy", "accuracy"), ("loss_nats", "loss, nats")), strict=True
    ):
        lines = []
        for colour, (called, rows) in zip(_colours(curves), curves.items(), strict=True):
            steps, of_metrics = _by(rows, "adaptation_steps", name)
            _band(axes, steps, of_metrics, name, colour)
            lines.append(Line(of_metrics[name][-1:], called, colour, 1.8))
        chance = next(row.metrics["chance_accuracy"] for rows in curves.values() for row in rows)
        chance_value = chance if name == "accuracy" else -np.log(chance)
        lines.append(Line(np.array([chance_value]), "chance", FAINT, 1.1))
        axes.axhline(chance_value, color=FAINT, linewidth=1.1, linestyle="--")
        _count_axis(axes, [int(count) for count in steps], float(steps[-1]))
        highest = max(row.metrics[name] for rows in curves.values() for row in rows)
        axes.set_ylim(0, min(1.0, 1.2 * highest) if name == "accuracy" else 1.1 * highest)
        axes.set_xlabel("gradient steps (band: 95 % interval)", color=INK)
        axes.set_ylabel(label, color=INK)
        plain_frame(axes)
        label_ends(axes, lines)
    save_figure(figure, path)


def draw_language_learning(curves: Curves, path: str | Path, *, title: str) -> None:
    """Draw the loss on a new language against the tokens of it that were seen: in context, by gradient, and the floor.

    Args:
        curves: Rows of `LanguageLearning` by what the model is called.
        path: A .png, .svg or .pdf file, which appears only when whole.
        title: What is seen.

    Raises:
        OptionError: If the path has another ending.
        OutputError: If it cannot be written.
    """
    figure = Figure(figsize=(9.0, 5.0), layout="constrained")
    axes = figure.add_subplot()
    lines, furthest = list[Line](), 1.0
    for colour, (called, rows) in zip(_colours(curves), curves.items(), strict=True):
        for learning, style, width in (("in context", "-", 2.2), ("by gradient", "--", 1.8)):
            of_kind = [row for row in rows if row.slices.get("learning") == learning]
            if learning == "by gradient":  # without a step it is the model that has read nothing
                of_kind = [row for row in rows if row.slices == {"learning": "in context", "tokens_seen": 0}] + of_kind
            seen, metrics = _by(of_kind, "tokens_seen", "loss_nats")
            _band(axes, seen, metrics, "loss_nats", colour, style, width)
            lines.append(Line(metrics["loss_nats"][-1:], f"{called}, {learning}", colour, width))
            furthest = max(furthest, float(seen[-1]))
    constants = next(iter(curves.values()))[0].metrics
    for name, label, colour in (("uniform_nats", "guessing", FAINT), ("floor_nats", "best possible", FLOOR)):
        axes.axhline(constants[name], color=colour, linewidth=1.4)
        lines.append(Line(np.array([constants[name]]), label, colour, 1.4))
    _count_axis(axes, [0, *(4**power for power in range(12) if 4**power <= furthest)], furthest)
    axes.set_ylim(0, 1.12 * constants["uniform_nats"])
    axes.set_title(title, loc="left", color=INK, fontsize=13, fontweight="bold")
    axes.set_xlabel("tokens of the new language seen (band: 95 % interval over languages)", color=INK)
    axes.set_ylabel("loss, nats a token", color=INK)
    plain_frame(axes)
    label_ends(axes, lines)
    save_figure(figure, path)


def _colours(curves: Curves) -> list[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(len(curves))]


def _by(rows: Sequence[Row], slice_name: str, name: str) -> tuple[Any, dict[str, Any]]:
    """Return the values of a slice in order, and a metric with the ends of its interval there."""
    kept = sorted(
        (row for row in rows if slice_name in row.slices and "control" not in row.slices),
        key=lambda row: int(row.slices[slice_name]),
    )
    metrics = {each: np.array([row.metrics[each] for row in kept]) for each in (name, f"{name}_low", f"{name}_high")}
    return np.array([float(row.slices[slice_name]) for row in kept]), metrics


def _band(
    axes: Axes, x: Any, metrics: Mapping[str, Any], name: str, colour: str, style: str = "-", width: float = 1.8
) -> None:
    axes.fill_between(x, metrics[f"{name}_low"], metrics[f"{name}_high"], color=colour, alpha=0.15, linewidth=0)
    axes.plot(x, metrics[name], color=colour, linestyle=style, linewidth=width, marker="o", markersize=3.5)


def _count_axis(axes: Axes, ticks: Sequence[int], furthest: float) -> None:
    """Count on an axis that is logarithmic from one on, and has a place for zero."""
    axes.set_xscale("symlog", base=2, linthresh=1)
    axes.set_xlim(0, max(1.0, furthest))
    axes.set_xticks(ticks, labels=[f"{tick:,}" for tick in ticks])
