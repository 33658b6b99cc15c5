"""The contract of heads: from the features of a task's support set to weights, and from weights to logits.

```python
weights = head.start(features_ND, labels_N, n_way, rng)     # drawn, solved for, or generated: for this task only
logits_NC = head.logits(weights, other_features_ND)
```

A head's own parameters, if it has any, are what all tasks share: they are learned by the outer loop. To add one, put a
file into ``xenoglot/heads/`` (or anywhere on the path): a class with a ``name``, `start` and `logits`.

Shapes: N examples, D numbers of a feature, C = n_way classes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from xenoglot.config.adaptation import ClassifierHeadConfig

__all__ = ["Head", "Weights", "new_matrix"]

Weights = dict[str, Tensor]
"""Tensors by name."""


class Head(nn.Module, ABC):
    """What sorts features into classes.

    Args:
        config: Its options.
        width: Numbers of a feature, D.
        rng: Where parameters that all tasks share are drawn from.
    """

    name: ClassVar[str]
    """What the head is called."""
    takes_steps: ClassVar[bool] = True
    """Whether gradient steps on the support set follow the start."""
    reads_support: ClassVar[bool] = True
    """Whether the start depends on the support set."""

    def __init__(self, config: ClassifierHeadConfig, width: int, rng: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.width = width

    @abstractmethod
    def start(self, features_ND: Tensor, labels_N: Tensor, n_way: int, rng: torch.Generator) -> Weights:
        """Return a task's weights before any gradient step.

        Args:
            features_ND: Of the support set, float32 or float64; any, as [0, D], where the start does not read them.
            labels_N: Their classes, int64, 0 to n_way - 1.
            n_way: How many classes there are, C.
            rng: Where a fresh head is drawn from; on the CPU, so that it is the same on every device.
        """

    @abstractmethod
    def logits(self, weights: Weights, features_ND: Tensor, dropout: torch.Generator | None = None) -> Tensor:
        """Return the logits [N, C] of features under a task's weights.

        Args:
            weights: Of the task.
            features_ND: Of any examples, float32 or float64.
            dropout: Draws which numbers are left out, in gradient steps only; none are if None.
        """


def new_matrix(n_outputs: int, n_inputs: int, method: str, rng: torch.Generator, *, like: Tensor) -> Tensor:
    r"""Draw a matrix [n_outputs, n_inputs] of independent numbers, of the type and on the device of another tensor.

    .. math::
        \mathrm{xavier}: U(-a, a),\ a = \sqrt{6 / (n_{in} + n_{out})} \qquad
        \mathrm{kaiming}: N(0, 2 / n_{in}) \qquad \mathrm{normal}: N(0, 0.02^2) \qquad \mathrm{zero}: 0

    Sources: Glorot and Bengio 2010; He et al. 2015, arXiv 1502.01852.
    """
    matrix = torch.empty(n_outputs, n_inputs)
    if method == "xavier":
        bound = math.sqrt(6 / (n_inputs + n_outputs))
        matrix.uniform_(-bound, bound, generator=rng)
    elif method == "kaiming":
        matrix.normal_(0.0, math.sqrt(2 / n_inputs), generator=rng)
    elif method == "normal":
        matrix.normal_(0.0, 0.02, generator=rng)
    else:
        matrix.zero_()
    return matrix.to(like)
