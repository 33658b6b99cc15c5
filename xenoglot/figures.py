"""Pictures, made without a screen: what is drawn is given, and nothing is measured here.

Colours are of Okabe and Ito's palette or of matplotlib's viridis, which stay apart for colour-blind readers; lines are
labelled where they end, so that no legend has to be matched.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure

from xenoglot.errors import OptionError
from xenoglot.evaluations.by_position import in_log_bins
from xenoglot.storage.files import StagedFiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from xenoglot.evaluations.base import Row
    from xenoglot.languages import Batch, Family

__all__ = ["draw_loss_by_position", "draw_samples"]

FORMATS = (".png", ".svg", ".pdf")
INK = "#22262b"
FAINT = "#7d848c"
FLOOR = "#d55e00"
FINAL = "#0072b2"
LEARNER = "#00825f"
LABELLED_BINS = 3
"""How many of the last bins a line's written value is the mean of."""


class Line(NamedTuple):
    nats: Any
    label: str
    colour: str
    width: float
    style: str = "-"


def draw_loss_by_position(
    evaluations: Mapping[int, Sequence[Row]],
    path: str | Path,
    *,
    title: str,
    per: str = "token",
    references: Sequence[Row] = (),
) -> None:
    """Draw the loss by position over training, the floor where there is one, the best learner, and guessing.

    Args:
        evaluations: Rows by training step, of which those with a slice "tokens_read" are drawn, and of the steps only
            the last and some earlier ones, each at most half the next.
        path: A .png, .svg or .pdf file, which appears only when whole.
        title: What is seen.
        per: What a loss is the loss of, "token" or "byte".
        references: Rows of reference predictors, of which the one that loses least is drawn.

    Raises:
        OptionError: If the path has another ending.
        OutputError: If it cannot be written.
    """
    curves = {step: _curve(evaluations[step]) for step in _telling_steps(evaluations)}
    final = curves[max(curves)]
    figure = Figure(figsize=(8.0, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.fill_between(
        final["tokens_read"], final["loss_nats_low"], final["loss_nats_high"], color=FINAL, alpha=0.2, linewidth=0
    )
    lines = [*_lines(curves), *_best_learner(references)]
    for line in lines:
        axes.plot(final["tokens_read"], line.nats, color=line.colour, linewidth=line.width, linestyle=line.style)
    _finish_axes(axes, final, title, per)
    label_ends(axes, lines)
    save_figure(figure, path)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure in the format of the path's ending; the file appears only when whole.

    Raises:
        OptionError: If the path has another ending.
        OutputError: If it cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() not in FORMATS:
        raise OptionError("figure", str(path), f"a file ending in {', '.join(FORMATS)}")
    picture = io.BytesIO()
    figure.savefig(picture, format=target.suffix[1:].lower(), dpi=160)
    with StagedFiles() as staged, staged.open(target) as file:
        file.write(picture.getvalue())


def _telling_steps(steps: Iterable[int]) -> list[int]:
    """Choose the last step and, going back, each that is at most half the one before; step 0 only if it is alone."""
    *earlier, last = sorted(steps)
    chosen = [last]
    for step in reversed(earlier):
        if 0 < step <= chosen[0] / 2:
            chosen.insert(0, step)
    return chosen


def _curve(rows: Iterable[Row]) -> dict[str, Any]:
    """Return the metrics of the rows by position as arrays, in the order of reading, averaged in bins."""
    by_position = sorted((int(row.slices["tokens_read"]), row.metrics) for row in rows if "tokens_read" in row.slices)
    names = by_position[0][1].keys()
    metrics_NL = np.array([[metrics[name] for _, metrics in by_position] for name in names], dtype=np.float64)
    positions, means_NL = in_log_bins(metrics_NL)
    return {"length": len(by_position), "tokens_read": positions, **dict(zip(names, means_NL, strict=True))}


def _best_learner(references: Sequence[Row]) -> list[Line]:
    """Return the curve of the predictor that loses least; none if nobody was measured."""
    names = sorted({str(row.slices["predictor"]) for row in references if "predictor" in row.slices})
    if not names:
        return []
    rows = {name: [row for row in references if row.slices.get("predictor") == name] for name in names}
    curves = {name: _curve(rows[name]) for name in names}
    best = min(names, key=lambda name: float(curves[name]["loss_nats"].mean()))
    is_bound = rows[best][0].slices.get("exactness") == "bound"
    return [Line(curves[best]["loss_nats"], "simple learner" if is_bound else "best learner", LEARNER, 1.6, "--")]


def _lines(curves: Mapping[int, Mapping[str, Any]]) -> list[Line]:
    """Choose the look of each curve: training darkens towards its end, guessing and the floor stand apart."""
    *earlier, last = curves
    final = curves[last]
    lines = [Line(final["uniform_nats"], "guessing", FAINT, 1.1)]
    for index, step in enumerate(earlier):
        colour = to_hex(colormaps["Blues"](0.35 + 0.35 * index / max(1, len(earlier) - 1)))
        lines.append(Line(curves[step]["loss_nats"], f"after {step:,} steps", colour, 1.1))
    lines.append(Line(final["loss_nats"], f"after {last:,} steps", FINAL, 2.2))
    if "floor_nats" in final:
        lines.append(Line(final["floor_nats"], "best possible", FLOOR, 1.8))
    return lines


def _finish_axes(axes: Axes, curve: Mapping[str, Any], title: str, per: str) -> None:
    read_axis(axes, max(2, curve["length"]))
    axes.set_ylim(0, 1.12 * float(curve["uniform_nats"][0]))
    axes.set_title(title, loc="left", color=INK, fontsize=13, fontweight="bold")
    axes.set_xlabel(f"{per}s read (band: 95 % interval of the mean at one position)", color=INK)
    axes.set_ylabel(f"loss, nats a {per}", color=INK)
    plain_frame(axes)


def label_ends(axes: Axes, lines: Sequence[Line]) -> None:
    """Write each line's name and last value to the right of its end, pushed apart where they would touch."""
    ends = sorted(((float(line.nats[-LABELLED_BINS:].mean()), line) for line in lines), key=lambda end: end[0])
    top = axes.get_ylim()[1]
    heights = _apart([nats for nats, _ in ends], spacing=0.055 * top, top=top)
    for (nats, line), height in zip(ends, heights, strict=True):
        axes.annotate(
            f"{line.label}, {nats:.2f}",
            xy=(1.0, height),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            color=line.colour,
            fontweight="bold" if line.width > 1.5 else "normal",
            fontsize=9,
            va="center",
            annotation_clip=False,
        )


def _apart(heights: Sequence[float], *, spacing: float, top: float) -> list[float]:
    """Move growing heights up until none touch, then those down that would be above the top.

    Example:
        >>> _apart([1.0, 1.5, 8.0, 9.0, 9.5], spacing=1.0, top=10.0)
        [1.0, 2.0, 8.0, 9.0, 10.0]
        >>> _apart([9.0, 9.25, 9.5], spacing=1.0, top=10.0)
        [8.0, 9.0, 10.0]
    """
    raised = list(itertools.accumulate(heights, lambda below, height: max(height, below + spacing)))
    capped = [*raised[:-1], min(raised[-1], top)] if raised else []
    lowered = list(itertools.accumulate(reversed(capped), lambda above, height: min(height, above - spacing)))
    return lowered[::-1]


def read_axis(axes: Axes, length: int) -> None:
    """Count what was read on a logarithmic axis, in plain numbers."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(1, length)
    ticks = [2**power for power in range(length.bit_length()) if 2**power <= length]
    axes.set_xticks(ticks, labels=[str(tick) for tick in ticks])


def plain_frame(axes: Axes) -> None:
    """Leave what is read off: light lines across, and two sides of the frame."""
    axes.grid(axis="y", color="#e6e8eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FAINT, labelcolor=INK)
    axes.minorticks_off()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)


STRIPS = 6
STRIP_TOKENS = 384


def draw_samples(batch: Batch, family: Family, path: str | Path) -> None:
    """Draw a few sequences as coloured strips, and the floor by position, averaged over all rows.

    Args:
        batch: Rows with their floor; the first six are shown, their first 384 tokens.
        family: What they were drawn from.
        path: A .png, .svg or .pdf file, which appears only when whole.

    Raises:
        OptionError: If the path has another ending.
        OutputError: If it cannot be written.
    """
    figure = Figure(figsize=(8.0, 6.0), layout="constrained")
    rows = min(STRIPS, len(batch.inputs))
    strips, floor = figure.subplots(2, 1, height_ratios=[rows + 1.5, 5])
    figure.suptitle(f"{family.name}: every row is a language of its own", x=0.01, ha="left", color=INK, weight="bold")
    _draw_strips(strips, batch.inputs[:rows, :STRIP_TOKENS], family)
    _draw_floor(floor, batch.floor_nats, family.n_tokens)
    save_figure(figure, path)


def _draw_strips(axes: Axes, inputs_BL: Any, family: Family) -> None:
    """Colour each token by its number; MASK and a separator have colours that no token has."""
    separator = getattr(family, "separator_id", None)
    words = family.n_tokens - (1 if separator is None else 2)
    colours = colormaps["viridis"]((inputs_BL - 1) / max(1, words - 1))
    colours[inputs_BL == 0] = to_rgba("white")
    if separator is not None:
        colours[inputs_BL == separator] = to_rgba(FLOOR)
    rows, length = inputs_BL.shape
    axes.imshow(colours, aspect="auto", interpolation="nearest", extent=(0.5, length + 0.5, rows, 0))
    axes.hlines(range(1, rows), 0.5, length + 0.5, color="white", linewidth=6)
    axes.set_yticks([row + 0.5 for row in range(rows)], labels=[f"language {row + 1}" for row in range(rows)])
    legend = f"dark to light: 1 to {words}"
    legend += ", white: MASK" if (inputs_BL == 0).any() else ""
    legend += ", orange: separator" if separator is not None else ""
    axes.set_xlabel(f"tokens ({legend})", color=INK)
    axes.tick_params(colors=FAINT, labelcolor=INK, length=0)
    axes.spines[:].set_visible(False)


def _draw_floor(axes: Axes, floor_nats_BL: Any, n_tokens: int) -> None:
    rows, length = floor_nats_BL.shape
    middle, means = in_log_bins(floor_nats_BL)
    mean, error = means.mean(axis=0), means.std(axis=0) / np.sqrt(rows)
    axes.fill_between(middle, mean - 2 * error, mean + 2 * error, color=FLOOR, alpha=0.2, linewidth=0)
    axes.plot(middle, mean, color=FLOOR, linewidth=1.8)
    read_axis(axes, max(2, length))
    axes.set_ylim(0, 1.15 * float((mean + 2 * error).max()) or 1.0)
    axes.set_title(
        f"best possible loss: {floor_nats_BL.mean():.3f} nats a token over {length:,} tokens"
        f" of {rows} languages; guessing {np.log(n_tokens - 1):.2f}",
        loc="left",
        color=INK,
        fontsize=10,
    )
    axes.set_xlabel("tokens read", color=INK)
    axes.set_ylabel("floor, nats a token", color=INK)
    plain_frame(axes)
