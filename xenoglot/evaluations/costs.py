"""What a step costs: arithmetic operations, counted by torch itself, and seconds.

```python
meta_step_costs(decoder, {"ridge": learner}, [tasks(index) for index in range(8)])
```
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from xenoglot.adaptation import MetaLearner
from xenoglot.decoder import Decoder
from xenoglot.episodes import Episode
from xenoglot.evaluations.base import Row
from xenoglot.rng import generator

__all__ = ["backward_flops", "meta_step_costs"]

REPEATS = 3
"""Each task is timed so often, in turns, and the median counts: the machine may have other work."""


def backward_flops(loss: Callable[[], Tensor]) -> int:
    """Return the operations of a loss's forward and backward pass: multiplications and additions, of matrices only.

    No ``.grad`` is left. Attention is counted as matrix products, without what a causal mask would spare.

    Example:
        >>> weight = torch.ones(3, 5, requires_grad=True)
        >>> backward_flops(lambda: (torch.ones(2, 3) @ weight).sum())   # 2 * 2 * 3 * 5, and the same for its gradient
        120
    """
    with FlopCounterMode(display=False) as counter, sdpa_kernel([SDPBackend.MATH]):
        _backward(loss)
    return int(counter.get_total_flops())


def meta_step_costs(decoder: Decoder, learners: Mapping[str, MetaLearner], episodes: Sequence[Episode]) -> list[Row]:
    """Measure a step on one task by each way of adapting, beside next-token prediction on the same sentences.

    Args:
        decoder: What adapts; its parameters and gradients stay as they were.
        learners: Ways of adapting, by name.
        episodes: Tasks, over which costs are averaged.

    Returns:
        A row for each way, with slice "step": ``flops``, ``seconds``, and both over those of next-token prediction on
        the sentences of both sets, padding included: ``flops_ratio`` and ``seconds_ratio``.
    """
    peer = "next-token prediction on the same sentences"
    losses: dict[str, list[Callable[[], Tensor]]] = {
        peer: [_next_tokens(decoder, episode) for episode in episodes],
        **{name: [_adapting(decoder, each, episode) for episode in episodes] for name, each in learners.items()},
    }
    flops = {name: statistics.mean(map(backward_flops, of_step)) for name, of_step in losses.items()}
    seconds: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(REPEATS):
        for name, of_step in losses.items():
            started = time.perf_counter()
            for loss in of_step:
                _backward(loss)
            seconds[name].append((time.perf_counter() - started) / len(episodes))
    medians = {name: statistics.median(measured) for name, measured in seconds.items()}
    return [
        Row(
            slices={"step": name},
            metrics={
                "flops": float(flops[name]),
                "seconds": medians[name],
                "flops_ratio": flops[name] / flops[peer],
                "seconds_ratio": medians[name] / medians[peer],
            },
        )
        for name in losses
    ]


def _adapting(decoder: Decoder, learner: MetaLearner, episode: Episode) -> Callable[[], Tensor]:
    def loss() -> Tensor:
        measured: Tensor = learner(decoder, episode, generator(0, "cost")).loss
        return measured

    return loss


def _next_tokens(decoder: Decoder, episode: Episode) -> Callable[[], Tensor]:
    def loss() -> Tensor:
        sets = [examples.token_ids_NT for examples in (episode.support, episode.query)]
        parts = [F.cross_entropy(decoder(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()) for ids in sets]
        return torch.stack(parts).sum()

    return loss


def _backward(loss: Callable[[], Tensor]) -> None:
    """Go through a loss forwards and backwards, without leaving gradients anywhere."""
    value = loss()
    leaves = _leaves(value)
    torch.autograd.grad(value, leaves, allow_unused=True)


def _leaves(value: Tensor) -> list[Tensor]:
    """Return the tensors that a graph begins with."""
    found, seen, waiting = list[Tensor](), set(), [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        waiting += [following for following, _ in node.next_functions]
    return found
