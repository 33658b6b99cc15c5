"""MetaLM-1 for a learner who does not know the elements: which of the segments so far were the same element?

A hypothesis is a partition of the finished segments into clusters, each cluster one element. Given the partition, all
else integrates out exactly: a cluster's length is that of its segments, and position i of its element has the posterior

    R_i(y) ∝ (1 / V) Π_visits c(x_i | y),   y in 1..V, with the channel c of the family.

Within a segment, a hypothesis of weight w with u clusters gives each cluster the prior w / n and a new element
w (n - u) / n. Clusters are shared between hypotheses, so a token costs one look-up per distinct cluster, however many
hypotheses there are. At the separator every hypothesis branches into u + 1; of the branches at most ``n_particles``
survive, by the optimal resampling for finite branching, which is unbiased and keeps every heavy branch as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from xenoglot.errors import OptionError
from xenoglot.kernels import compiled, logarithm, open_stream, run_rows
from xenoglot.languages.base import MASK, Family, Floats, Nats, Tokens
from xenoglot.languages.element_filter import IMPOSSIBLE
from xenoglot.languages.metalm_v1 import SHORTEST_ELEMENT, MetaLMv1
from xenoglot.options import check_options, option
from xenoglot.predictors.base import Exactness, Predictor
from xenoglot.predictors.partitions import DOUBT, NEW, branch, open_partitions, open_segment, regroup, select
from xenoglot.rng import derive

__all__ = ["NoisyRepeats", "ending_hazards"]


@dataclass(frozen=True, kw_only=True)
class NoisyRepeats(Predictor):
    r"""The Bayes predictor of MetaLM-1 with unknown elements and visible separators, to within a particle filter.

    It shares the generator's prior: n elements, lengths max(3, Poisson(l)), tokens uniform over 1..V, a uniform choice
    of the element, and the channel. After j tokens of a segment, with e_k the evidence of cluster k and W_k its prior,

    .. math::
        p(v) \propto \sum_k W_k e_k R_{k,j}(v) + W_{new} e_{new} (1 - h_j) / V, \qquad
        p(\text{separator}) \propto \sum_{k: |k| = j} W_k e_k + W_{new} e_{new} h_j,

    where h_j = P(length = j | length >= j). As long as there are no more partitions than ``n_particles`` this is exact;
    beyond, partitions are resampled as Fearnhead and Clifford (2003) prescribe, and a billionth is kept for the doubt
    that what was dropped was right, so that nothing possible has an infinite loss. A prefix that no hypothesis explains
    (a separator before the third token, say) is read as an element never met before, even if all n are known.

    At the published settings it loses what one loses who is told which element each finished segment was, to rounding:
    nobody could lose less (docs/results/unknown_elements.md).

    Source: the predictor is ours, no earlier system has one for this family; the resampling is that of Fearnhead and
    Clifford, "On-line inference for hidden Markov models via particle filters", J. R. Stat. Soc. B 65(4), 2003.

    Args:
        family: Gives n, l, V and the channel; it must have separators.
        n_particles: At most this many partitions are kept; 64 unless given.
        seed: Of the resampling.

    Raises:
        OptionError: If the family has no separators.

    Example:
        >>> family = MetaLMv1(vocab_size=16, n_elements=2, element_length=6, error_rate=0.0, separator=True)
        >>> batch = family.batch(batch_size=8, length=128, seed=0)
        >>> nats = NoisyRepeats(family=family).nats(batch.inputs, batch.targets)
        >>> bool(nats[:, :4].mean() > 2.0), bool(nats[:, 64:].mean() < 0.2)   # at first a guess, later almost known
        (True, True)
    """

    name: ClassVar[str] = "unknown-elements"

    family: MetaLMv1 = field(default_factory=lambda: MetaLMv1(separator=True))
    n_particles: int = option(64, "partitions kept at most", minimum=1, maximum=10**6)
    seed: int = option(0, "seed of the resampling", minimum=0, maximum=2**63 - 1)

    def __post_init__(self) -> None:
        check_options(self)
        if not isinstance(self.family, MetaLMv1):
            raise OptionError("family", self.family, "a MetaLMv1 with separators")
        if not self.family.separator:
            raise OptionError(
                "separator",
                False,
                "true: unknown elements need visible separators",
                "Make the family with separator=True; without, KnownLanguage and FinitePool still work.",
            )

    @property
    def n_tokens(self) -> int:
        return self.family.n_tokens

    @property
    def exactness(self) -> Exactness:
        return "near-exact"

    @property
    def method(self) -> str:
        return f"partitions of the segments, at most {self.n_particles} at a time (optimal resampling)"

    @property
    def prior(self) -> MetaLMv1:
        return self.family

    @classmethod
    def for_family(cls, family: Family) -> Self:
        if not isinstance(family, MetaLMv1):
            raise OptionError("family", family, "metalm-v1 with separators")
        return cls(family=family)

    @classmethod
    def examples(cls) -> Iterable[Predictor]:
        for error_rate in (0.15, 0.0):
            yield cls(
                family=MetaLMv1(vocab_size=4, n_elements=3, element_length=5, error_rate=error_rate, separator=True)
            )

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
        e, m, kept, replaced, vocab_size, separator = self.family._law()
        channel = (e * m, kept, replaced, vocab_size, separator)
        hazards = ending_hazards(float(self.family.element_length), inputs.shape[1] + 1)
        setting = (self.family.n_elements, self.n_particles, derive(self.seed, self.name))

        def work(first: int, last: int) -> None:
            _follow_rows(
                inputs[first:last],
                targets[first:last],
                channel,
                setting,
                hazards,
                nats[first:last],
                probabilities[first:last],
            )

        run_rows(work, n_rows=len(inputs), length=inputs.shape[1], threads=None)


def ending_hazards(mean_length: float, n_positions: int) -> Floats:
    r"""Return h_j = P(length = j | length >= j) for length = max(3, Poisson(mean_length)), float64 [n_positions].

    With r_j = P(Poisson >= j) / P(Poisson = j), the recursion r_j = 1 + r_{j+1} mean / (j + 1) adds positive terms only
    and forgets where it started; h_j = 1 / r_j for j > 3, and h_3 = P(Poisson <= 3).

    Example:
        >>> hazards = ending_hazards(3.0, 6)
        >>> bool(abs(hazards[3] - math.exp(-3.0) * (1 + 3 + 9 / 2 + 27 / 6)) < 1e-15), hazards[:3].tolist()
        (True, [0.0, 0.0, 0.0])
    """
    hazards: Floats = _ending_hazards(mean_length, n_positions)
    probability = math.exp(-mean_length)
    at_most_shortest = 0.0
    for k in range(SHORTEST_ELEMENT + 1):
        at_most_shortest += probability
        probability *= mean_length / (k + 1)
    hazards[: SHORTEST_ELEMENT + 1] = ([0.0] * SHORTEST_ELEMENT + [at_most_shortest])[:n_positions]
    return hazards


@compiled
def _ending_hazards(mean_length: float, n_positions: int) -> Any:
    hazards = np.empty(n_positions)
    far = max(float(n_positions), mean_length)
    ratio = 1.0
    for j in range(int(far + 40.0 * np.sqrt(far)) + 100, -1, -1):
        ratio = 1.0 + ratio * mean_length / (j + 1.0)
        if j < n_positions:
            hazards[j] = 1.0 / ratio
    return hazards


@compiled
def _follow_rows(
    inputs: Any, targets: Any, channel: Any, setting: Any, hazards: Any, nats: Any, probabilities: Any
) -> None:
    for row in range(len(inputs)):
        # every row has the same random numbers, so that none depends on its place in the batch
        _follow_row(inputs[row], targets[row], channel, setting, hazards, nats[row], probabilities[row])


@compiled
def _follow_row(
    inputs: Any, targets: Any, channel: Any, setting: Any, hazards: Any, nats: Any, probabilities: Any
) -> None:
    vocab_size, separator = channel[3], channel[4]
    n_elements, n_particles, seed = setting
    source = open_stream(seed, 0, 0)
    hypotheses, clusters = open_partitions(_longest_segment(inputs, separator), vocab_size)
    spare = 0.0
    known, prior, belief = open_segment(hypotheses, clusters, n_elements, spare)
    position = 0
    for t in range(len(inputs)):
        if inputs[t] != separator:
            _read_word(inputs[t], position, known, clusters, belief, channel, hazards)
            position += 1
        elif position > 0:
            _read_separator(position, known, clusters, belief, hazards)
            parents, joined, shares = branch(hypotheses, n_elements, spare, prior, belief)
            chosen, weights = select(shares, n_particles, source)
            if len(chosen) < np.count_nonzero(shares):
                spare = DOUBT * n_elements
            segment = inputs[t - position : t]
            hypotheses, clusters = regroup(
                hypotheses, clusters, parents[chosen], joined[chosen], weights, segment, channel
            )
            known, prior, belief = open_segment(hypotheses, clusters, n_elements, spare)
            position = 0
        if nats.size:
            nats[t] = _loss(targets[t], position, known, clusters, belief, channel, hazards)
        else:
            _write_law(position, known, clusters, belief, channel, hazards, probabilities[t])


@compiled
def _longest_segment(inputs: Any, separator: int) -> int:
    """Return the length of the longest segment that ends within the row: the memory that a cluster may need."""
    longest, position = 0, 0
    for t in range(len(inputs)):
        if inputs[t] == separator:
            longest = max(longest, position)
            position = 0
        else:
            position += 1
    return longest


@compiled
def _read_word(read: int, position: int, known: Any, clusters: Any, belief: Any, channel: Any, hazards: Any) -> None:
    """Update the belief by one token that is no separator; a new element explains what nothing else does."""
    masked, kept, replaced, vocab_size, _ = channel
    posteriors, lengths = clusters
    total = 0.0
    for k in known:
        if position >= lengths[k]:
            belief[k] = 0.0
        elif read == MASK:
            belief[k] *= masked
        else:
            belief[k] *= replaced + (kept - replaced) * posteriors[k, position, read]
        total += belief[k]
    unknown_word = masked if read == MASK else (kept + (vocab_size - 1) * replaced) / vocab_size
    belief[NEW] *= (1.0 - hazards[position]) * unknown_word
    _normalise(known, belief, total + belief[NEW])


@compiled
def _read_separator(position: int, known: Any, clusters: Any, belief: Any, hazards: Any) -> None:
    """Update the belief by the end of the segment after ``position`` tokens."""
    lengths = clusters[1]
    total = 0.0
    for k in known:
        if position != lengths[k]:
            belief[k] = 0.0
        total += belief[k]
    belief[NEW] *= hazards[position]
    _normalise(known, belief, total + belief[NEW])


@compiled
def _normalise(known: Any, belief: Any, total: float) -> None:
    if total < IMPOSSIBLE:
        belief[:] = 0.0
        belief[NEW] = 1.0
        return
    for k in known:
        belief[k] /= total
    belief[NEW] /= total


@compiled
def _loss(target: int, position: int, known: Any, clusters: Any, belief: Any, channel: Any, hazards: Any) -> float:
    vocab_size, separator = channel[3], channel[4]
    posteriors, lengths = clusters
    hit = 0.0
    if target == separator:
        for k in known:
            hit += belief[k] if position == lengths[k] else 0.0
        hit += belief[NEW] * hazards[position]
    elif target != MASK:
        for k in known:
            hit += belief[k] * posteriors[k, position, target] if position < lengths[k] else 0.0
        hit += belief[NEW] * (1.0 - hazards[position]) / vocab_size
    return -logarithm(hit) if hit > 0.0 else np.inf


@compiled
def _write_law(position: int, known: Any, clusters: Any, belief: Any, channel: Any, hazards: Any, out: Any) -> None:
    vocab_size, separator = channel[3], channel[4]
    posteriors, lengths = clusters
    for k in known:
        if position == lengths[k]:
            out[separator] += belief[k]
        elif position < lengths[k]:
            for v in range(1, vocab_size + 1):
                out[v] += belief[k] * posteriors[k, position, v]
    out[separator] += belief[NEW] * hazards[position]
    for v in range(1, vocab_size + 1):
        out[v] += belief[NEW] * (1.0 - hazards[position]) / vocab_size
