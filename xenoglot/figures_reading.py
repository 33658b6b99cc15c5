"""Pictures of reading: one row token by token, and what whoever reads loses by position.

Curves called "guessing", "best learner" and "floor" look as they do in the pictures of runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from xenoglot.errors import OptionError
from xenoglot.evaluations.by_position import in_log_bins
from xenoglot.figures import (
    FAINT,
    FINAL,
    FLOOR,
    INK,
    LEARNER,
    Line,
    label_ends,
    plain_frame,
    read_axis,
    save_figure,
)
from xenoglot.languages.base import MASK
from xenoglot.options import whole_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from xenoglot.languages import Family

__all__ = ["draw_nats_by_position", "draw_reading"]

YARDSTICKS = {"guessing": (FAINT, 1.2, "-"), "best learner": (LEARNER, 1.8, "--"), "floor": (FLOOR, 1.8, "-")}
"""Colour, width and style of curves that have names of their own."""
OTHERS = tuple((colour, 2.0, "-") for colour in (FINAL, "#b0568c", "#9b5f00", "#56b4e9", INK))
"""The same of all others, in their order."""
TOKEN_INCHES = 0.23
EDGES_INCHES = 1.2
NO_NATS: Mapping[str, ArrayLike] = MappingProxyType({})


def draw_reading(
    inputs: ArrayLike,
    targets: ArrayLike,
    path: str | Path,
    *,
    family: Family,
    title: str,
    nats: Mapping[str, ArrayLike] = NO_NATS,
    first: int = 0,
    n_shown: int = 40,
) -> None:
    """Draw a part of one row: the clean tokens, what was read in their place, and what each cost to predict.

    Ordinary tokens are coloured by their number; a separator is written ``|``, MASK ``M``, and what was disturbed is
    framed. Where a family disturbs nothing, only what is read is drawn.

    Args:
        inputs: What is read, ids [L].
        targets: What is to be predicted from it, ids [L]: number t is the clean form of input t + 1.
        path: A .png, .svg or .pdf file, which appears only when whole.
        family: What the row was drawn from.
        title: What is seen.
        nats: Losses of the targets [L] by who predicted them; at most five besides the yardsticks.
        first: The token that is drawn first; 0 is the row's first.
        n_shown: How many tokens are drawn, or as many as there are; 40 unless given.

    Raises:
        OptionError: If the path has another ending, the part is not in the row, or shapes do not agree.
        OutputError: If it cannot be written.
    """
    read, asked = np.asarray(inputs), np.asarray(targets)
    _check(read, asked, nats)
    whole_number("first", first, minimum=0, maximum=len(read) - 1)
    shown = slice(first, first + whole_number("n_shown", n_shown, minimum=1))
    clean = np.concatenate([read[:1], asked[:-1]])  # of the very first token there is no clean form
    rows = {"read": read[shown]} if np.array_equal(read, clean) else {"said": clean[shown], "read": read[shown]}
    strips_inches = 0.35 * len(rows) + 0.2
    figure = Figure(
        figsize=(max(6.0, TOKEN_INCHES * len(rows["read"]) + EDGES_INCHES), strips_inches + (2.6 if nats else 0) + 0.7),
        layout="constrained",
    )
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=13, fontweight="bold")
    panels = figure.subplots(1 + bool(nats), 1, height_ratios=[strips_inches, 2.6] if nats else None, sharex=True)
    strips, *curves = np.atleast_1d(panels)
    _draw_strips(strips, rows, family, first)
    for axes in curves:
        _draw_losses(axes, {name: _costs(losses)[shown] for name, losses in nats.items()}, first)
    save_figure(figure, path)


def draw_nats_by_position(
    nats: Mapping[str, ArrayLike], path: str | Path, *, title: str, label: str = "loss, nats a token"
) -> None:
    """Draw what was lost by position, averaged over rows: a curve for each reader, or for each kind of language.

    Positions are averaged in bins of equal width on the logarithmic axis.

    Args:
        nats: Losses, or losses above a floor, [N, L] by what the curve is called; rows are of one length L. At most
            five besides the yardsticks.
        path: A .png, .svg or .pdf file, which appears only when whole.
        title: What is seen.
        label: What the vertical axis shows, with its unit.

    Raises:
        OptionError: If the path has another ending, shapes do not agree, or there are no or too many curves.
        OutputError: If it cannot be written.
    """
    curves = {name: np.asarray(values, np.float64) for name, values in nats.items()}
    lengths = {values.shape[-1] for values in curves.values() if values.ndim == 2}
    if len(lengths) != 1 or any(values.ndim != 2 for values in curves.values()):
        shapes = ", ".join(f"{name} {values.shape}" for name, values in curves.items())
        raise OptionError("nats", shapes or "none", "at least one curve, each [N, L] of the same L")
    looks = _looks(curves)
    figure = Figure(figsize=(8.0, 4.2), layout="constrained")
    axes, lines = figure.add_subplot(), list[Line]()
    for name, values in curves.items():
        positions, [means] = in_log_bins(values.mean(axis=0, keepdims=True))
        line = Line(means, name, *looks[name])
        axes.plot(positions, line.nats, color=line.colour, linewidth=line.width, linestyle=line.style)
        lines.append(line)
    read_axis(axes, max(2, lengths.pop()))
    axes.set_ylim(0, 1.1 * max(float(line.nats.max()) for line in lines))
    axes.set_title(title, loc="left", color=INK, fontsize=13, fontweight="bold")
    axes.set_xlabel("tokens read", color=INK)
    axes.set_ylabel(label, color=INK)
    plain_frame(axes)
    label_ends(axes, lines)
    save_figure(figure, path)


def _check(read: Any, asked: Any, nats: Mapping[str, ArrayLike]) -> None:
    for name, array in {"targets": asked, **{f"nats of {who}": np.asarray(of) for who, of in nats.items()}}.items():
        if read.ndim != 1 or array.shape != read.shape:
            raise OptionError(name, f"shape {array.shape}", f"the shape of inputs, {read.shape}, and that [L]")
    _looks(nats)


def _looks(names: Iterable[str]) -> dict[str, tuple[str, float, str]]:
    """Choose the look of each curve.

    Raises:
        OptionError: If there are too many.
    """
    others = [name for name in names if name not in YARDSTICKS]
    if len(others) > len(OTHERS):
        raise OptionError("nats", f"{len(others)} curves", f"at most {len(OTHERS)} besides {', '.join(YARDSTICKS)}")
    return YARDSTICKS | dict(zip(others, OTHERS, strict=False))


def _costs(nats_L: ArrayLike) -> Any:
    """Return what each token of the row cost: token t is what was to be predicted at t - 1; the first cost nothing."""
    return np.concatenate([[np.nan], np.asarray(nats_L, np.float64)[:-1]])


def _draw_strips(axes: Axes, rows: Mapping[str, Any], family: Family, first: int) -> None:
    separator = getattr(family, "separator_id", None)
    n_words = family.n_tokens - (1 if separator is None else 2)
    clean = next(iter(rows.values()))
    for line, tokens in enumerate(rows.values()):
        for place, token in enumerate(tokens.tolist()):
            is_word = token not in (MASK, separator)
            colour = colormaps["turbo"](0.08 + 0.84 * (token - 1) / max(1, n_words - 1)) if is_word else "white"
            is_disturbed = token != clean[place]
            edge = {"edgecolor": "black", "linewidth": 2.0, "zorder": 3} if is_disturbed else {"edgecolor": "white"}
            corner = (first + place - 0.5, len(rows) - 1 - line)
            axes.add_patch(Rectangle(corner, 1, 0.92, facecolor=colour, alpha=0.75, clip_on=False, **edge))
            text = str(token) if is_word else "M" if token == MASK else "|"
            axes.text(first + place, corner[1] + 0.44, text, ha="center", va="center", fontsize=8, color=INK, zorder=4)
    axes.set_xlim(first - 0.5, first + len(clean) - 0.5)
    axes.set_ylim(-0.05, len(rows))
    axes.set_yticks([len(rows) - 0.54 - line for line in range(len(rows))], labels=list(rows))
    axes.tick_params(length=0, labelcolor=INK, labelbottom=False)
    axes.spines[:].set_visible(False)


def _draw_losses(axes: Axes, nats: Mapping[str, Any], first: int) -> None:
    looks = _looks(nats)
    for name, losses in nats.items():
        colour, width, style = looks[name]
        places = np.arange(first, first + len(losses))
        axes.plot(places, losses, color=colour, linewidth=width, linestyle=style, label=name, drawstyle="steps-mid")
    axes.set_ylim(0, None)
    axes.set_xlabel("tokens read before", color=INK)
    axes.set_ylabel("loss, nats", color=INK)
    axes.legend(frameon=False, fontsize=9, ncols=len(nats), loc="lower left", bbox_to_anchor=(0, 0.98), labelcolor=INK)
    plain_frame(axes)
    axes.spines["bottom"].set_color(FAINT)
