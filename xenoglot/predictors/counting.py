r"""Counts of what followed each context: the ground of every predictor that learns a Markov law, of whatever order.

The contexts of a token are the last 0, 1, ..., D tokens before it, the most recent first; before the row there stands
MASK. They are the path from the root of a tree to one of its leaves, and only the nodes that were met are kept, in a
hash table. Each node s of the path gives the estimate of its own Dirichlet(alpha, ..., alpha) row,

.. math::
    e_s(v) = \frac{N_s(v) + \alpha}{N_s + \alpha V},

and a predictor is a mixture of the D + 1 estimates. The predictors differ in how the depths are weighed:

- `DEEPEST`: the context of D tokens alone;
- `ONE_FOR_ALL`: one depth is right for all contexts; it is learned;
- `EACH_CONTEXT`: every context has its own depth, as in a tree that splits or does not; it is learned at every node.

MASK in the inputs is read as a context, but not counted: it does not say which token followed.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from xenoglot.kernels import EMPTY, compiled, empty_slots, exponential, inlined, logarithm, run_rows, slot_of
from xenoglot.languages.base import MASK, Floats, Nats, Tokens
from xenoglot.options import check_options, option
from xenoglot.predictors.base import Exactness, Predictor

__all__ = ["DEEPEST", "EACH_CONTEXT", "ONE_FOR_ALL", "CountingPredictor"]

DEEPEST, ONE_FOR_ALL, EACH_CONTEXT = range(3)


@dataclass(frozen=True, kw_only=True)
class CountingPredictor(Predictor):
    """A mixture of the estimates of the contexts of length 0 to D."""

    depth_law: ClassVar[int]
    """`DEEPEST`, `ONE_FOR_ALL` or `EACH_CONTEXT`."""

    vocab_size: int = option(64, "ordinary tokens, 1..V", unit="tokens", minimum=2, maximum=2**31 - 3)
    alpha: float = option(1.0, "concentration of each row's Dirichlet prior", minimum=1e-300, maximum=1e6)
    bound: bool = option(False, "whether it reads languages of another prior, and so only bounds the best loss")

    def __post_init__(self) -> None:
        check_options(self)

    @property
    @abstractmethod
    def greatest_depth(self) -> int:
        """The longest context, D."""

    @property
    def n_tokens(self) -> int:
        return self.vocab_size + 1

    @property
    def exactness(self) -> Exactness:
        return "bound" if self.bound else "exact"

    def _predict(self, inputs: Tokens) -> Floats:
        probabilities = np.zeros((*inputs.shape, self.n_tokens))
        self._follow(inputs, inputs, np.empty((len(inputs), 0), np.float32), probabilities)
        with np.errstate(divide="ignore"):
            return np.log(probabilities)

    def _nats(self, inputs: Tokens, targets: Tokens) -> Nats:
        nats = np.empty(inputs.shape, np.float32)
        self._follow(inputs, targets, nats, np.empty((len(inputs), 0, 0)))
        return nats

    def _follow(self, inputs: Tokens, targets: Tokens, nats: Nats, probabilities: Floats) -> None:
        depth, length = self.greatest_depth, inputs.shape[1]
        n_nodes = min(1 + (length + 1) * depth, sum((self.vocab_size + 1) ** d for d in range(depth + 1)))
        n_counts = min(length * (depth + 1), n_nodes * self.vocab_size)
        setting = (self.depth_law, depth, self.vocab_size, float(self.alpha), n_nodes, n_counts)

        def work(first: int, last: int) -> None:
            rows = slice(first, last)
            _follow_rows(inputs[rows], targets[rows], setting, nats[rows], probabilities[rows])

        run_rows(work, n_rows=len(inputs), length=length, threads=None)


@compiled
def _follow_rows(inputs: Any, targets: Any, setting: Any, nats: Any, probabilities: Any) -> None:
    for row in range(len(inputs)):
        _follow_row(inputs[row], targets[row], setting, nats[row], probabilities[row])


@compiled
def _follow_row(inputs: Any, targets: Any, setting: Any, nats: Any, probabilities: Any) -> None:
    law, depth, vocab_size, alpha, n_nodes, n_counts = setting
    tree = _open_tree(vocab_size, n_nodes, n_counts)
    memory = np.zeros(n_nodes if law == EACH_CONTEXT else depth + 1)
    path = np.zeros(depth + 1, np.int64)
    estimates, weights, mixtures = np.empty(depth + 1), np.empty(depth + 1), np.empty(depth + 1)
    _walk(tree, inputs, 0, path)
    for t in range(len(inputs)):
        if inputs[t] != MASK:
            _estimate(tree, path, inputs[t], alpha, estimates)
            _learn_depth(law, memory, path, estimates, mixtures)
            _count(tree, path, inputs[t])
        _walk(tree, inputs, t + 1, path)
        _weigh_depths(law, memory, path, weights)
        if nats.size:
            nats[t] = np.inf
            if targets[t] != MASK:
                _estimate(tree, path, targets[t], alpha, estimates)
                nats[t] = -logarithm(_dot(weights, estimates))
        else:
            for v in range(1, vocab_size + 1):
                _estimate(tree, path, v, alpha, estimates)
                probabilities[t, v] = _dot(weights, estimates)


# --- the tree --------------------------------------------------------------------------------------------------------


@compiled
def _open_tree(vocab_size: int, n_nodes: int, n_counts: int) -> Any:
    """Make room for a tree: its edges by (node, symbol), its counts by (node, token), the nodes' totals, its size."""
    edges, counted = empty_slots(n_nodes), empty_slots(n_counts)
    size = np.array([1, vocab_size], np.int64)  # nodes so far, the root among them; V
    return (
        edges,
        np.empty(len(edges), np.int64),
        counted,
        np.zeros(len(counted), np.int64),
        np.zeros(n_nodes, np.int64),
        size,
    )


@inlined
def _key(tree: Any, node: int, symbol: int) -> int:
    return np.uint64(node) * np.uint64(tree[5][1] + 1) + np.uint64(symbol) + np.uint64(1)  # type: ignore[return-value]


@compiled
def _walk(tree: Any, inputs: Any, end: int, path: Any) -> None:
    """Find the contexts of the token that follows ``inputs[:end]``, adding the nodes that are not there yet."""
    edges, children, _, _, _, size = tree
    path[0] = 0
    for d in range(1, len(path)):
        symbol = inputs[end - d] if d <= end else MASK
        key = _key(tree, path[d - 1], symbol)
        slot = slot_of(edges, key)
        if edges[slot] == EMPTY:
            edges[slot] = key
            children[slot] = size[0]
            size[0] += 1
        path[d] = children[slot]


@compiled
def _estimate(tree: Any, path: Any, token: int, alpha: float, estimates: Any) -> None:
    """Write (N_s(v) + alpha) / (N_s + alpha V) for every node s of the path."""
    counted, counts, totals, vocab_size = tree[2], tree[3], tree[4], tree[5][1]
    for d in range(len(path)):
        total = totals[path[d]]
        count = counts[slot_of(counted, _key(tree, path[d], token))] if total > 0 else 0
        estimates[d] = (count + alpha) / (total + alpha * vocab_size)


@compiled
def _count(tree: Any, path: Any, token: int) -> None:
    counted, counts, totals = tree[2], tree[3], tree[4]
    for d in range(len(path)):
        key = _key(tree, path[d], token)
        slot = slot_of(counted, key)
        counted[slot] = key
        counts[slot] += 1
        totals[path[d]] += 1


# --- which depth is right: memory is ln evidence per depth, or ln odds of a split per node ----------------------------


@compiled
def _weigh_depths(law: int, memory: Any, path: Any, weights: Any) -> None:
    """Write the share of each depth in the mixture; they sum to one."""
    depth = len(path) - 1
    if law == DEEPEST:
        weights[:] = 0.0
        weights[depth] = 1.0
    elif law == ONE_FOR_ALL:
        largest, total = np.max(memory), 0.0
        for d in range(depth + 1):
            weights[d] = exponential(memory[d] - largest)
            total += weights[d]
        for d in range(depth + 1):
            weights[d] /= total
    else:
        reached = 1.0
        for d in range(depth):
            log_odds = memory[path[d]]
            weights[d] = reached / (1.0 + exponential(log_odds))
            reached /= 1.0 + exponential(-log_odds)
        weights[depth] = reached


@compiled
def _learn_depth(law: int, memory: Any, path: Any, estimates: Any, mixtures: Any) -> None:
    """Update the memory by a token, given the estimates of it.

    In logarithms, because after many tokens a share rounds to 0 or 1 and could never come back.
    """
    depth = len(path) - 1
    if law == ONE_FOR_ALL:
        for d in range(depth + 1):
            memory[d] += logarithm(estimates[d])
        memory -= np.max(memory)
    elif law == EACH_CONTEXT:
        mixtures[depth] = estimates[depth]
        for d in range(depth - 1, -1, -1):
            log_odds = memory[path[d]]
            staying = estimates[d] / (1.0 + exponential(log_odds))
            mixtures[d] = staying + mixtures[d + 1] / (1.0 + exponential(-log_odds))
            memory[path[d]] += logarithm(mixtures[d + 1] / estimates[d])


@inlined
def _dot(weights: Any, estimates: Any) -> float:
    total = 0.0
    for d in range(len(weights)):
        total += weights[d] * estimates[d]
    return total
