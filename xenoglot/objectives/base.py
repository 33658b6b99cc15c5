"""The contract of objectives: what is minimised, as a function of a model and a batch.

```python
result = objective(model, batch, rng)
result.loss.backward()
```

An objective leaves the parameters, their ``.grad`` and every random state as it found them, but for ``rng``, which is
its own. To add one, put a file into ``xenoglot/objectives/``: a class with a ``name`` and `__call__`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

__all__ = ["Objective", "Result"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What an objective found.

    Attributes:
        loss: A scalar to be minimised, with its graph.
        metrics: Scalars without graph, under names that end in their unit (``loss_nats``).
        branch: What names of the update's own metrics begin with (``meta_gradient_norm``), where steps are of several
            kinds that must not be mixed.
    """

    loss: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    branch: str = ""


class Objective(ABC):
    """Something to minimise."""

    name: ClassVar[str]
    """What the objective is called."""

    learned: nn.Module | None = None
    """What it learns itself besides the model, such as rates: trained along with it, and part of every checkpoint."""

    def needs_parameters(self, batch: Any) -> bool:
        """Say whether it works on the model's parameters, and does not just call the model.

        It is then given the bare `Decoder`, whose gradients are averaged over several processes in the end.
        """
        return False

    @abstractmethod
    def __call__(self, model: nn.Module, batch: Any, rng: np.random.Generator) -> Result:
        """Measure a model on a batch.

        Args:
            model: A `Decoder`, wrapped or not: maps ids [B, T] to logits [B, T, V], or to the mean loss of ``targets``.
            batch: The rows, or whatever the objective learns from.
            rng: For objectives that draw something; the same for the same seed and step.
        """
