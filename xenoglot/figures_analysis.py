"""Pictures of what formed inside a model: scores of heads beside the loss, and measures over layers and steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from xenoglot.analysis.heads import COPY, INDUCTION, PREVIOUS, matched, uniform
from xenoglot.analysis.tables import Curve, Grid, curve, formation, head_curves
from xenoglot.figures import FAINT, FINAL, FLOOR, INK, LEARNER, plain_frame, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from xenoglot.analysis.results import Finding

__all__ = ["draw_formation", "draw_grid"]

PANELS = {
    "induction score": {
        "random tokens, read twice": (INDUCTION, FINAL, "-"),
        "new languages, one token matched": (matched(1), "#56b4e9", "-"),
        "new languages, two tokens matched": (matched(2), "#e69f00", "-"),
        "the same, shuffled": (matched(2, is_shuffled=True), "#e69f00", ":"),
    },
    "other scores": {
        "previous token": (PREVIOUS, LEARNER, "-"),
        "copy score of the strongest induction head": (COPY, "#cc79a7", "-"),
    },
}
"""What is drawn in each panel below the losses: what it is called, the score, its colour and style."""
FEW_STEPS = 24
MOST_LABELS = 12


def draw_formation(findings: Sequence[Finding], path: str | Path, *, title: str) -> None:
    """Draw the loss, and below it the scores of the strongest heads, over the same steps.

    Args:
        findings: Of one run.
        path: A .png, .svg or .pdf file, which appears only when whole.
        title: What is seen.

    Raises:
        OptionError: If the path has another ending.
        OutputError: If it cannot be written.
    """
    losses = {name: curve(findings, f"{name}_nats") for name in ("loss", "floor")}
    has_losses = bool(losses["loss"].steps)
    figure = Figure(figsize=(9.0, 9.0 if has_losses else 6.4), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=13, fontweight="bold")
    panels = figure.subplots(len(PANELS) + has_losses, 1, sharex=True)
    if has_losses:
        _draw_losses(panels[0], losses)
    formed = formation(findings)
    for axes, (label, scores) in zip(panels[has_losses:], PANELS.items(), strict=True):
        for name, (score, colour, style) in scores.items():
            heads = head_curves(findings, score)
            if score == COPY and formed is not None:
                _draw_curve(axes, heads[formed.layer, formed.head], name, colour, style)
            elif heads and score != COPY:
                _draw_curve(axes, _strongest(heads), f"{name}: strongest head", colour, style)
        chance = curve(findings, uniform(INDUCTION)).values
        if chance and label == "induction score":
            axes.axhline(
                chance[0], color=FAINT, linewidth=1.1, linestyle="--", label="uniform attention, random tokens"
            )
        axes.set_ylabel(label, color=INK)
        _finish(axes)
    if formed is not None:
        for axes in panels:
            axes.axvspan(*(max(step, 0.5) for step in formed.steps), color=FINAL, alpha=0.1, linewidth=0)
    panels[-1].set_xscale("symlog", base=2, linthresh=1)
    _count_steps(panels[-1], [finding.step for finding in findings])
    save_figure(figure, path)


def draw_grid(grid: Grid, path: str | Path, *, title: str) -> None:
    """Draw numbers over rows and columns as a heat map.

    Args:
        grid: Of one measure or score.
        path: A .png, .svg or .pdf file, which appears only when whole.
        title: Whose.

    Raises:
        OptionError: If the path has another ending.
        OutputError: If it cannot be written.
    """
    n_rows, n_columns = grid.values.shape
    figure = Figure(figsize=(9.0, 1.5 + 0.32 * n_rows), layout="constrained")
    axes = figure.add_subplot()
    colours = colormaps["viridis"].with_extremes(bad="#e6e8eb")
    low, high = (grid.low, grid.high) if grid.low < grid.high else (grid.low - 0.5, grid.low + 0.5)
    norm = LogNorm(low, high) if grid.is_logarithmic else Normalize(low, high)
    picture = axes.imshow(np.ma.masked_invalid(grid.values), aspect="auto", cmap=colours, norm=norm)
    stride = max(1, -(-n_columns // MOST_LABELS))
    axes.set_xticks(range(0, n_columns, stride), labels=grid.columns[::stride])
    axes.set_yticks(range(n_rows), labels=grid.rows)
    axes.set_xlabel(grid.column_label, color=INK)
    axes.set_title(f"{title}\n{grid.title}", loc="left", color=INK, fontsize=10)
    axes.tick_params(colors=FAINT, labelcolor=INK, length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    figure.colorbar(picture, ax=axes, pad=0.01)
    save_figure(figure, path)


def _strongest(heads: Mapping[tuple[str, int], Curve]) -> Curve:
    """Return the greatest score of any head at each step."""
    curves = list(heads.values())
    return Curve(curves[0].steps, [max(values) for values in zip(*(each.values for each in curves), strict=True)])


def _draw_losses(axes: Axes, losses: Mapping[str, Curve]) -> None:
    for (name, of), label, colour in zip(losses.items(), ("loss", "best possible"), (INK, FLOOR), strict=True):
        _draw_curve(axes, of, label, colour, "-" if name == "loss" else "--")
    axes.set_ylim(0, None)
    axes.set_ylabel("loss on new languages, nats", color=INK)
    _finish(axes)


def _draw_curve(axes: Axes, of: Curve, label: str, colour: str, style: str) -> None:
    marker = "o" if len(of.steps) <= FEW_STEPS else None
    axes.plot(
        of.steps, of.values, color=colour, linestyle=style, linewidth=1.8, label=label, marker=marker, markersize=3
    )


def _finish(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize=8, loc="upper left", labelcolor=INK)
    plain_frame(axes)


def _count_steps(axes: Axes, steps: Sequence[int]) -> None:
    """Count on from the first step, or a little before it: no half of the picture is to be empty."""
    first, last = min(steps) // 2, max(steps)
    ticks = [0, *(2**power for power in range(last.bit_length()))]
    shown = [tick for tick in ticks if tick >= first]
    axes.set_xticks(shown, labels=[f"{tick:,}" for tick in shown])
    axes.set_xlim(first, max(1, last))
    axes.set_xlabel("training steps (shaded: where the strongest head's score passes half of its greatest)", color=INK)
