"""A linear head that solves for its weights: as if gradient steps had gone on for ever."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xenoglot.config.adaptation import ClassifierHeadConfig
from xenoglot.heads.base import Head, Weights

__all__ = ["Ridge"]

INITIAL_SCALE = 10.0


class Ridge(Head):
    r"""Ridge regression from features to one-hot labels, in its dual form: a system of N equations, however wide D is.

    .. math::
        W = X^\top (X X^\top + \lambda D I)^{-1} Y, \qquad z = s\,((x - \bar x) W + \bar y)

    where the rows of X and Y are the support's features and one-hot labels less their means. The outer loop learns
    lambda, which starts at 1 (in units of D, as features of D numbers near 1 have a squared norm near D), and s, which
    starts at 10; both are positive by construction.

    Source: R2-D2, Bertinetto et al. 2019, arXiv 1805.08136, equations 4 to 6. Where we differ: means are taken off, so
    that the bias is not penalised, and no bias is learned for the logits, since classes are exchangeable.
    """

    name: ClassVar[str] = "ridge"
    takes_steps: ClassVar[bool] = False

    def __init__(self, config: ClassifierHeadConfig, width: int, rng: torch.Generator) -> None:
        super().__init__(config, width, rng)
        self.log_penalty = nn.Parameter(torch.zeros(()))
        self.log_scale = nn.Parameter(torch.tensor(math.log(INITIAL_SCALE)))

    def start(self, features_ND: Tensor, labels_N: Tensor, n_way: int, rng: torch.Generator) -> Weights:
        with torch.autocast(features_ND.device.type, enabled=False):  # half precision would spoil the system
            targets_NC = F.one_hot(labels_N, n_way).to(features_ND)
            mean_D, mean_C = features_ND.mean(dim=0), targets_NC.mean(dim=0)
            x_ND = features_ND - mean_D
            penalty_NN = self.log_penalty.exp() * self.width * torch.eye(len(x_ND)).to(x_ND)
            dual_NC = torch.linalg.solve(x_ND @ x_ND.T + penalty_NN, targets_NC - mean_C)
            weight_CD = dual_NC.T @ x_ND
            return {"weight": weight_CD, "bias": mean_C - weight_CD @ mean_D}

    def logits(self, weights: Weights, features_ND: Tensor, dropout: torch.Generator | None = None) -> Tensor:
        return self.log_scale.exp() * F.linear(features_ND, weights["weight"], weights["bias"])
