"""Tables and pictures of what recipe_runs.py measured: nothing is measured here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from recipe_runs import FLOOR, MODEL, Result

from xenoglot.figures import FAINT, FINAL, INK, LEARNER, plain_frame, save_figure
from xenoglot.figures import FLOOR as FLOOR_COLOUR
from xenoglot.tracking import write_json

FULL_PRECISION = ("auto", "32-true")
FEW = 512
"""Tokens of a row up to which the axis begins at the first."""
COUNTED = """
Operations are those of training, 6 N a token and attention (`xenoglot/throughput.py`); time is of the whole run, its
evaluations included, on one of two cores beside other work. Without the options all cores compute with float32, which
was not tried to the end."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One recipe's languages, and what is known of them.

    Attributes:
        recipe: Its name.
        label: The setting, in the field's letters.
        learner: The reference predictor that the model is held against.
        learner_label: What the picture calls it.
        results: What was measured, a result for each seed.
        published: Others' losses by position.
    """

    recipe: str
    label: str
    learner: str
    learner_label: str
    results: Sequence[Result]
    published: Mapping[int, float] = field(default_factory=dict)


def publish(page: Path, text: str, found: Mapping[str, Any]) -> None:
    """Write a page, and beside it what it was made of, as JSON."""
    write_json(page.with_suffix(".json"), found)
    page.write_text(text, encoding="utf-8")
    print(page)


def draw(settings: Sequence[Setting], path: Path, title: str, *, is_logarithmic: bool) -> None:
    """Draw loss by position for each setting: the models, the learner, the floor, and what is published."""
    figure = Figure(figsize=(12.5, 4.8), layout=ConstrainedLayoutEngine(wspace=0.06))
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=13, fontweight="bold")
    panels = figure.subplots(1, len(settings), squeeze=False, sharey=is_logarithmic)[0]
    for axes, setting in zip(panels, settings, strict=True):
        _draw_curves(axes, setting)
        _label_axes(axes, setting, is_logarithmic)
        _write_legend(axes, setting, is_low=is_logarithmic)
    panels[0].set_ylabel("nats a token" + ", logarithmic" * is_logarithmic, color=INK)
    save_figure(figure, path)


def _draw_curves(axes: Axes, setting: Setting) -> None:
    first = setting.results[0]
    positions = first["tokens_read"]
    if setting.published:
        axes.plot(list(setting.published), list(setting.published.values()), color=FAINT, marker="o", markersize=4)
    axes.plot(positions, first["curves"][FLOOR], color=FLOOR_COLOUR, linewidth=1.4)
    for result in setting.results:
        axes.plot(positions, result["curves"][MODEL], color=FINAL, linewidth=2.0)
    axes.plot(positions, first["curves"][setting.learner], color=LEARNER, linewidth=1.8, linestyle="--")


def _label_axes(axes: Axes, setting: Setting, is_logarithmic: bool) -> None:
    first, length = setting.results[0], setting.results[0]["length"]
    lowest = min(mean for mean, _ in first["last_quarter"].values())
    positions = [2**power for power in range(7 if length > FEW else 0, length.bit_length(), 1 if length > FEW else 2)]
    axes.set_xscale("log", base=2)
    if is_logarithmic:
        axes.set_yscale("log")
        axes.set_ylim(lowest / 20, 6)
        ticks = [tick for tick in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0) if tick >= lowest / 2]
        axes.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    else:
        shown = np.greater_equal(first["tokens_read"], positions[0])
        axes.set_ylim(0, 1.35 * max(np.max(np.array(curve)[shown]) for curve in first["curves"].values()))
    axes.set_xticks(positions, labels=[f"{position:,}" for position in positions])
    axes.set_xlim(positions[0], length)
    axes.set_title(setting.label, loc="left", color=INK, fontsize=11)
    axes.set_xlabel("tokens of the language read", color=INK)
    plain_frame(axes)


def _write_legend(axes: Axes, setting: Setting, *, is_low: bool) -> None:
    """Name the lines where there is none: below the floor, or above everything."""
    first, length = setting.results[0], setting.results[0]["length"]
    ours = np.mean([result["last_quarter"][MODEL][0] for result in setting.results])
    texts = [
        (f"our decoder, {first['parameters'] / 1e6:.1f}M parameters: {ours:.3f}", FINAL),
        (f"{setting.learner_label}: {first['last_quarter'][setting.learner][0]:.3f}", LEARNER),
        (f"who knows the language: {first['last_quarter'][FLOOR][0]:.3f}", FLOOR_COLOUR),
    ]
    if setting.published:
        texts.insert(0, (f"published, 6 layers, 512 wide, at {length:,}: {setting.published[length]:.2f}", FAINT))
    for place, (text, colour) in enumerate(reversed(texts)):
        height = 0.03 + 0.06 * place + (0 if is_low else 0.97 - 0.06 * len(texts))
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        axes.text(
            0.03, height, text, color=colour, transform=axes.transAxes, fontsize=9, fontweight="bold", bbox=behind
        )


def loss_table(settings: Sequence[Setting]) -> Iterator[str]:
    """Write the losses over the last quarter of the row, a line for each run, and one for all seeds of a setting."""
    is_published = any(setting.published for setting in settings)
    column = "published | " if is_published else ""
    yield f"| last quarter of a row, nats a token | {column}seed | our model | learner | floor | model / learner |"
    yield "| --- |" + " --- |" * (5 + is_published)
    for setting in settings:
        for result in setting.results:
            last, (ratio, low, high) = result["last_quarter"], result["ratio"][setting.learner]
            model, learner, floor = (
                f"{mean:.4f} ± {half:.4f}" for mean, half in (last[MODEL], last[setting.learner], last[FLOOR])
            )
            published = f"{setting.published[result['length']]:.2f} | " if setting.published else ""
            yield (
                f"| {setting.label} | {published}{result['seed']} | **{model}** | {learner} | {floor} "
                f"| {ratio:.2f} ({low:.2f} to {high:.2f}) |"
            )
        if len(setting.results) > 1:
            yield _over_seeds(setting)


def _over_seeds(setting: Setting) -> str:
    """Write the mean of the runs of a setting, the lowest and the highest of them."""
    losses = [result["last_quarter"][MODEL][0] for result in setting.results]
    ratios = [result["ratio"][setting.learner][0] for result in setting.results]
    loss, ratio = (
        f"{np.mean(of_seeds):.{places}f}, from {min(of_seeds):.{places}f} to {max(of_seeds):.{places}f}"
        for of_seeds, places in ((losses, 4), (ratios, 2))
    )
    return f"| {setting.label} |{' |' * bool(setting.published)} mean of {len(losses)} | {loss} | | | {ratio} |"


def cost_table(settings: Sequence[Setting]) -> Iterator[str]:
    """Write what each run took, and how that was counted."""
    yield "| recipe | seed | parameters | steps | tokens | operations | time | computed with |"
    yield "| --- |" + " --- |" * 7
    for setting in settings:
        for result in setting.results:
            numbers = "float32" if result["precision"] in FULL_PRECISION else result["precision"]
            threads = f"{result['threads']} thread{'s' * (result['threads'] > 1)}"
            yield (
                f"| `{setting.recipe}` | {result['seed']} | {result['parameters']:,} | {result['steps']:,} "
                f"| {result['tokens'] / 1e6:.1f} M | {result['flops']:.1e} | {_duration(result['seconds'])} "
                f"| {threads} of {result['device']}, {numbers} |"
            )
    yield COUNTED


def _duration(seconds: float | None) -> str:
    return "not timed" if seconds is None else f"{seconds / 60:.0f} min"
