r"""Losses [N, T] in a few numbers: by position, by part, and how fast the language was learned.

A row "tokens_read = t" is about the prediction after reading t tokens; "part" rows are means over positions. Two
numbers say how a model learns in context:

- **In-context score**, the late loss minus the early one, below zero where reading helps,

  .. math::
      \frac{1}{w} \sum_{t = T - w + 1}^{T} \ell_t - \frac{1}{w} \sum_{t = T/10 - w + 1}^{T/10} \ell_t

  with w = T / 20. Source: Olsson et al., "In-context Learning and Induction Heads", 2022 (arXiv 2209.11895): the loss
  at the 500th token minus that at the 50th, of 512. Where we differ: any length T, and each of the two is averaged over
  the w positions that end there, since one position alone is noise.

- **Tokens to epsilon**: the least t such that, after t tokens or any more, the next w predictions lose on average over
  languages at most epsilon above the floor, w = T / 16; there is none if the last w lose more. Its interval is of
  the bootstrap: the quantiles at 2.5 and 97.5 % over languages drawn again, with replacement. Ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from xenoglot.evaluations.base import Row
from xenoglot.evaluations.measuring import interval
from xenoglot.languages.base import Floats

__all__ = ["in_context_scores", "in_log_bins", "learning_row", "rows_by_position", "tokens_to_epsilon"]

RESAMPLES = 400
BINS = 48
"""Positions are averaged in bins of equal width on the logarithmic axis: far out, one position alone is noise."""
Slices = Mapping[str, str | int]


def rows_by_position(
    nats: Mapping[str, Floats], constants: Mapping[str, float], slices: Slices | None = None
) -> list[Row]:
    """Summarise measurements by position and by part.

    Args:
        nats: Measurements [N, T] by name, where nan means that a row ended before.
        constants: Metrics that are the same everywhere.
        slices: What all rows are about.
    """
    length = next(iter(nats.values())).shape[1]
    parts: list[tuple[Slices, slice]] = [({"tokens_read": t + 1}, slice(t, t + 1)) for t in range(length)]
    parts += [({"part": "last quarter"}, slice(3 * length // 4, None)), ({"part": "whole"}, slice(None))]
    return [
        Row(slices={**(slices or {}), **names}, metrics={**_means(nats, positions), **constants})
        for names, positions in parts
    ]


def _means(nats: Mapping[str, Floats], positions: slice) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name, values_NT in nats.items():
        part = values_NT[:, positions]
        counts_N = np.count_nonzero(~np.isnan(part), axis=1)
        by_row_N = np.nansum(part, axis=1)[counts_N > 0] / counts_N[counts_N > 0]
        metrics |= interval(name, float(np.nansum(part) / counts_N.sum()), by_row_N)
    return metrics


def learning_row(
    losses_NT: Floats,
    excess_NT: Floats | None,
    epsilon_nats: float,
    rng: np.random.Generator,
    slices: Slices | None = None,
) -> Row:
    """Say how fast the language was learned: the module's two numbers, with their intervals.

    Args:
        losses_NT: Losses; rows with a nan, which ended before, are left out.
        excess_NT: Losses above the floor; None where no floor is known, which leaves out the second number.
        epsilon_nats: How near to the floor counts as learned.
        rng: Of the bootstrap.
        slices: What the row is about, besides.
    """
    scores_N = in_context_scores(losses_NT[~np.isnan(losses_NT).any(axis=1)])
    mean = float(scores_N.mean()) if len(scores_N) else math.nan
    metrics = interval("in_context_score_nats", mean, scores_N)
    if excess_NT is not None:
        n_rows = len(excess_NT)
        shares_RN = rng.multinomial(n_rows, np.full(n_rows, 1 / n_rows), size=RESAMPLES) / n_rows
        counts_R = np.nan_to_num(tokens_to_epsilon(shares_RN @ excess_NT, epsilon_nats), nan=np.inf)
        low, high = np.quantile(counts_R, [0.025, 0.975], method="inverted_cdf")
        metrics |= {
            "tokens_to_epsilon": float(tokens_to_epsilon(excess_NT.mean(axis=0, keepdims=True), epsilon_nats)[0]),
            "tokens_to_epsilon_low": _number(low),
            "tokens_to_epsilon_high": _number(high),
            "epsilon_nats": epsilon_nats,
        }
    return Row(slices={**(slices or {}), "summary": "learning in context"}, metrics=metrics)


def in_context_scores(losses_NT: Floats) -> Floats:
    """Return each row's late loss minus its early loss, in nats, float64 [N].

    Example:
        >>> losses = np.linspace(4.0, 2.0, 512)[None]   # falls evenly: by 2 nats times 0.9
        >>> in_context_scores(losses).round(2)
        array([-1.8])
    """
    length = losses_NT.shape[1]
    width, early = max(1, length // 20), max(1, length // 10)
    late_N: Floats = losses_NT[:, length - width :].mean(axis=1)
    early_N: Floats = losses_NT[:, early - width : early].mean(axis=1)
    return late_N - early_N


def tokens_to_epsilon(excess_RT: Floats, epsilon_nats: float) -> Floats:
    """Return how many tokens bring each mean curve to within epsilon for good, float64 [R]; nan if none does.

    Example:
        >>> excess = np.array([1.0] * 40 + [0.05] * 60)[None]
        >>> tokens_to_epsilon(excess, 0.1)
        array([41.])
    """
    length = excess_RT.shape[1]
    width = max(1, length // 16)
    sums = np.cumsum(np.pad(excess_RT, ((0, 0), (1, 0))), axis=1)
    is_above = (sums[:, width:] - sums[:, :-width]) / width > epsilon_nats
    n_windows = is_above.shape[1]
    last_above_R = np.where(is_above.any(axis=1), n_windows - 1 - is_above[:, ::-1].argmax(axis=1), -1)
    return np.where(last_above_R == n_windows - 1, np.nan, last_above_R + 2.0)


def _number(value: float) -> float:
    return float(value) if math.isfinite(value) else math.nan


def in_log_bins(values_NT: Floats) -> tuple[Floats, Floats]:
    """Average over positions in bins of equal width on a logarithmic axis.

    Returns:
        The bins' middles [M], in tokens read, and the means [N, M].

    Example:
        >>> middles, means = in_log_bins(np.arange(1.0, 257.0)[None])
        >>> middles[:3].tolist(), means[0, :3].tolist(), len(middles) < 48
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], True)
    """
    length = values_NT.shape[1]
    edges = np.unique(np.geomspace(1, length + 1, BINS + 1).round().astype(int))
    means_NM: Floats = np.add.reduceat(values_NT, edges[:-1] - 1, axis=1) / np.diff(edges)
    middles_M: Floats = np.sqrt(edges[:-1] * (edges[1:] - 1))
    return middles_M, means_NM
