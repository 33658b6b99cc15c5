"""Languages whose memory is as long as each context needs: random context trees.

Grow a tree from the root: a node of depth d < D splits with probability 1/2, and then has a child for every token and
one for MASK, which stands before the row. A context is read from the most recent token backwards until a leaf is met;
the leaf's law of the next token is drawn from Dirichlet(alpha, ..., alpha) over 1..V.

inputs = x[0:L], targets = x[1:L+1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from xenoglot.kernels import (
    LOW_32,
    SHIFT_32,
    STREAM_LANGUAGE,
    STREAM_TOKENS,
    compiled,
    open_stream,
    philox,
)
from xenoglot.languages.base import MASK, Floats, Nats, Tokens
from xenoglot.languages.compiled import CompiledFamily, CompiledLanguage
from xenoglot.languages.dirichlet_rows import forget_rows, language_key, open_rows, row_of, sample_row
from xenoglot.options import option

__all__ = ["ContextTreeLanguage", "ContextTreeSource"]

HALF = np.uint64(2**31)


@dataclass(frozen=True, kw_only=True)
class ContextTreeSource(CompiledFamily["ContextTreeLanguage"]):
    r"""Random context trees: the prior of context tree weighting, drawn from.

    Floor: the leaf's own law.

    .. math::
        P(x_t = v | x_{<t}) = \theta_{s(x_{t-1}, x_{t-2}, ...), v}, \qquad
        \theta_s \sim \mathrm{Dirichlet}(\alpha, ..., \alpha)

    with s the leaf that the context leads to, the most recent token first. Nodes are named by Philox of (language,
    parent, token), and the same words decide whether a node splits: only the nodes on the way are ever looked at, so
    depth and vocabulary may be large.

    Where we differ: in DeepMind's `solomonoff_induction` trees are grown from the oldest token but looked up from the
    most recent, so that many contexts fall back to the root, and context tree weighting is not its Bayes predictor.

    Source: Willems, Shtarkov and Tjalkens, "The context-tree weighting method", IEEE Trans. Inf. Theory 41(3), 1995.

    Example:
        >>> family = ContextTreeSource(vocab_size=4, depth=3)
        >>> batch = family.batch(batch_size=2, length=64, seed=0, floor=True)
        >>> bool(batch.floor_nats.mean() < np.log(4))
        True
    """

    name: ClassVar[str] = "context-tree"

    vocab_size: int = option(16, "tokens, 1..V", unit="tokens", minimum=2, maximum=2**20)
    depth: int = option(3, "the longest context, D", unit="tokens", minimum=0, maximum=1000)
    alpha: float = option(0.5, "Dirichlet concentration; small means sharp", minimum=1e-300, maximum=1e6)

    @property
    def n_tokens(self) -> int:
        return self.vocab_size + 1

    def _draw(self, seed: int, row: int) -> ContextTreeLanguage:
        return ContextTreeLanguage(self, int(language_key(seed, row)))

    def _write(
        self,
        language: ContextTreeLanguage | None,
        seed: int,
        start: int,
        inputs: Tokens,
        targets: Tokens,
        floor_nats: Nats,
    ) -> None:
        draws_keys, key = language is None, np.uint64(0 if language is None else language.key)
        law = (draws_keys, key, self.vocab_size, self.depth, float(self.alpha))
        _write_rows(seed, start, law, inputs, targets, floor_nats)


class ContextTreeLanguage(CompiledLanguage):
    """One context tree.

    Attributes:
        key: The number that the tree is a function of.
    """

    family: ContextTreeSource

    def __init__(self, family: ContextTreeSource, key: int) -> None:
        self.family = family
        self.key = key

    def _predict(self, inputs: Tokens) -> Floats:
        family = self.family
        log_probs_BLV = np.full((*inputs.shape, family.n_tokens), -np.inf)
        law = (False, np.uint64(self.key), family.vocab_size, family.depth, float(family.alpha))
        _predict_rows(law, inputs, log_probs_BLV[:, :, 1:])
        return log_probs_BLV

    def _first_input_log_probs(self) -> Floats:
        before_the_row = np.full((1, 1), MASK, np.int32)
        log_probs_V: Floats = self._predict(before_the_row)[0, 0]
        return log_probs_V


@compiled
def _leaf(key: int, inputs: Any, end: int, depth: int) -> int:
    """Return the number of the leaf that the context of the token after ``inputs[:end]`` leads to."""
    node_low, node_high = np.uint64(0), np.uint64(0)
    for d in range(depth + 1):
        symbol = MASK if d == 0 or d > end else inputs[end - d]
        w0, w1, w2, _ = philox(key, STREAM_LANGUAGE, node_low, node_high, 1 + symbol)
        node_low, node_high = np.uint64(w0), np.uint64(w1)
        if np.uint64(w2) < HALF:
            break
    return ((node_high & (LOW_32 >> np.uint64(1))) << SHIFT_32) | node_low  # type: ignore[return-value]


@compiled
def _write_rows(seed: int, start: int, law: Any, inputs: Any, targets: Any, floor_nats: Any) -> None:
    draws_keys, key, vocab_size, depth, alpha = law
    n_rows, length = inputs.shape
    row_with_last = np.empty(length + 1, np.int32)
    table = open_rows(vocab_size, np.inf, (length + 1) * (1 if draws_keys else n_rows))
    for i in range(n_rows):
        if draws_keys:
            key = language_key(seed, start + i)
            forget_rows(table)
        source = open_stream(seed, STREAM_TOKENS, start + i)
        for t in range(length + 1):
            place = row_of(table, key, _leaf(key, row_with_last, t, depth), alpha)
            token = sample_row(table, place, source)
            row_with_last[t] = 1 + token
            if t > 0 and floor_nats.size:
                floor_nats[i, t - 1] = -table[2][place, token]
        inputs[i] = row_with_last[:length]
        targets[i] = row_with_last[1:]


@compiled
def _predict_rows(law: Any, inputs: Any, log_probs: Any) -> None:
    _, key, vocab_size, depth, alpha = law
    table = open_rows(vocab_size, np.inf, inputs.size)
    for i in range(len(inputs)):
        for t in range(inputs.shape[1]):
            place = row_of(table, key, _leaf(key, inputs[i], t + 1, depth), alpha)
            log_probs[i, t] = table[2][place]
