"""Findings as what is drawn: grids over layers and steps, curves over steps, and when a head formed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xenoglot import measures
from xenoglot.analysis.config import LAYERS, OV_CIRCUIT
from xenoglot.analysis.gradients import META_COSINE, TITLES
from xenoglot.analysis.heads import COPY, INDUCTION, PREVIOUS
from xenoglot.analysis.results import Finding
from xenoglot.errors import UnknownNameError
from xenoglot.languages.base import Floats
from xenoglot.layer_names import pico_name

__all__ = ["Curve", "Formation", "Grid", "curve", "formation", "grids", "head_curves", "rank_correlation"]

SCORES = {
    INDUCTION: "Induction score on random tokens, read twice",
    PREVIOUS: "Previous-token score on random tokens",
    COPY: "Copy score: does what is attended to become likelier?",
}
ORDERS = 300
"""Where the greatest number is more than so many times the least, shades of the numbers themselves show nothing."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Numbers over rows and columns.

    Attributes:
        name: What tells it from the others, fit for a file's name.
        title: What the numbers are.
        rows: What each row is about: a layer, a head.
        columns: What each column is about.
        column_label: What the columns are: steps, or layers.
        values: One for each cell, nan where there is none.
        low: What the lightest colour stands for.
        high: What the darkest colour stands for.
    """

    name: str
    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    column_label: str
    values: Floats
    low: float
    high: float

    @property
    def is_logarithmic(self) -> bool:
        """Whether colours are of the logarithm: the numbers span orders of magnitude."""
        return 0 < self.low < self.high / ORDERS

    def share(self, value: float) -> float | None:
        """Return where between the colours' ends a value is, from 0 to 1; None for what is no number."""
        if not math.isfinite(value):
            return None
        low, high, at = (math.log(each) if self.is_logarithmic else each for each in (self.low, self.high, value))
        return min(max((at - low) / (high - low), 0.0), 1.0) if high > low else 0.5


class Curve(NamedTuple):
    """Numbers over steps.

    Attributes:
        steps: In order.
        values: One for each.
    """

    steps: list[int]
    values: list[float]


class Formation(NamedTuple):
    """When the strongest induction head came to be, and how the loss went along.

    Attributes:
        layer: Its block.
        head: Its number.
        score: What it scores at the last step.
        steps: The two steps between which it first passed half of its greatest score.
        losses: The losses at these two; nan where no loss was measured.
        correlation: Of its score with the loss, by ranks, over all steps; nan where it is not defined.
        n_steps: How many these are.
    """

    layer: str
    head: int
    score: float
    steps: tuple[int, int]
    losses: tuple[float, float]
    correlation: float
    n_steps: int


def grids(findings: Iterable[Finding]) -> list[Grid]:
    """Return a grid for each thing that was measured of layers or heads of one run, in the order of the findings."""
    groups: dict[tuple[str | None, ...], list[Finding]] = {}
    for finding in findings:
        if finding.layer is not None:
            key = (finding.metric, finding.data_type, finding.data_split, finding.component, finding.against)
            groups.setdefault(key, []).append(finding)
    return [_between_layers(group) if group[0].against == LAYERS else _over_steps(group) for group in groups.values()]


def head_curves(findings: Iterable[Finding], score: str) -> dict[tuple[str, int], Curve]:
    """Return each head's score over steps, by its block and number."""
    by_head: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for finding in findings:
        if finding.metric == score and finding.layer is not None and finding.head is not None:
            by_head.setdefault((finding.layer, finding.head), []).append((finding.step, finding.value))
    return {head: _as_curve(points) for head, points in by_head.items()}


def curve(findings: Iterable[Finding], metric: str) -> Curve:
    """Return what is of a whole model, such as a loss, over steps."""
    return _as_curve([(each.step, each.value) for each in findings if each.metric == metric and each.layer is None])


def formation(findings: Sequence[Finding], score: str = INDUCTION) -> Formation | None:
    """Say when the strongest head formed; None if no head was scored, or none ever scores above zero."""
    heads = {head: each for head, each in head_curves(findings, score).items() if np.isfinite(each.values).all()}
    if not heads:
        return None
    (layer, head), scores = max(heads.items(), key=lambda item: max(item[1].values))
    half = max(scores.values) / 2
    if half <= 0:
        return None
    later = next(place for place, value in enumerate(scores.values) if value >= half)
    steps = (scores.steps[max(0, later - 1)], scores.steps[later])
    loss_at = dict(zip(*curve(findings, "loss_nats"), strict=True))
    both = [(value, loss_at[step]) for step, value in zip(*scores, strict=True) if step in loss_at]
    return Formation(
        layer=layer,
        head=head,
        score=scores.values[-1],
        steps=steps,
        losses=(loss_at.get(steps[0], math.nan), loss_at.get(steps[1], math.nan)),
        correlation=rank_correlation(*zip(*both, strict=True)) if both else math.nan,
        n_steps=len(both),
    )


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's rank correlation, equal numbers sharing their mean rank; nan if either is the same throughout.

    Example:
        >>> round(rank_correlation([1, 2, 3, 4], [10, 9, 9.5, 0]), 4)
        -0.8
    """
    ranks = np.array([_ranks(np.asarray(first)), _ranks(np.asarray(second))])
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    lengths = np.sqrt(np.square(centred).sum(axis=1))
    return float(centred[0] @ centred[1] / lengths.prod()) if lengths.all() else math.nan


def _ranks(values: Floats) -> Floats:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Floats = (ends - (counts - 1) / 2)[places]
    return ranks


def _as_curve(points: list[tuple[int, float]]) -> Curve:
    ordered = sorted(points)
    return Curve([step for step, _ in ordered], [value for _, value in ordered])


def _over_steps(group: Sequence[Finding]) -> Grid:
    rows = list(dict.fromkeys(_row_name(finding) for finding in group))
    steps = sorted({finding.step for finding in group})
    values = np.full((len(rows), len(steps)), np.nan)
    for finding in group:
        values[rows.index(_row_name(finding)), steps.index(finding.step)] = finding.value
    return _grid(group, rows, [f"{step:,}" for step in steps], "training steps", values, "")


def _between_layers(group: Sequence[Finding]) -> Grid:
    """Return what was found at the last step; both halves of the square are the same."""
    last = max(finding.step for finding in group)
    newest = [finding for finding in group if finding.step == last]
    names = list(dict.fromkeys(name for finding in newest for name in (finding.layer or "", finding.other or "")))
    values = np.full((len(names), len(names)), np.nan)
    for finding in newest:
        row, column = names.index(finding.layer or ""), names.index(finding.other or "")
        values[row, column] = values[column, row] = finding.value
    short = [_short(name) for name in names]
    return _grid(group, short, short, "layers", values, f", after {last:,} steps")


def _grid(
    group: Sequence[Finding], rows: list[str], columns: list[str], label: str, values: Floats, ending: str
) -> Grid:
    what = group[0]
    known = [part for part in (what.metric, what.component, what.data_type, what.data_split, what.against) if part]
    low, high = _ends(what.metric, values)
    return Grid(
        name="_".join(known),
        title=_title(what) + ending,
        rows=rows,
        columns=columns,
        column_label=label,
        values=values,
        low=low,
        high=high,
    )


def _ends(metric: str, values: Floats) -> tuple[float, float]:
    """Return what the colours' ends stand for: of scores and comparisons all that they can be, else what was found."""
    finite = values[np.isfinite(values)]
    found = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if metric in TITLES:
        return (-1.0, 1.0) if metric == META_COSINE else found
    try:
        known = measures.get(metric)
    except UnknownNameError:  # a score of heads
        return (-1.0, 1.0) if metric == COPY else (0.0, 1.0)
    return known.range if known.of in ("pair", "gradients") else found


def _title(what: Finding) -> str:
    if what.metric in TITLES:
        return TITLES[what.metric]
    if what.data_type is None:
        return SCORES.get(what.metric) or _title_of_matched(what.metric)
    subject = "OV circuits" if what.component == OV_CIRCUIT else what.data_type
    subject += " of values and outputs" if what.component == OV_CIRCUIT and what.data_type != "weights" else ""
    batch = {"val": ", validation batch", "train": ", training batch", None: ""}[what.data_split]
    against = {
        "step": f", against step {what.other}",
        "runs": f", against {what.other}",
        "splits": ", against the other batch",
    }
    return f"{measures.get(what.metric).label}: {subject}{batch}{against.get(what.against or '', '')}"


def _title_of_matched(metric: str) -> str:
    kind, _, n_matched = metric.removeprefix("induction_").partition("_")
    of = {"languages": "new languages", "shuffled": "new languages, shuffled"}.get(kind, kind)
    tokens = "token" if n_matched == "1" else f"{n_matched} tokens"
    return f"Induction score on {of}: the newest {tokens} matched"


def _row_name(finding: Finding) -> str:
    layer = _short(finding.layer or "")
    return layer if finding.head is None else f"block {layer}, head {finding.head}"


def _short(layer: str) -> str:
    """Return a layer's name without what all layers have in common, in Pico's words, which say what it does."""
    return pico_name(layer).removeprefix("layers.")
