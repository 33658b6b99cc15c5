"""The rates of gradient steps: fixed, or learned by the outer loop and positive by construction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from xenoglot.adaptation.selection import HEAD, layer_of
from xenoglot.config.adaptation import AdaptationConfig
from xenoglot.heads import Weights

__all__ = ["InnerRates"]

EVERYTHING = "everything"


class InnerRates(nn.Module):
    r"""How far each weight goes along its gradient at each step.

    A learned rate is alpha = ``inner_lr`` exp(a), where a starts at 0 and is what the outer loop changes: alpha stays
    positive, and an outer step changes it by a share of itself, however small it is.

    Sources: a rate for each number: Meta-SGD, Li et al. 2017, arXiv 1707.09835; for each layer and step: MAML++,
    Antoniou et al. 2019, arXiv 1810.09502. Where we differ: a head has one rate for all its numbers where others have
    one for each, as its classes are drawn anew for every task; and rates cannot become negative.

    Args:
        config: The first rate, what is learned, and for how many steps; later ones repeat the last.
        shapes: Of the model's own weights that adapt, by name. A head's need not be known.

    Example:
        >>> config = AdaptationConfig(inner_lr=0.5, inner_steps=2, learn_inner_lr="per-step")
        >>> InnerRates(config, {}).log_rates["everything"].shape
        torch.Size([2])
        >>> [rates["head.bias"].item() for rates in InnerRates(config, {}).table(["head.bias"], n_steps=3)]
        [0.5, 0.5, 0.5]
    """

    def __init__(self, config: AdaptationConfig, shapes: Mapping[str, torch.Size]) -> None:
        super().__init__()
        self._inner_lr = config.inner_lr
        self._learned = config.learn_inner_lr
        self._n_steps = max(1, config.inner_steps)
        groups: dict[str, torch.Size] = {}
        if self._learned != "none":
            groups = {self._group(name): self._shape(shape) for name, shape in shapes.items()}
            groups.setdefault(self._group(f"{HEAD}."), self._shape(torch.Size()))
        self.log_rates = nn.ParameterDict({group: torch.zeros(shape) for group, shape in groups.items()})

    def table(self, names: Iterable[str], n_steps: int) -> list[Weights]:
        """Return the rates of the named weights at each step, of shapes that the weights can be multiplied by."""
        names = list(names)
        n_different = min(n_steps, self._n_steps) if self._learned.endswith("step") else 1
        different = [{name: self._rate(name, step) for name in names} for step in range(n_different)]
        return [different[min(step, n_different - 1)] for step in range(n_steps)]

    def _rate(self, name: str, step: int) -> Tensor:
        if self._learned == "none":
            return torch.tensor(self._inner_lr, dtype=torch.float64)  # of no dimension: it leaves the weights' type
        log_rate: Tensor = self.log_rates[self._group(name)]
        return self._inner_lr * torch.exp(log_rate[step] if self._learned.endswith("step") else log_rate)

    def _group(self, name: str) -> str:
        """Return under which name a weight's rate is kept; no dots, as modules allow none."""
        if self._learned == "per-step":
            return EVERYTHING
        is_single = self._learned == "per-parameter" and layer_of(name) != HEAD
        return (name if is_single else layer_of(name)).replace(".", "/")

    def _shape(self, weight: torch.Size) -> torch.Size:
        if self._learned == "per-parameter":
            return weight
        return torch.Size([self._n_steps] if self._learned.endswith("step") else [])
