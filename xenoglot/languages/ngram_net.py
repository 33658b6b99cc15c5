"""NgramNet: a random network that sees the last n tokens gives the law of the next.

Every token v has an embedding e_v in R^d. A token i places back passes through its own random layer, the n results are
averaged with weights a_i, and a random output layer gives logits, which are standardised over the vocabulary and
multiplied by a sharpness. x_0 is uniform in 1..V; places before the beginning contribute nothing.

inputs = x[0:L], targets = x[1:L+1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from xenoglot.kernels import (
    LN_2,
    LOG2_E,
    STREAM_LANGUAGE,
    STREAM_TOKENS,
    add_product,
    add_to,
    aligned_zeros,
    bounded_integer,
    compiled,
    copy_to,
    fill_normals,
    hyperbolic_tangent,
    logarithm,
    next_uniform,
    open_stream,
    open_sum_tree,
    sample_tree,
    set_powers_of_two,
    set_squares,
    sum_tree,
)
from xenoglot.languages.base import Floats, Nats, Tokens
from xenoglot.languages.compiled import CompiledFamily, CompiledLanguage
from xenoglot.options import option

__all__ = ["NgramNet", "NgramNetLanguage", "NgramWeights"]

LARGEST_SAFE_LOGIT = 600.0
LARGEST_LOGIT_TABLE = 2**22  # numbers; beyond it a place's contribution is kept before the output layer, not behind it


@dataclass(frozen=True, kw_only=True)
class NgramNet(CompiledFamily["NgramNetLanguage"]):
    r"""Random n-gram networks (Xenoverse's `metalang` v2), normalised per row and with every place weighted.

    .. math::
        u_t = \frac{1}{n} \sum_{i=0}^{n-1} a_i \tanh(W_i e_{x_{t-i}} + b_i), \quad a_i = n - i, \qquad
        p(x_{t+1} = v | x_{0..t}) = \mathrm{softmax}_v(\lambda \, \mathrm{zscore}_V(W_o u_t + b_o))

    with all embeddings, weights and biases standard normal, and zscore over the V logits of one row.

    Floor: the network's own law, exact. MASK, which never occurs, contributes nothing.

    Where we differ: the earlier code standardises over the whole batch, so that a row's law depends on its batch-mates,
    and weighs the oldest of the n places with zero, so that "n" is n - 1.

    Source: PaddlePaddle `l3c`, `metalang/metalangv2.py`.

    Example:
        >>> language = NgramNet(vocab_size=32, n=2, embedding_size=8, hidden_size=16).draw(seed=1)
        >>> import numpy as np
        >>> law = np.exp(language.predict([3, 5]))[-1]
        >>> bool(np.allclose(law, np.exp(language.predict([9, 3, 5]))[-1]))   # two tokens back, and no further
        True
    """

    name: ClassVar[str] = "ngram-net"
    work_per_token: ClassVar[int] = 100

    vocab_size: int = option(64, "tokens, 1..V", unit="tokens", minimum=2, maximum=2**20)
    n: int = option(3, "how many tokens the law sees", unit="tokens", minimum=1, maximum=1024, flags=("n_gram",))
    embedding_size: int = option(16, "width of the embeddings, d", minimum=1, maximum=2**14)
    hidden_size: int = option(64, "width of the hidden layer, H", minimum=1, maximum=2**14)
    sharpness: float = option(
        5.0,
        "standard deviation of the logits, lambda; large means predictable",
        minimum=0.0,
        exclusive_minimum=True,
        maximum=1e6,
        flags=("lambda_weight",),
    )

    @property
    def n_tokens(self) -> int:
        return self.vocab_size + 1

    def _shape(self) -> tuple[int, int, int, int]:
        return self.vocab_size, self.n, self.embedding_size, self.hidden_size

    def _draw(self, seed: int, row: int) -> NgramNetLanguage:
        flat = np.empty(_n_weights(*self._shape()))
        fill_normals(seed, STREAM_LANGUAGE, row, 0, flat)
        return NgramNetLanguage(self, flat)

    def _write(
        self,
        language: NgramNetLanguage | None,
        seed: int,
        start: int,
        inputs: Tokens,
        targets: Tokens,
        floor_nats: Nats,
    ) -> None:
        flat = np.empty(_n_weights(*self._shape())) if language is None else language.flat
        law = (language is None, self._shape(), float(self.sharpness))
        _write_rows(seed, start, flat, law, inputs, targets, floor_nats)


class NgramWeights(NamedTuple):
    """The parameters of one network; place 0 is the newest token."""

    embeddings_Vd: Floats
    input_weights_nHd: Floats
    biases_nH: Floats
    output_weights_VH: Floats
    output_biases_V: Floats


class NgramNetLanguage(CompiledLanguage):
    """One random n-gram network.

    Attributes:
        flat: All its parameters one behind the other, float64.
    """

    family: NgramNet

    def __init__(self, family: NgramNet, flat: Floats) -> None:
        self.family = family
        self.flat = flat

    @property
    def weights(self) -> NgramWeights:
        """The network's parameters; token id v has row v - 1."""
        return NgramWeights(*(part.copy() for part in _parts(self.flat, *self.family._shape())))

    def _predict(self, inputs: Tokens) -> Floats:
        log_probs = np.full((*inputs.shape, self.family.n_tokens), -np.inf)
        _predict_rows(self.flat, self.family._shape(), float(self.family.sharpness), inputs, log_probs[:, :, 1:])
        return log_probs


def _n_weights(vocab_size: int, n: int, embedding_size: int, hidden_size: int) -> int:
    return vocab_size * embedding_size + n * hidden_size * (embedding_size + 1) + vocab_size * (hidden_size + 1)


@compiled
def _parts(flat: Any, vocab_size: int, n: int, embedding_size: int, hidden_size: int) -> Any:
    """Cut the flat weights into their arrays."""
    a = vocab_size * embedding_size
    b = a + n * hidden_size * embedding_size
    c = b + n * hidden_size
    d = c + vocab_size * hidden_size
    return (
        flat[:a].reshape(vocab_size, embedding_size),
        flat[a:b].reshape(n, hidden_size, embedding_size),
        flat[b:c].reshape(n, hidden_size),
        flat[c:d].reshape(vocab_size, hidden_size),
        flat[d:],
    )


@compiled
def _open_places(shape: Any) -> Any:
    """Make room for what every token contributes at every place, and for whether that is known yet."""
    vocab_size, n, _, hidden_size = shape
    keeps_logits = n * vocab_size * vocab_size <= LARGEST_LOGIT_TABLE
    width = vocab_size if keeps_logits else hidden_size
    contributions = aligned_zeros(n * (vocab_size + 1) * width, np.float64).reshape(n, vocab_size + 1, width)
    return contributions, np.zeros((n, vocab_size + 1), np.bool_), keeps_logits


@compiled
def _fold(flat: Any, shape: Any) -> Any:
    """Fold the weights: inputs by source and weighted, and the output layer by source and centred over the vocabulary.

    A z-score takes the mean over the vocabulary off; taking it off the weights does so once for all.
    """
    vocab_size, n, embedding_size, hidden_size = shape
    embeddings, input_weights, biases, output_weights, output_biases = _parts(
        flat, vocab_size, n, embedding_size, hidden_size
    )
    by_source = np.empty((n, embedding_size, hidden_size))
    for i in range(n):
        by_source[i] = input_weights[i].T
    output = aligned_zeros(hidden_size * vocab_size, np.float64).reshape(hidden_size, vocab_size)
    for v in range(vocab_size):
        for j in range(hidden_size):
            output[j, v] = output_weights[v, j]
    for j in range(hidden_size):
        output[j] -= output[j].sum() / vocab_size
    bias = output_biases - output_biases.sum() / vocab_size
    return embeddings, by_source, biases, output, bias


@compiled
def _learn_place(folded: Any, place: int, token: int, hidden: Any, contributions: Any, keeps_logits: bool) -> None:
    """Compute what a token contributes at a place: a_i tanh(W_i e + b_i) / n, through the output layer if kept so."""
    embeddings, by_source, biases, output, _ = folded
    n = len(by_source)
    copy_to(hidden, biases[place])
    add_product(by_source[place], embeddings[token - 1], hidden)
    share = (n - place) / n
    for j in range(len(hidden)):
        hidden[j] = share * hyperbolic_tangent(hidden[j])
    if keeps_logits:
        contributions[:] = 0.0
        add_product(output, hidden, contributions)
    else:
        copy_to(contributions, hidden)


@compiled
def _logits(folded: Any, places: Any, recent: Any, newest: int, hidden: Any, logits: Any) -> None:
    """Write the centred logits after the recent tokens (a ring, MASK where there is none)."""
    contributions, known, keeps_logits = places
    _, _, _, output, bias = folded
    n = len(recent)
    mixed = logits if keeps_logits else np.zeros(len(hidden))
    if keeps_logits:
        copy_to(mixed, bias)
    for place in range(n):
        token = recent[(newest - place) % n]
        if token == 0:
            continue
        if not known[place, token]:
            _learn_place(folded, place, token, hidden, contributions[place, token], keeps_logits)
            known[place, token] = True
        add_to(mixed, contributions[place, token])
    if not keeps_logits:
        copy_to(logits, bias)
        add_product(output, mixed, logits)


@compiled
def _weigh(
    logits: Any, sharpness: float, squares: Any, weights: Any, levels: Any, sums: Any
) -> tuple[float, float, float]:
    """Weigh the vocabulary by 2^(scale logits - shift); returns scale, shift and the total weight."""
    vocab_size = len(logits)
    set_squares(logits, squares)
    scale = LOG2_E * sharpness * np.sqrt(vocab_size / sum_tree(squares, levels, sums))
    # no z-score exceeds sqrt V: the largest logit need not come off unless 2^logit could overflow
    shift = 0.0 if LOG2_E * sharpness * np.sqrt(vocab_size) < LARGEST_SAFE_LOGIT else scale * logits.max()
    set_powers_of_two(logits, scale, shift, weights)
    return scale, shift, sum_tree(weights, levels, sums)


@compiled
def _write_rows(seed: int, start: int, flat: Any, law: Any, inputs: Any, targets: Any, floor_nats: Any) -> None:
    draws_weights, shape, sharpness = law
    vocab_size, n, _, hidden_size = shape
    folded, places = _fold(flat, shape), _open_places(shape)
    levels, sums = open_sum_tree(vocab_size)
    hidden, recent = np.empty(hidden_size), np.empty(n, np.int64)
    logits, squares = aligned_zeros(vocab_size, np.float64), aligned_zeros(vocab_size, np.float64)
    weights = aligned_zeros(vocab_size, np.float64)
    for i in range(len(inputs)):
        if draws_weights:
            fill_normals(seed, STREAM_LANGUAGE, start + i, 0, flat)
            folded = _fold(flat, shape)
            places[1][:] = False
        source = open_stream(seed, STREAM_TOKENS, start + i)
        recent[:] = 0
        token = 1 + bounded_integer(source, vocab_size)
        for t in range(inputs.shape[1]):
            inputs[i, t] = token
            recent[t % n] = token
            _logits(folded, places, recent, t % n, hidden, logits)
            scale, shift, total = _weigh(logits, sharpness, squares, weights, levels, sums)
            v = sample_tree(weights, levels, sums, next_uniform(source) * total)
            token = v + 1
            targets[i, t] = token
            if floor_nats.size:
                floor_nats[i, t] = logarithm(total) + (shift - scale * logits[v]) * LN_2


@compiled
def _predict_rows(flat: Any, shape: Any, sharpness: float, inputs: Any, log_probs: Any) -> None:
    vocab_size, n, _, hidden_size = shape
    folded, places = _fold(flat, shape), _open_places(shape)
    levels, sums = open_sum_tree(vocab_size)
    hidden, recent = np.empty(hidden_size), np.empty(n, np.int64)
    logits, squares = aligned_zeros(vocab_size, np.float64), aligned_zeros(vocab_size, np.float64)
    weights = aligned_zeros(vocab_size, np.float64)
    for i in range(len(inputs)):
        recent[:] = 0
        for t in range(inputs.shape[1]):
            recent[t % n] = inputs[i, t]
            _logits(folded, places, recent, t % n, hidden, logits)
            scale, shift, total = _weigh(logits, sharpness, squares, weights, levels, sums)
            log_total = logarithm(total) + shift * LN_2
            for v in range(vocab_size):
                log_probs[i, t, v] = scale * logits[v] * LN_2 - log_total
