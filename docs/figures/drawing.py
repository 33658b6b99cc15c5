"""What the figures of the documentation share: curves of loss by position, in the colours of the package's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xenoglot.evaluations.by_position import in_log_bins
from xenoglot.figures import INK, Line, label_ends, plain_frame, save_figure

__all__ = ["IMAGES", "SERIES", "curve", "draw_curves", "new_axes", "save"]

IMAGES = Path(__file__).parents[1] / "images"
SERIES = ("#0072b2", "#00825f", "#9b5f00", "#b0568c", "#4d4d4d")
"""Colours that stay apart for colour-blind readers, after Okabe and Ito, dark enough for text."""


def new_axes(title: str) -> tuple[Figure, Axes]:
    """Open a figure with one frame."""
    figure = Figure(figsize=(7.6, 3.8), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", color=INK, fontsize=12, fontweight="bold")
    plain_frame(axes)
    return figure, axes


def curve(nats_BL: Any, label: str, colour: str, *, width: float = 1.8, style: str = "-") -> Line:
    """Average losses over rows and, in bins that grow with the position, over positions."""
    _, means_NL = in_log_bins(np.asarray(nats_BL, dtype=np.float64).mean(axis=0, keepdims=True))
    return Line(means_NL[0], label, colour, width, style)


def draw_curves(name: str, lines: Sequence[Line], *, length: int, title: str, what: str) -> None:
    """Draw loss by position, each line labelled where it ends.

    Args:
        name: The picture's file name.
        lines: As `curve` makes them, all of rows of one length.
        length: That length, in tokens.
        title: What is seen.
        what: What the vertical axis shows, with its unit.
    """
    figure, axes = new_axes(title)
    positions, _ = in_log_bins(np.zeros((1, length)))
    for line in lines:
        axes.plot(positions, line.nats, color=line.colour, linewidth=line.width, linestyle=line.style)
    axes.set_xscale("log", base=2)
    ticks = [2**power for power in range(length.bit_length()) if 2**power <= length]
    axes.set_xticks(ticks, labels=[f"{tick:,}" for tick in ticks])
    axes.set_xlim(1, length)
    axes.set_ylim(0, 1.08 * max(float(line.nats.max()) for line in lines))
    axes.set_xlabel("tokens read", color=INK)
    axes.set_ylabel(what, color=INK)
    plain_frame(axes)
    label_ends(axes, lines)
    save(figure, name)


def save(figure: Figure, name: str) -> None:
    """Write a picture of the documentation."""
    IMAGES.mkdir(exist_ok=True)
    save_figure(figure, IMAGES / name)
