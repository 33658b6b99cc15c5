"""A linear head that a network writes from the support set, and gradient steps improve."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xenoglot.config.adaptation import ClassifierHeadConfig
from xenoglot.heads.base import Head, Weights
from xenoglot.heads.networks import draw_network, run_network

__all__ = ["Generated"]


class Generated(Head):
    r"""Each class's row of the matrix, and its bias, are the mean of what a network makes of its examples.

    .. math::
        (w_c, b_c) = \frac{1}{|S_c|} \sum_{i \in S_c} g(x_i), \qquad z_c = w_c \cdot x + b_c

    with a tanh network g of ``num_layers`` hidden layers, which all tasks share and the outer loop learns.

    Source: LEOPARD, Bansal et al. 2020, arXiv 1911.03863, section 3. Where we differ: it classifies a projection of
    the features, this the features themselves.
    """

    name: ClassVar[str] = "generated"

    def __init__(self, config: ClassifierHeadConfig, width: int, rng: torch.Generator) -> None:
        super().__init__(config, width, rng)
        sizes = [width, *[config.hidden_dim] * config.num_layers, width + 1]
        drawn = draw_network(sizes, config.init_method, rng, like=torch.zeros(()))
        self.generator = nn.ParameterDict(drawn)

    def start(self, features_ND: Tensor, labels_N: Tensor, n_way: int, rng: torch.Generator) -> Weights:
        membership_CN = F.one_hot(labels_N, n_way).T.to(features_ND)
        written_NE = run_network(dict(self.generator.items()), features_ND, torch.tanh)
        rows_CE = membership_CN @ written_NE / membership_CN.sum(dim=1, keepdim=True).clamp(min=1)
        return {"weight_0": rows_CE[:, : self.width], "bias_0": rows_CE[:, self.width]}

    def logits(self, weights: Weights, features_ND: Tensor, dropout: torch.Generator | None = None) -> Tensor:
        return run_network(weights, features_ND, F.relu)
