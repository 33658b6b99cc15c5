"""Order-k Markov languages: the next token depends on the last k, by a random table.

Every context c of k tokens has a law P(. | c) ~ Dirichlet(alpha, ..., alpha) over 1..V. The first k tokens are uniform,
so that the Bayes predictor of a learner who does not know the table is exact too.

inputs = x[0:L], targets = x[1:L+1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from xenoglot.errors import OptionError
from xenoglot.kernels import STREAM_TOKENS, bounded_integer, compiled, open_stream
from xenoglot.languages.base import Floats, Nats, Tokens
from xenoglot.languages.compiled import CompiledFamily, CompiledLanguage
from xenoglot.languages.dirichlet_rows import forget_rows, language_key, open_rows, row_of, sample_row
from xenoglot.options import option

__all__ = ["Markov", "MarkovLanguage"]

LARGEST_TABLE_BITS = 62


@dataclass(frozen=True, kw_only=True)
class Markov(CompiledFamily["MarkovLanguage"]):
    r"""Random order-k Markov chains with Dirichlet rows.

    Floor: the table itself; ln V for the first k tokens.

    .. math::
        P(x_t = v | x_{t-k}, ..., x_{t-1}) = \theta_{c, v}, \qquad \theta_c \sim \mathrm{Dirichlet}(\alpha, ..., \alpha)

    A row of the table is drawn when its context first occurs, as a function of (seed, language, context), so any order
    and vocabulary with V^k below 2^62 will do. Contexts with MASK in them cannot occur; a uniform law follows them.

    Source: Edelman et al., arXiv 2402.11004 (in-context learning of Markov chains), with any order and alpha.

    Example:
        >>> language = Markov(vocab_size=4, order=2, alpha=0.5).draw(seed=7)
        >>> language.row((1, 3)).sum().round(6).item()
        1.0
    """

    name: ClassVar[str] = "markov"

    vocab_size: int = option(64, "tokens, 1..V", unit="tokens", minimum=2, maximum=2**20)
    order: int = option(1, "how many tokens back the law looks, k", unit="tokens", minimum=0, maximum=62)
    alpha: float = option(1.0, "Dirichlet concentration; small means sharp", minimum=1e-300, maximum=1e6)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order * math.log2(self.vocab_size) > LARGEST_TABLE_BITS:
            most = int(LARGEST_TABLE_BITS / math.log2(self.vocab_size))
            raise OptionError("order", self.order, f"at most {most} with vocab_size {self.vocab_size} (V^k below 2^62)")

    @property
    def n_tokens(self) -> int:
        return self.vocab_size + 1

    def _draw(self, seed: int, row: int) -> MarkovLanguage:
        return MarkovLanguage(self, int(language_key(seed, row)))

    def _write(
        self, language: MarkovLanguage | None, seed: int, start: int, inputs: Tokens, targets: Tokens, floor_nats: Nats
    ) -> None:
        draws_keys, key = language is None, np.uint64(0 if language is None else language.key)
        law = (draws_keys, key, self.vocab_size, self.order, float(self.alpha))
        _write_rows(seed, start, law, inputs, targets, floor_nats)


class MarkovLanguage(CompiledLanguage):
    """One Markov chain.

    Attributes:
        key: The number that its table is a function of.
    """

    family: Markov

    def __init__(self, family: Markov, key: int) -> None:
        self.family = family
        self.key = key

    def row(self, context: tuple[int, ...]) -> Floats:
        """Return P(. | context) over the ids 1..V, float64 [V]; the context is the last k ids, oldest first."""
        inputs = np.asarray([*context] if context else [1], dtype=np.int32)
        return np.exp(self.predict(inputs)[-1, 1:])

    def _predict(self, inputs: Tokens) -> Floats:
        log_probs = np.full((*inputs.shape, self.family.n_tokens), -np.inf)
        family = self.family
        _predict_rows(
            np.uint64(self.key), family.vocab_size, family.order, float(family.alpha), inputs, log_probs[:, :, 1:]
        )
        return log_probs

    def _first_input_log_probs(self) -> Floats:
        if self.family.order > 0:
            return super()._first_input_log_probs()
        first: Floats = self._predict(np.ones((1, 1), np.int32))[0, 0]
        return first


@compiled
def _write_rows(seed: int, start: int, law: Any, inputs: Any, targets: Any, floor_nats: Any) -> None:
    draw_keys, shared_key, vocab_size, order, alpha = law
    length = inputs.shape[1]
    most_contexts = vocab_size**order
    table = open_rows(vocab_size, float(vocab_size) ** order, length * (1 if draw_keys else len(inputs)))
    for i in range(len(inputs)):
        key = language_key(seed, start + i) if draw_keys else shared_key
        if draw_keys:
            forget_rows(table)
        source = open_stream(seed, STREAM_TOKENS, start + i)
        context = 0
        for t in range(length + 1):
            if t < order:
                token = bounded_integer(source, vocab_size)
                nats = np.log(float(vocab_size))
            else:
                slot = row_of(table, key, context, alpha)
                token = sample_row(table, slot, source)
                nats = -table[2][slot, token]
            context = (context * vocab_size + token) % most_contexts
            if t < length:
                inputs[i, t] = 1 + token
            if t > 0:
                targets[i, t - 1] = 1 + token
                if floor_nats.size:
                    floor_nats[i, t - 1] = nats


@compiled
def _predict_rows(key: Any, vocab_size: int, order: int, alpha: float, inputs: Any, log_probs: Any) -> None:
    most_contexts = vocab_size**order
    table = open_rows(vocab_size, float(vocab_size) ** order, inputs.size)
    for i in range(len(inputs)):
        context = 0
        last_mask = -1
        for t in range(inputs.shape[1]):
            last_mask = t if inputs[i, t] == 0 else last_mask
            context = (context * vocab_size + max(inputs[i, t] - 1, 0)) % most_contexts
            if t + 1 < order or t - last_mask < order:
                log_probs[i, t] = -np.log(float(vocab_size))
            else:
                log_probs[i, t] = table[2][row_of(table, key, context, alpha)]
