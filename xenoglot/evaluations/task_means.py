r"""Means over tasks and over models that differ in their seed only, and differences of models on the same tasks.

With E tasks, S models that differ in their seed only, and x the accuracy or loss of each on each, a mean has the
interval

.. math::
    \bar x \pm \sqrt{\left(1.96\, s_E / \sqrt E\right)^2 + \left(t_{S-1}\, s_S / \sqrt S\right)^2}

where s_E is the standard deviation over tasks of the mean over models, s_S that over models of the mean over tasks, and
t_{S-1} Student's quantile at 97.5 %. With one model it is the interval over tasks alone. It errs on the wide side: what
chance a task and a model have together is in both terms.
"""

from __future__ import annotations

import math

from xenoglot.evaluations.measuring import NORMAL_95
from xenoglot.languages.base import Floats

__all__ = ["mean_interval", "paired_difference", "seed_interval"]

STUDENT_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Quantiles at 97.5 % of Student's distribution with 1, 2, ... degrees of freedom."""


def mean_interval(name: str, values_SE: Floats) -> dict[str, float]:
    """Return a mean and the ends of its 95 % interval over tasks and seeds: the module's formula.

    Args:
        name: Of what was measured.
        values_SE: Of each model on each task.

    Example:
        >>> import numpy as np
        >>> mean_interval("accuracy", np.array([[0.0, 1.0, 0.5, 0.5]]))["accuracy_high"]   # one model
        0.90...
        >>> same = np.array([[0.25, 0.75], [0.35, 0.85]])   # two models that differ by 0.1 on each of two tasks
        >>> mean_interval("accuracy", same)["accuracy_low"] < 0.55 - 12.706 * 0.05
        True
    """
    n_seeds, n_episodes = values_SE.shape
    mean = float(values_SE.mean())
    square = (NORMAL_95 * float(values_SE.mean(axis=0).std(ddof=1))) ** 2 / n_episodes
    if n_seeds > 1:
        square += (_student(n_seeds) * float(values_SE.mean(axis=1).std(ddof=1))) ** 2 / n_seeds
    half_width = math.sqrt(square)
    return {name: mean, f"{name}_low": mean - half_width, f"{name}_high": mean + half_width}


def seed_interval(name: str, values_S: Floats) -> dict[str, float]:
    """Return a mean over models that differ in their seed, and the ends of its 95 % interval; nan of one model.

    Args:
        name: Of what was measured.
        values_S: Of each model, all on the same tasks.

    Example:
        >>> import numpy as np
        >>> seed_interval("f1", np.array([0.1, 0.2, 0.3]))["f1_high"]   # 0.2 + 4.303 * 0.1 / sqrt(3)
        0.448...
    """
    mean, n_seeds = float(values_S.mean()), len(values_S)
    half_width = _student(n_seeds) * float(values_S.std(ddof=1)) / math.sqrt(n_seeds) if n_seeds > 1 else math.nan
    return {name: mean, f"{name}_low": mean - half_width, f"{name}_high": mean + half_width}


def paired_difference(name: str, first_SE: Floats, second_SE: Floats) -> dict[str, float]:
    """Return how much more the first has than the second on the same tasks, with the interval of the differences.

    Example:
        >>> import numpy as np
        >>> scores = np.array([[0.2, 0.9, 0.4]])
        >>> {key: round(value, 3) for key, value in paired_difference("accuracy", scores + 0.1, scores).items()}
        {'accuracy_difference': 0.1, 'accuracy_difference_low': 0.1, 'accuracy_difference_high': 0.1}
    """
    return mean_interval(f"{name}_difference", first_SE - second_SE)


def _student(n_seeds: int) -> float:
    """Return Student's quantile for a mean over so many models."""
    return STUDENT_95[min(n_seeds - 2, len(STUDENT_95) - 1)]
