"""What nobody can lose less than at MetaLM-1: one who is told which elements were read, and closed forms.

Plain numpy and scipy: no code is shared with `xenoglot.predictors.NoisyRepeats`, the predictor that unknown_elements.py
compares with it. L tokens of a row, S of a segment, V words.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import scipy.stats

from xenoglot.languages import MetaLMv1

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Tokens = npt.NDArray[np.int32]

MOST_VISITS = 8
"""After so many noisy copies, what is still unknown of a word is below 0.0001 nats at the published error rates."""


# --- one who is told, at a segment's end, which element it was -------------------------------------------------------


def told_nats(family: MetaLMv1, inputs_L: Tokens, targets_L: Tokens) -> Floats:
    """Return the loss of a learner who is told, at a segment's end, which element it was, float64 [L].

    Given that, all else is counting, and the law is exact. Nobody who is told less loses less on average.
    """
    clean = np.concatenate([[0], targets_L])  # the very first is never a target: 0 stands for it
    votes: list[Floats] = []
    nats = np.zeros(len(clean))
    for (first, end), place in zip(*segments(family, inputs_L, targets_L), strict=True):
        read, following = inputs_L[first:end], clean[first : end + 1]
        evidence, hits = followed(family, votes, read, following)
        nats[first : end + 1] = -np.log((evidence * hits).sum(axis=0) / evidence.sum(axis=0))
        if place == len(votes):
            votes.append(np.zeros((len(read), family.vocab_size)))
        if end < len(inputs_L):
            votes[place][np.flatnonzero(read), read[read > 0] - 1] += 1.0
    return nats[1:]


def segments(family: MetaLMv1, inputs_L: Tokens, targets_L: Tokens) -> tuple[list[tuple[int, int]], list[int]]:
    """Return where a row's segments start and end, and which elements they are, by the order in which they first came.

    The row's first token is no target, so elements are told apart by their other tokens; the last segment is compared
    as far as it goes.
    """
    ends = [*np.flatnonzero(inputs_L == family.separator_id).tolist(), len(inputs_L)]
    starts = [0, *(end + 1 for end in ends[:-1])]
    elements: list[bytes] = []
    places = []
    for first, end in zip(starts, ends, strict=True):
        words = targets_L[first:end].tobytes()
        same = [k for k, element in enumerate(elements) if element.startswith(words)]
        places.append(same[0] if same else len(elements))
        if not same:
            elements.append(words)
    return list(zip(starts, ends, strict=True)), places


def visits_before(family: MetaLMv1, inputs_L: Tokens, targets_L: Tokens) -> npt.NDArray[np.int64]:
    """Return of each target how often its element was visited before, int64 [L]."""
    places, before = segments(family, inputs_L, targets_L), Counter[int]()
    visits = np.zeros(len(inputs_L) + 1, np.int64)
    for (first, end), place in zip(*places, strict=True):
        visits[first : end + 1] = before[place]
        before[place] += 1
    return visits[1:]


def followed(family: MetaLMv1, votes: Sequence[Floats], read: Tokens, following: Tokens) -> tuple[Floats, Floats]:
    """Return the evidence of each element met so far, and of one not met, and what each says of the clean tokens.

    Args:
        family: Gives n, l, V and the channel.
        votes: Of each element met, how often each word was read at each of its positions [its length, V].
        read: The segment's tokens [S].
        following: The clean tokens and, after S of them, the next one or the separator [S + 1].

    Returns:
        Prior times P(first j tokens | element), scaled by a factor of j alone, and P(clean token j | element, what was
        read of it): [elements + 1, S + 1].
    """
    each = [of_element(family, counts, read, following) for counts in votes]
    log_heard, hits = map(np.array, zip(*each, of_unmet(family, read, following), strict=True))
    share = np.full((len(each) + 1, 1), 1.0 / family.n_elements)
    share[-1] *= family.n_elements - len(each)
    with np.errstate(divide="ignore"):
        log_evidence = np.log(share) + np.cumsum(np.pad(log_heard, ((0, 0), (1, 0))), axis=1)
    return np.exp(log_evidence - log_evidence.max(axis=0)), hits


def of_element(family: MetaLMv1, counts: Floats, read: Tokens, following: Tokens) -> tuple[Floats, Floats]:
    """Return ln P(token j | those before) [S] and P(clean token j | those before) [S + 1] of an element met before."""
    kept, replaced, masked = channel(family)
    posterior = (kept / replaced) ** (counts - counts.max(axis=1, keepdims=True))
    posterior /= posterior.sum(axis=1, keepdims=True)
    size, n_read = len(counts), len(read)
    both, upto = np.arange(min(size, n_read)), np.arange(min(size, n_read + 1))
    right = posterior[both, read[both] - 1]
    log_heard = np.full(n_read, -np.inf)
    log_heard[both] = np.log(np.where(read[both] == 0, masked, kept * right + replaced * (1.0 - right)))
    hits = np.zeros(n_read + 1)
    is_word = following[upto] <= family.vocab_size
    hits[upto] = np.where(is_word, posterior[upto, np.minimum(following[upto], family.vocab_size) - 1], 0.0)
    if size <= n_read:
        hits[size] = following[size] == family.separator_id
    return log_heard, hits


def of_unmet(family: MetaLMv1, read: Tokens, following: Tokens) -> tuple[Floats, Floats]:
    """Return the same of an element never met: any word, and an end as the Poisson law of lengths has it."""
    _, _, masked = channel(family)
    ending = endings(family.element_length, len(read) + 1)
    log_heard = np.log1p(-ending[:-1]) + np.log(np.where(read == 0, masked, (1.0 - masked) / family.vocab_size))
    return log_heard, np.where(following == family.separator_id, ending, (1.0 - ending) / family.vocab_size)


@functools.cache
def endings(mean_length: float, n_positions: int) -> Floats:
    """Return P(length = j | length >= j) of max(3, Poisson(mean_length)), j from 0 to n_positions - 1."""
    lengths, j = scipy.stats.poisson(mean_length), np.arange(n_positions)
    return np.where(j > 3, lengths.pmf(j) / lengths.sf(j - 1), np.where(j == 3, lengths.cdf(3), 0.0))


def channel(family: MetaLMv1) -> tuple[float, float, float]:
    """Return the probabilities that a word is read as it is, as one given other word, and as MASK."""
    e, m = family.error_rate, family.mask_ratio
    return 1.0 - e, e * (1.0 - m) / (family.vocab_size - 1), e * m


# --- closed forms: what a word costs of which so many noisy copies were read -----------------------------------------


def entropy_nats(family: MetaLMv1, n_copies: int) -> float:
    """Return H(word | so many noisy copies of it): the sum over what may have been read.

    Of the copies, some are masked, ``right`` show the word, and the others fall on other words in groups of equal
    ones. A reading has posterior (c / r)^votes, with c and r the probabilities of a kept and of one given other word.
    """
    kept, replaced, masked = channel(family)
    n_words = family.vocab_size
    total = 0.0
    for n_masked, right in itertools.product(range(n_copies + 1), repeat=2):
        wrong = n_copies - n_masked - right
        if wrong < 0:
            continue
        ways = math.factorial(n_copies) / (math.factorial(n_masked) * math.factorial(right) * math.factorial(wrong))
        for groups in partitions(wrong, wrong):
            kinds = math.perm(n_words - 1, len(groups)) / math.prod(map(math.factorial, Counter(groups).values()))
            orders = math.factorial(wrong) / math.prod(map(math.factorial, groups))
            probability = ways * kinds * orders * masked**n_masked * kept**right * replaced**wrong
            rivals = sum((kept / replaced) ** (votes - right) for votes in groups)
            rivals += (n_words - 1 - len(groups)) * (kept / replaced) ** -right
            total += probability * math.log1p(rivals)
    return total


def partitions(total: int, largest: int) -> Iterator[tuple[int, ...]]:
    """Yield the ways to write a number as a sum of falling numbers."""
    if total == 0:
        yield ()
    for part in range(min(total, largest), 0, -1):
        yield from ((part, *rest) for rest in partitions(total - part, part))


def shares_of_visits(family: MetaLMv1, first: int, end: int) -> Floats:
    """Return the shares, among tokens first to end, of words whose element was visited 0, 1, ... times before.

    Token t stands in segment t / (l + 1); each of the segments before was of the same element with probability 1 / n.
    """
    n_segments = np.arange(first, end) // (family.element_length + 1)
    laws = scipy.stats.binom(n_segments[:, None], 1.0 / family.n_elements).pmf(np.arange(MOST_VISITS))
    return np.asarray(laws.mean(axis=0) * family.element_length / (family.element_length + 1))


def expected_excess_nats(family: MetaLMv1, first: int, end: int) -> float:
    """Return what not knowing the elements costs a token: the sum over visits of share times entropy.

    What is left out: at which token one knows the element again, and the length of an element not met before.
    """
    entropies = [entropy_nats(family, n_copies) for n_copies in range(MOST_VISITS)]
    return float(shares_of_visits(family, first, end) @ entropies)
