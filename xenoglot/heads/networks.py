"""Heads that are drawn anew for each task, and learn it by gradient steps alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from xenoglot.heads.base import Head, Weights, new_matrix

__all__ = ["MLP", "Linear", "draw_network", "run_network"]


def draw_network(sizes: list[int], method: str, rng: torch.Generator, *, like: Tensor) -> Weights:
    """Draw matrices, and biases of zero, of a network with these widths from inputs to outputs.

    Example:
        >>> weights = draw_network([8, 4, 3], "xavier", torch.Generator(), like=torch.zeros(1))
        >>> {name: list(weight.shape) for name, weight in weights.items()}
        {'weight_0': [4, 8], 'bias_0': [4], 'weight_1': [3, 4], 'bias_1': [3]}
    """
    weights: Weights = {}
    for layer, (n_inputs, n_outputs) in enumerate(itertools.pairwise(sizes)):
        is_last = layer == len(sizes) - 2
        # Were all layers zero, no gradient would ever reach the first.
        drawn_as = "xavier" if method == "zero" and not is_last else method
        weights[f"weight_{layer}"] = new_matrix(n_outputs, n_inputs, drawn_as, rng, like=like)
        weights[f"bias_{layer}"] = like.new_zeros(n_outputs)
    return weights


def run_network(
    weights: Weights,
    x_ND: Tensor,
    activation: Callable[[Tensor], Tensor],
    hidden: Callable[[Tensor], Tensor] = lambda hidden_NH: hidden_NH,
) -> Tensor:
    r"""Apply h <- hidden(activation(W h + b)) for every layer but the last, and W h + b for the last."""
    last = len(weights) // 2 - 1
    for layer in range(last + 1):
        x_ND = F.linear(x_ND, weights[f"weight_{layer}"], weights[f"bias_{layer}"])
        if layer < last:
            x_ND = hidden(activation(x_ND))
    return x_ND


class MLP(Head):
    """``num_layers`` hidden layers of ``hidden_dim`` numbers behind relu, and one matrix to the classes.

    In gradient steps each hidden number is left out with probability p = ``dropout``, and the others are multiplied by
    1 / (1 - p). What is judged afterwards, query sentences above all, sees all of them.
    """

    name: ClassVar[str] = "mlp"
    reads_support: ClassVar[bool] = False

    def start(self, features_ND: Tensor, labels_N: Tensor, n_way: int, rng: torch.Generator) -> Weights:
        sizes = [self.width, *[self.config.hidden_dim] * self.config.num_layers, n_way]
        return draw_network(sizes, self.config.init_method, rng, like=features_ND)

    def logits(self, weights: Weights, features_ND: Tensor, dropout: torch.Generator | None = None) -> Tensor:
        if dropout is None or not self.config.dropout:
            return run_network(weights, features_ND, F.relu)
        kept_share = 1 - self.config.dropout

        def thinned(hidden_NH: Tensor) -> Tensor:
            is_kept_NH = torch.empty(hidden_NH.shape).bernoulli_(kept_share, generator=dropout)
            return hidden_NH * is_kept_NH.to(hidden_NH) / kept_share

        return run_network(weights, features_ND, F.relu, thinned)


class Linear(Head):
    """One matrix and a bias: logistic regression on the features."""

    name: ClassVar[str] = "linear"
    reads_support: ClassVar[bool] = False

    def start(self, features_ND: Tensor, labels_N: Tensor, n_way: int, rng: torch.Generator) -> Weights:
        return draw_network([self.width, n_way], self.config.init_method, rng, like=features_ND)

    def logits(self, weights: Weights, features_ND: Tensor, dropout: torch.Generator | None = None) -> Tensor:
        return run_network(weights, features_ND, F.relu)
