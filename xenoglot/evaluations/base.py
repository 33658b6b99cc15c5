"""The contract of evaluations: rows of measurements, each with the slice of the data that it is about.

```python
rows = evaluation(model, rng)
rows[0].slices, rows[0].metrics      # {"tokens_read": 1}, {"loss_nats": 2.8, "floor_nats": 2.2, ...}
evaluation.references(rng)           # the same of the best learners: no model is asked
evaluation.samples(model, rng, 6)    # a few rows, token by token
```

An evaluation draws from ``rng`` only, so the same generator measures two models on the same data. To add one, put a
file into ``xenoglot/evaluations/``: a class with a ``name`` and `__call__`. Fields that are declared with `option` are
flags of `xenoglot evaluate`; what other fields are filled with, `xenoglot.applying.evaluating_sources` knows.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Evaluation", "Row", "headline"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of results.

    Attributes:
        slices: Which part of the data it is about, such as ``{"tokens_read": 17}``.
        metrics: What was measured, under names that end in their unit, such as ``loss_nats``; nan if there is no
            such number, as for the tokens that a model needs for what it never learns.
    """

    slices: Mapping[str, str | int]
    metrics: Mapping[str, float]

    def to_mapping(self) -> dict[str, dict[str, Any]]:
        """Return the row as plain values, ready for JSON, where nan is null."""
        metrics = {name: None if math.isnan(value) else value for name, value in self.metrics.items()}
        return {"slices": dict(self.slices), "metrics": metrics}


class Evaluation(ABC):
    """Something to measure about a model."""

    name: ClassVar[str]
    """What the evaluation is called."""

    @abstractmethod
    def __call__(self, model: nn.Module, rng: np.random.Generator) -> list[Row]:
        """Measure a model, leaving its parameters, gradients and mode as they were.

        Args:
            model: Maps ids [B, T] to logits [B, T, V].
            rng: Where the data is drawn from.
        """

    def references(self, rng: np.random.Generator) -> list[Row]:
        """Measure what the best learners could do on the same data; no rows where nobody knows.

        Args:
            rng: As for the model, in the same state, so that the data is the same.
        """
        return []

    def samples(self, model: nn.Module, rng: np.random.Generator, n_rows: int) -> dict[str, Any]:
        """Return a few rows of the data with what each token cost the model, as plain values; empty unless overridden.

        Args:
            model: As in `__call__`.
            rng: Where the data is drawn from.
            n_rows: How many rows.
        """
        return {}


def headline(rows: Sequence[Row]) -> dict[str, float]:
    """Return the few numbers of an evaluation that are followed over training, without their intervals.

    Args:
        rows: Of which those about a part, a domain or a summary count, and not those about single positions.

    Example:
        >>> rows = [Row(slices={"part": "last quarter"}, metrics={"excess_nats": 0.1, "excess_nats_low": 0.05})]
        >>> headline([*rows, Row(slices={"tokens_read": 1}, metrics={"excess_nats": 2.5})])
        {'evaluation/last_quarter/excess_nats': 0.1}
    """
    metrics: dict[str, float] = {}
    for row in rows:
        if set(row.slices) in ({"part"}, {"summary"}, {"domain"}, {"domains"}):
            [about] = row.slices.values()
            prefix = "evaluation/" if "summary" in row.slices else f"evaluation/{str(about).replace(' ', '_')}/"
            followed = (name for name in row.metrics if not name.endswith(("_low", "_high")))
            metrics |= {prefix + name: row.metrics[name] for name in followed}
    return metrics
