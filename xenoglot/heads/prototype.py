"""A head whose weights are the mean features of each class."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xenoglot.config.adaptation import ClassifierHeadConfig
from xenoglot.heads.base import Head, Weights

__all__ = ["Prototype"]

INITIAL_SCALE = 10.0


class Prototype(Head):
    r"""The nearer a class's mean, its prototype, the likelier the class.

    .. math::
        c_k = \frac{1}{|S_k|} \sum_{i \in S_k} x_i, \qquad z_k = -\frac{s}{D} \lVert x - c_k \rVert^2

    Sources: Snell et al. 2017, arXiv 1703.05175, equations 1 and 2; trained on masked-word tasks: Li and Zhang,
    ACL anthology 2021.metanlp-1.8. Where we differ: theirs is s = D, with which features of unit size are told apart
    too surely at the start; the outer loop learns s, positive by construction, and it starts at 10.
    """

    name: ClassVar[str] = "prototype"
    takes_steps: ClassVar[bool] = False

    def __init__(self, config: ClassifierHeadConfig, width: int, rng: torch.Generator) -> None:
        super().__init__(config, width, rng)
        self.log_scale = nn.Parameter(torch.tensor(math.log(INITIAL_SCALE)))

    def start(self, features_ND: Tensor, labels_N: Tensor, n_way: int, rng: torch.Generator) -> Weights:
        membership_CN = F.one_hot(labels_N, n_way).T.to(features_ND)
        return {"prototypes": membership_CN @ features_ND / membership_CN.sum(dim=1, keepdim=True).clamp(min=1)}

    def logits(self, weights: Weights, features_ND: Tensor, dropout: torch.Generator | None = None) -> Tensor:
        differences_NCD = features_ND[:, None] - weights["prototypes"]
        return -self.log_scale.exp() * differences_NCD.square().mean(dim=2)
