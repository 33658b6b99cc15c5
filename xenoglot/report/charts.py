"""Curves for a page: what is to be drawn, in the coordinates of the drawing.

A chart is made here and written as SVG by the template, which escapes every word of it. Colours are names of CSS
variables, so that the page decides on light and dark.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

__all__ = ["Chart", "Curve", "Scale", "draw", "short", "thinned"]

Scale = Literal["linear", "log2", "log10"]
Point = tuple[float, float]

LEFT, RIGHT, TOP, BOTTOM = 52, 20, 10, 34
"""Margins for ticks and labels, in units of the drawing."""
MOST_POINTS = 240
"""More than this many points of one curve are averaged in bins: they would fall on the same pixels."""
HEADROOM = 0.04
"""What a linear axis has beyond its furthest values, but not beyond zero, as a share of its length."""
SMALLEST = 1e-200
"""What is closer to zero than this is drawn as zero."""
SAME = 1e-12
"""Values closer together than this share of them have no round values between them: they are drawn as one."""
FEW_DOUBLINGS = 3
"""A logarithmic axis of less has no round powers to speak of: it is marked as a linear one is."""
MOST_TICKS = 7
MOST_POWERS = 10
MOST_DOTS = 24
"""A curve of more points than this has no dot at each."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Something measured against something else.

    Attributes:
        label: What it is called.
        points: Where it was measured, and what was; in order.
        colour: A CSS colour.
        band: Lower and upper ends where they are known, beside the points.
        weight: Width of the line.
        is_dashed: Whether the line is broken.
    """

    label: str
    points: Sequence[Point]
    colour: str
    band: Sequence[tuple[float, float, float]] = ()
    weight: float = 1.8
    is_dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A drawing, ready to be written down; lengths are in its own units, of which it is ``width`` wide.

    Attributes:
        title: What is seen.
        note: A sentence below.
        x_label: What is along the axis, with its unit.
        width: Of the whole.
        height: Of the whole.
        frame: Left, top, right and bottom of the part with the curves.
        x_ticks: Where and what.
        y_ticks: Where and what.
        paths: One for each curve: line, band, dots, and the curve itself.
        hover: For each curve its label, colour and points: where they are and what to say there.
    """

    title: str
    note: str
    x_label: str
    width: int
    height: int
    frame: tuple[int, int, int, int]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    paths: Sequence[Mapping[str, Any]] = field(default_factory=list)
    hover: Sequence[Mapping[str, Any]] = field(default_factory=list)


class _Axis:
    """Values to lengths, and the round values among them."""

    def __init__(self, values: Sequence[float], scale: Scale, start: float, end: float, *, from_zero: bool) -> None:
        low, high = min(values), max(values)
        if scale == "linear" and from_zero:
            low, high = min(0.0, low), max(0.0, high)
            room = HEADROOM * (high - low)
            low, high = low - (room if low < 0 else 0.0), high + (room if high > 0 else 0.0)
        if high - low <= max(SMALLEST, SAME * max(abs(low), abs(high))):
            low, high = (low / 2, high * 2) if scale != "linear" else (low - 0.5, high + 0.5)
        self._scale, self._start, self._end = scale, start, end
        self._low, self._high = self._warped(low), self._warped(high)

    def _warped(self, value: float) -> float:
        return value if self._scale == "linear" else math.log2(value)

    def place(self, value: float) -> float:
        share = (self._warped(value) - self._low) / (self._high - self._low)
        return round(self._start + share * (self._end - self._start), 1)

    def ticks(self) -> list[tuple[float, str]]:
        if self._scale == "linear":
            values = _round_values(self._low, self._high)
        elif self._high - self._low < FEW_DOUBLINGS:
            values = _round_values(2**self._low, 2**self._high)
        else:
            values = self._powers()
        return [(self.place(value), short(value)) for value in values]

    def _powers(self) -> list[float]:
        base = 2 if self._scale == "log2" else 10
        width = math.log2(base)
        first, last = math.ceil(self._low / width - 1e-9), math.floor(self._high / width + 1e-9)
        if last - first < 1 and base == 10:  # within a decade: halves and doubles say more than one round number
            first, last, base = math.ceil(self._low), math.floor(self._high), 2
        stride = max(1, math.ceil((last - first + 1) / MOST_POWERS))
        return [float(base) ** power for power in range(first, last + 1, stride)]


def _round_values(low: float, high: float) -> list[float]:
    """Return a handful of round numbers from one value to another, at equal distances."""
    rough = (high - low) / (MOST_TICKS - 1)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [0.0 if count == 0 else count * step for count in range(first, last + 1)]


def draw(
    curves: Iterable[Curve],
    *,
    title: str,
    x_label: str,
    note: str = "",
    x_scale: Scale = "linear",
    y_scale: Scale = "linear",
    size: tuple[int, int] = (400, 250),
    top: float | None = None,
    bottom: float = -math.inf,
    x_span: tuple[float, float] | None = None,
) -> Chart | None:
    """Lay out curves in one frame; None if there is nothing to see.

    Args:
        curves: What is drawn, the last one on top; on a logarithmic axis, what is not above zero is left out.
        title: What is seen, with the unit of the values.
        x_label: What is along the horizontal axis.
        note: A sentence below.
        x_scale: Of the horizontal axis.
        y_scale: Of the vertical axis; a linear one starts at zero.
        size: Width and height.
        top: A value up to which the vertical axis reaches at least.
        bottom: A value below which it does not reach: curves leave the frame there.
        x_span: Values from and to which the horizontal axis reaches at least.
    """
    width, height = size
    shown = [curve for given in curves if (curve := _drawable(given, x_scale, y_scale)).points]
    if not shown:
        return None
    xs = [x for curve in shown for x, _ in curve.points] + list(x_span or ())
    ys = [y for curve in shown for _, y in curve.points] + ([] if top is None else [top])
    if y_scale == "linear":  # a logarithmic one would reach down to where a band all but touches zero
        ys += [end for curve in shown for _, *ends in curve.band for end in ends]
    ys = [max(y, bottom) for y in ys]
    x_axis = _Axis(xs, x_scale, LEFT, width - RIGHT, from_zero=False)
    y_axis = _Axis(ys, y_scale, height - BOTTOM, TOP, from_zero=True)
    return Chart(
        title=title,
        note=note,
        x_label=x_label,
        width=width,
        height=height,
        frame=(LEFT, TOP, width - RIGHT, height - BOTTOM),
        x_ticks=x_axis.ticks(),
        y_ticks=y_axis.ticks(),
        paths=[_path(curve, x_axis, y_axis) for curve in shown],
        hover=[_hover(curve, x_axis, y_axis) for curve in shown],
    )


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """Average neighbouring points, as many together as leave at most so many.

    Example:
        >>> thinned([(1, 1.0), (2, 3.0), (3, 5.0), (4, 9.0), (5, 7.0)], most=3)
        [(1.5, 2.0), (3.5, 7.0), (5.0, 7.0)]
    """
    size = math.ceil(len(points) / most)
    if size <= 1:
        return list(points)
    bins = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in bins]


def short(value: float) -> str:
    """Write a number in few characters.

    Example:
        >>> [short(value) for value in (0, 0.25, 3e-05, 1.5, 128, 12_500, 3.2e6)]
        ['0', '0.25', '3e−05', '1.5', '128', '12.5k', '3.2M']
    """
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g}{unit}"
    return f"{value:,.4g}".replace("-", "−")


def _drawable(curve: Curve, x_scale: Scale, y_scale: Scale) -> Curve:
    """Leave out what has no place on a logarithmic axis."""

    def fits(x: float, *ys: float) -> bool:
        return (x_scale == "linear" or x > SMALLEST) and (y_scale == "linear" or min(ys) > SMALLEST)

    points = [point for point in curve.points if fits(*point)]
    return dataclasses.replace(curve, points=points, band=[ends for ends in curve.band if fits(*ends)])


def _path(curve: Curve, x_axis: _Axis, y_axis: _Axis) -> dict[str, Any]:
    places = [(x_axis.place(x), y_axis.place(y)) for x, y in curve.points]
    upper = [(x_axis.place(x), y_axis.place(high)) for x, _, high in curve.band]
    lower = [(x_axis.place(x), y_axis.place(low)) for x, low, _ in curve.band]
    return {
        "curve": curve,
        "line": _line(places) if len(places) > 1 else "",
        "band": f"{_line([*upper, *reversed(lower)])}Z" if len(upper) > 1 else "",
        "dots": places if not curve.is_dashed and (len(places) == 1 or _is_sparse(places)) else [],
    }


def _is_sparse(places: Sequence[Point]) -> bool:
    """Tell whether the points stand so far apart that each should be seen."""
    return len(places) <= MOST_DOTS and all(after[0] - before[0] > 14 for before, after in pairwise(places))


def _line(places: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in places)


def _hover(curve: Curve, x_axis: _Axis, y_axis: _Axis) -> dict[str, Any]:
    return {
        "label": curve.label,
        "colour": curve.colour,
        "points": [[x_axis.place(x), y_axis.place(y), f"{x:,.0f}", f"{y:.4g}"] for x, y in curve.points],
    }
