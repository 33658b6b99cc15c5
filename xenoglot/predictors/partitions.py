"""Partitions of the segments read so far, for the learner of MetaLM-1 who does not know the elements.

All compiled. Three bundles of arrays are handed around:

- ``hypotheses``: for each of H partitions the places of its clusters (int64 [H, most]), how many they are (int64 [H]),
  and its weight (float64 [H], summing to one);
- ``clusters``: by place, R_i(y), the posterior of each position's token (float64 [places, longest, V + 1], indexed by
  id), and the length (int64 [places]; 0 where the place is free). Hypotheses share clusters;
- of the current segment: the places of the known clusters, and by place, at the end that of a new element, the prior
  and the belief.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xenoglot.kernels import compiled, next_uniform
from xenoglot.languages.base import MASK

__all__ = ["DOUBT", "NEW", "branch", "open_partitions", "open_segment", "regroup", "select"]

NEW = -1  # in place of a cluster: an element that was never met
NEGLIGIBLE = 1e-12  # branches with a smaller share of the weight are dropped
DOUBT = 1e-9  # share of elements kept for new ones once branches were dropped: what was dropped may have been right
SMALLEST = 1e-290  # keeps what is only improbable from becoming impossible by underflow
FEW = 8


@compiled
def open_partitions(longest: int, vocab_size: int) -> tuple[Any, Any]:
    """Return the one hypothesis about no segments, and room for some clusters."""
    hypotheses = np.empty((1, 0), np.int64), np.zeros(1, np.int64), np.ones(1)
    return hypotheses, (np.empty((FEW, longest, vocab_size + 1)), np.zeros(FEW, np.int64))


@compiled
def open_segment(hypotheses: Any, clusters: Any, n_elements: int, spare: float) -> tuple[Any, Any, Any]:
    """Return the known clusters' places, and the prior and the belief in each and in a new element.

    ``spare`` is how many elements are thought unseen even where as many clusters are known as there are elements.
    """
    members, sizes, weights = hypotheses
    prior = np.zeros(len(clusters[1]) + 1)
    for h in range(len(weights)):
        n_unseen = max(n_elements - sizes[h], spare)
        share = weights[h] / (sizes[h] + n_unseen)
        for i in range(sizes[h]):
            prior[members[h, i]] += share
        prior[NEW] += share * n_unseen
    return np.flatnonzero(prior[:NEW]), prior, prior.copy()


@compiled
def branch(hypotheses: Any, n_elements: int, spare: float, prior: Any, belief: Any) -> tuple[Any, Any, Any]:
    """Return every way to go on: its hypothesis, the cluster that the segment joins (or NEW), and its weight."""
    members, sizes, weights = hypotheses
    most = len(weights) + np.sum(sizes)
    parents, joined = np.empty(most, np.int64), np.empty(most, np.int64)
    shares = np.empty(most)
    count = 0
    for h in range(len(weights)):
        n_unseen = max(n_elements - sizes[h], spare)
        share = weights[h] / (sizes[h] + n_unseen)
        for i in range(sizes[h]):
            k = members[h, i]
            parents[count], joined[count] = h, k
            shares[count] = share * belief[k] / prior[k]
            count += 1
        parents[count], joined[count] = h, NEW
        if prior[NEW] > 0.0:
            shares[count] = share * n_unseen * belief[NEW] / prior[NEW]
        else:  # all n elements are known: NEW has belief only where nothing else explains the segment
            shares[count] = weights[h] * belief[NEW]
        count += 1
    return parents, joined, shares


@compiled
def select(weights: Any, most: int, source: Any) -> tuple[Any, Any]:
    """Choose at most ``most`` branches: heavy ones as they are, of the others some that stand for all.

    With c such that sum min(c w, 1) = most, a branch with c w >= 1 keeps its weight; the others survive with
    probability c w, systematically, and then weigh 1 / c: the expected weight of every branch is unchanged.
    """
    order = np.argsort(-weights)
    order = order[weights[order] > NEGLIGIBLE * np.sum(weights)]
    rest = np.sum(weights[order])
    n_heavy = 0
    if len(order) <= most:
        return order, weights[order] / rest
    while n_heavy < most and weights[order[n_heavy]] * (most - n_heavy) >= rest:
        rest -= weights[order[n_heavy]]
        n_heavy += 1
    chosen = np.empty(most, np.int64)
    chosen[:n_heavy] = order[:n_heavy]
    chosen_weights = np.empty(most)
    chosen_weights[:n_heavy] = weights[order[:n_heavy]]
    count = n_heavy
    if n_heavy < most:
        step = rest / (most - n_heavy)
        reached = -step * next_uniform(source)
        for i in order[n_heavy:]:
            reached += weights[i]
            if reached > 0.0 and count < most:
                chosen[count] = i
                chosen_weights[count] = step
                count += 1
                reached -= step
    return chosen[:count], chosen_weights[:count] / np.sum(chosen_weights[:count])


@compiled
def regroup(
    hypotheses: Any, clusters: Any, parents: Any, joined: Any, weights: Any, segment: Any, channel: Any
) -> tuple[Any, Any]:
    """Return the chosen hypotheses and their clusters, each new or grown one written once, all others' places freed."""
    members, sizes, _ = hypotheses
    grown = np.full(
        len(clusters[1]) + 1, NEW
    )  # what each cluster became with this segment; at the end, what NEW became
    new_members = np.empty((len(parents), members.shape[1] + 1), np.int64)
    new_sizes = np.empty(len(parents), np.int64)
    for h in range(len(parents)):
        parent, cluster = parents[h], joined[h]
        if grown[cluster] == NEW:
            clusters, place = _take_place(clusters, len(segment))
            _learn(clusters[0], cluster, segment, channel, clusters[0][place])
            grown[cluster] = place
        size = sizes[parent]
        for i in range(size):
            k = members[parent, i]
            new_members[h, i] = grown[cluster] if k == cluster else k
        if cluster == NEW:
            new_members[h, size] = grown[cluster]
        new_sizes[h] = size + 1 if cluster == NEW else size
    new_members = new_members[:, : np.max(new_sizes)].copy()
    _free_unused_places(clusters, new_members, new_sizes)
    return (new_members, new_sizes, weights), clusters


@compiled
def _free_unused_places(clusters: Any, members: Any, sizes: Any) -> None:
    is_used = np.zeros(len(clusters[1]), np.bool_)
    for h in range(len(sizes)):
        for i in range(sizes[h]):
            is_used[members[h, i]] = True
    clusters[1][~is_used] = 0


@compiled
def _take_place(clusters: Any, length: int) -> tuple[Any, int]:
    """Return a free place for a cluster, with twice as many places if all are taken."""
    posteriors, lengths = clusters
    n_places = len(lengths)
    place = 0
    while place < n_places and lengths[place] > 0:
        place += 1
    if place == n_places:
        more_posteriors = np.empty((2 * n_places, *posteriors.shape[1:]))
        more_posteriors[:n_places] = posteriors
        more_lengths = np.zeros(2 * n_places, np.int64)
        more_lengths[:n_places] = lengths
        posteriors, lengths = more_posteriors, more_lengths
    lengths[place] = length
    return (posteriors, lengths), place


@compiled
def _learn(posteriors: Any, cluster: int, segment: Any, channel: Any, out: Any) -> None:
    """Write the posterior of a cluster (or of NEW: uniform) after one more segment."""
    _, kept, replaced, vocab_size, _ = channel
    for i in range(len(segment)):
        out[i, MASK] = 0.0
        for v in range(1, vocab_size + 1):
            out[i, v] = 1.0 / vocab_size if cluster == NEW else posteriors[cluster, i, v]
        read = segment[i]
        total = replaced + (kept - replaced) * out[i, read]
        if read == MASK or total <= 0.0:
            continue
        share = kept * out[i, read] / total
        for v in range(1, vocab_size + 1):
            out[i, v] *= replaced / total
        out[i, read] = share
        if replaced > 0.0 and kept > 0.0:
            for v in range(1, vocab_size + 1):
                out[i, v] = max(out[i, v], SMALLEST)
