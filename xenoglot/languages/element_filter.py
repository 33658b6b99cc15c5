"""The exact Bayes filter of MetaLM-1: which element is being read, and where in it.

A language is ``flat`` (its elements one behind the other), ``starts`` (where each starts, and where the last ends) and
its ``law``: (e, m, c(x | x), c(x | y), V, the separator or -1), as `xenoglot.languages.metalm_v1` lays them out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xenoglot.kernels import Real, aligned_zeros, compiled, nats_of, open_sum_tree, prefer_wide_vectors, sum_tree
from xenoglot.languages.base import MASK

__all__ = ["IMPOSSIBLE", "floor_with_separators", "floor_without_separators", "predict_rows"]

IMPOSSIBLE = 1e-300  # a belief's total below this means that the language cannot produce the input


@compiled
def _channel(read: int, clean: int, law: Any) -> Real:
    """Return c(read | clean), for a position within an element."""
    error_rate, mask_ratio, kept, replaced, _, separator = law
    if read == clean:
        return kept
    if read == MASK:
        return error_rate * mask_ratio
    return 0.0 if read == separator else replaced


@compiled
def floor_with_separators(flat: Any, starts: Any, law: Any, inputs: Any, targets: Any, floor_nats: Any) -> None:
    """Weigh the n elements that the current one may be: the position is known, so O(n) a token."""
    n_elements, separator = len(starts) - 1, law[5]
    weights = np.empty(n_elements)
    position = 0
    weights[:] = 1.0
    for t in range(len(inputs)):
        position = _read_with_separators(flat, starts, law, inputs[t], position, weights)
        total = 0.0
        hit = 0.0
        for k in range(n_elements):
            i = starts[k] + position
            if i <= starts[k + 1]:
                following = separator if i == starts[k + 1] else flat[i]
                total += weights[k]
                hit += weights[k] if following == targets[t] else 0.0
        floor_nats[t] = nats_of(hit / total)


@compiled
def _read_with_separators(flat: Any, starts: Any, law: Any, read: int, position: int, weights: Any) -> int:
    """Update the weights of the elements by one token; returns the position after it."""
    if read != law[5]:
        total = 0.0
        for k in range(len(weights)):
            i = starts[k] + position
            weights[k] *= _channel(read, flat[i], law) if i < starts[k + 1] else 0.0
            total += weights[k]
        if total >= IMPOSSIBLE:
            for k in range(len(weights)):
                weights[k] /= total
            return position + 1
    weights[:] = 1.0
    return 0


@compiled
def floor_without_separators(flat: Any, starts: Any, law: Any, inputs: Any, targets: Any, floor_nats: Any) -> None:
    """Filter over all (element, position) states, laid out flat: a step is a shift by one."""
    prefer_wide_vectors()
    n_states = len(flat)
    prior, posterior = aligned_zeros(n_states + 1, np.float64), aligned_zeros(n_states + 1, np.float64)
    hits = aligned_zeros(n_states, np.float64)
    levels, sums = open_sum_tree(n_states)
    total = _restart(starts, prior)
    for t in range(len(inputs)):
        total = _move(flat, starts, law, inputs[t], total, prior, posterior, levels, sums)
        prior, posterior = posterior, prior
        wanted = targets[t]
        for i in range(n_states):
            hits[i] = prior[i] if flat[i] == wanted else 0.0
        floor_nats[t] = nats_of(sum_tree(hits, levels, sums) / total)


@compiled
def _restart(starts: Any, belief: Any) -> Real:
    """Put all belief on the elements' first positions; returns its total, 1."""
    belief[:] = 0.0
    for k in range(len(starts) - 1):
        belief[starts[k]] = 1.0 / (len(starts) - 1)
    return 1.0


@compiled
def _move(
    flat: Any,
    starts: Any,
    law: Any,
    read: int,
    total: float,
    prior: Any,
    posterior: Any,
    levels: Any,
    sums: Any,
) -> Real:
    """Read one token: weigh every state by the channel, then move each one position on.

    Args:
        flat: The elements, one behind the other: the states.
        starts: Where each starts.
        law: The language's law.
        read: The token.
        total: The prior's total: it is normalised on the way.
        prior: Belief over the states before reading, [states + 1].
        posterior: Set to the belief over the state after the move.
        levels: Of the sum tree.
        sums: Of the sum tree.

    Returns:
        The posterior's total: the likelihood of the token.
    """
    prefer_wide_vectors()
    error_rate, mask_ratio, kept, replaced, _, _ = law
    n_states, n_elements = len(flat), len(starts) - 1
    other = (error_rate * mask_ratio if read == MASK else replaced) / total
    same = kept / total
    for i in range(n_states):
        posterior[i + 1] = prior[i] * (same if flat[i] == read else other)
    likelihood = sum_tree(posterior[1:], levels, sums)  # before the ends move on: they only change places
    ended = 0.0
    for k in range(n_elements):
        ended += posterior[starts[k + 1]]
    for k in range(n_elements):
        posterior[starts[k]] = ended / n_elements
    if likelihood < IMPOSSIBLE:
        return _restart(starts, posterior)
    return likelihood


@compiled
def predict_rows(flat: Any, starts: Any, law: Any, inputs: Any, probabilities: Any) -> None:
    """Add the law of the next clean token, by id, to zeroed probabilities [B, L, V]."""
    n_states = len(flat)
    n_elements, separator = len(starts) - 1, law[5]
    weights = np.empty(n_elements)
    prior, posterior = np.empty(n_states + 1), np.empty(n_states + 1)
    levels, sums = open_sum_tree(n_states)
    for row in range(len(inputs)):
        position = 0
        weights[:] = 1.0
        belief_total = _restart(starts, prior)
        for t in range(inputs.shape[1]):
            out = probabilities[row, t]
            if separator > 0:
                position = _read_with_separators(flat, starts, law, inputs[row, t], position, weights)
                total = 0.0
                for k in range(n_elements):
                    total += weights[k] if starts[k] + position <= starts[k + 1] else 0.0
                for k in range(n_elements):
                    i = starts[k] + position
                    if i <= starts[k + 1]:
                        out[separator if i == starts[k + 1] else flat[i]] += weights[k] / total
            else:
                belief_total = _move(flat, starts, law, inputs[row, t], belief_total, prior, posterior, levels, sums)
                prior, posterior = posterior, prior
                for i in range(n_states):
                    out[flat[i]] += prior[i] / belief_total
