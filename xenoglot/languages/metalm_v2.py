"""MetaLM-2: an untrained random recurrent network is the language; it is read by sampling from it.

Every token v has an embedding e_v in R^n; a recurrent cell reads them and its state h in R^H gives the logits
(W_o h + b_o) / temperature. All embeddings, weights and biases are standard normal. x_0 is uniform in 1..V, h starts at
zero, and every further token is sampled.

inputs = x[0:L], targets = x[1:L+1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from xenoglot.kernels import (
    LN_2,
    LOG2_E,
    STREAM_LANGUAGE,
    STREAM_TOKENS,
    add_product,
    aligned_zeros,
    bounded_integer,
    compiled,
    exponential,
    fill_normals,
    fused_multiply_add,
    hyperbolic_tangent,
    logarithm,
    next_uniform,
    open_stream,
    open_sum_tree,
    power_of_two,
    prefer_wide_vectors,
    sample_tree,
    set_powers_of_two,
    set_powers_of_two_single,
    sum_tree,
)
from xenoglot.languages.base import Floats, Nats, Tokens
from xenoglot.languages.compiled import CompiledFamily, CompiledLanguage
from xenoglot.options import option

__all__ = ["MetaLMv2", "MetaLMv2Language", "NetworkWeights"]

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
RNN, GRU, LSTM = 1, 3, 4
LARGEST_SINGLE_LOGIT = 100.0  # in log2; below this 2^logit and its sums stay well inside float32
SINGLE_ROUNDING = 2.0**-24  # of one float32 operation, relative


@dataclass(frozen=True, kw_only=True)
class MetaLMv2(CompiledFamily["MetaLMv2Language"]):
    r"""Random recurrent networks (MetaGym's `metalm` v2 of 2023), with the gated cells too.

    .. math::
        h_t = \tanh(W_x e_{x_t} + W_h h_{t-1} + b), \qquad
        p(x_{t+1} = v | x_{0..t}) = \mathrm{softmax}_v((W_o h_t + b_o) / \mathrm{temperature})

    The other cells, with one bias a gate and all of it standard normal:

    .. math::
        \text{gru:}\quad r, z = \sigma(W e_{x_t} + U h_{t-1} + b), \quad
        c = \tanh(W_c e_{x_t} + U_c (r h_{t-1}) + b_c), \quad h_t = z h_{t-1} + (1 - z) c

    .. math::
        \text{lstm:}\quad i, f, o = \sigma(W e_{x_t} + U h_{t-1} + b), \quad g = \tanh(W_g e_{x_t} + U_g h_{t-1} + b_g),
        \quad s_t = f s_{t-1} + i g, \quad h_t = o \tanh(s_t)

    Floor: the network's own law, exact. The network is chaotic, so its law beyond some hundred tokens is defined by its
    arithmetic: float64 in a written order, the same on every machine. MASK, which never occurs, reads as a zero
    embedding.

    Source: PaddlePaddle `l3c`, `metalm` v2 of 2023; cells: Cho et al., arXiv 1406.1078; Hochreiter & Schmidhuber 1997.

    Example:
        >>> batch = MetaLMv2(vocab_size=32, n=8).batch(batch_size=2, length=64, seed=0, floor=True)
        >>> bool((batch.inputs[:, 1:] == batch.targets[:, :-1]).all())
        True
    """

    name: ClassVar[str] = "metalm-v2"
    aliases: ClassVar[tuple[str, ...]] = ("v2",)
    work_per_token: ClassVar[int] = 100

    vocab_size: int = option(64, "tokens, 1..V", unit="tokens", minimum=2, maximum=2**20)
    n: int = option(16, "width of the embeddings", minimum=1, maximum=2**14, flags=("embedding_size",))
    hidden_size: int | None = option(None, "width of the state; n if none", minimum=1, maximum=2**14)
    temperature: float = option(
        1.0, "divides the logits; large means random", minimum=0.0, exclusive_minimum=True, maximum=1e6
    )
    cell: Literal["rnn", "gru", "lstm"] = option("rnn", "the recurrent cell", choices=("rnn", "gru", "lstm"))
    reset_on_start: bool = option(False, "whether the state is zeroed wherever x_0 recurs")

    @property
    def n_tokens(self) -> int:
        return self.vocab_size + 1

    @property
    def width(self) -> int:
        """The state's width, H."""
        return self.n if self.hidden_size is None else self.hidden_size

    def _shape(self) -> tuple[int, int, int, int]:
        return self.vocab_size, self.n, self.width, GATES[self.cell]

    def _draw(self, seed: int, row: int) -> MetaLMv2Language:
        flat = np.empty(_n_weights(*self._shape()))
        fill_normals(seed, STREAM_LANGUAGE, row, 0, flat)
        return MetaLMv2Language(self, flat)

    def _write(
        self,
        language: MetaLMv2Language | None,
        seed: int,
        start: int,
        inputs: Tokens,
        targets: Tokens,
        floor_nats: Nats,
    ) -> None:
        flat = np.empty(_n_weights(*self._shape())) if language is None else language.flat
        law = (language is None, self._shape(), 1.0 / self.temperature, self.reset_on_start)
        _write_rows(seed, start, flat, law, inputs, targets, floor_nats)


class NetworkWeights(NamedTuple):
    """The parameters of one network; G is 1 for rnn, 3 for gru (r, z, candidate), 4 for lstm (i, f, o, g)."""

    embeddings_Vn: Floats
    input_weights_GHn: Floats
    recurrent_weights_GHH: Floats
    biases_GH: Floats
    output_weights_VH: Floats
    output_biases_V: Floats


class MetaLMv2Language(CompiledLanguage):
    """One random recurrent network.

    Attributes:
        flat: All its parameters one behind the other, float64.
    """

    family: MetaLMv2

    def __init__(self, family: MetaLMv2, flat: Floats) -> None:
        self.family = family
        self.flat = flat

    @property
    def weights(self) -> NetworkWeights:
        """The network's parameters; token id v has row v - 1."""
        return NetworkWeights(*(part.copy() for part in _parts(self.flat, *self.family._shape())))

    def _predict(self, inputs: Tokens) -> Floats:
        family = self.family
        log_probs = np.full((*inputs.shape, family.n_tokens), -np.inf)
        _predict_rows(
            self.flat, family._shape(), 1.0 / family.temperature, family.reset_on_start, inputs, log_probs[:, :, 1:]
        )
        return log_probs


def _n_weights(vocab_size: int, n: int, width: int, gates: int) -> int:
    return vocab_size * n + gates * width * (n + width + 1) + vocab_size * width + vocab_size


@compiled
def _parts(flat: Any, vocab_size: int, n: int, width: int, gates: int) -> Any:
    """Cut the flat weights into their arrays."""
    a = vocab_size * n
    b = a + gates * width * n
    c = b + gates * width * width
    d = c + gates * width
    e = d + vocab_size * width
    return (
        flat[:a].reshape(vocab_size, n),
        flat[a:b].reshape(gates, width, n),
        flat[b:c].reshape(gates, width, width),
        flat[c:d].reshape(gates, width),
        flat[d:e].reshape(vocab_size, width),
        flat[e:],
    )


@compiled
def _fold(flat: Any, shape: Any, inverse_temperature: float) -> Any:
    """Fold the weights into what a step needs; logits are in units of log2 from here on.

    Returns:
        The gates' input for every token id, bias included [V + 1, G H]; the recurrent weights by source [H, G H]; the
        output weights by source [H, V] and by token [V, H], and biases [V]; the largest |logit| there can be.
    """
    vocab_size, n, width, gates = shape
    embeddings, input_weights, recurrent_weights, biases, output_weights, output_biases = _parts(
        flat, vocab_size, n, width, gates
    )
    by_source = np.ascontiguousarray(input_weights.reshape(gates * width, n).T)
    all_biases = biases.reshape(gates * width)
    table = np.empty((vocab_size + 1, gates * width))
    table[:] = all_biases
    for v in range(vocab_size):
        add_product(by_source, embeddings[v], table[v + 1])
    recurrent = np.ascontiguousarray(recurrent_weights.reshape(gates * width, width).T)
    by_token = output_weights * (inverse_temperature * LOG2_E)
    bias = output_biases * (inverse_temperature * LOG2_E)
    output = aligned_zeros(width * vocab_size, np.float64).reshape(width, vocab_size)
    output[:] = by_token.T
    bound = 0.0
    for v in range(vocab_size):
        size = abs(bias[v])
        for j in range(width):
            size += abs(by_token[v, j])
        bound = max(bound, size)
    return table, recurrent, output, by_token, bias, bound


@compiled
def _write_rows(seed: int, start: int, flat: Any, law: Any, inputs: Any, targets: Any, floor_nats: Any) -> None:
    draws_weights, shape, inverse_temperature, reset_on_start = law
    network = _fold(flat, shape, inverse_temperature)
    for i in range(len(inputs)):
        if draws_weights:
            fill_normals(seed, STREAM_LANGUAGE, start + i, 0, flat)
            network = _fold(flat, shape, inverse_temperature)
        floor_row = floor_nats[i] if floor_nats.size else floor_nats[:0, 0]
        source = open_stream(seed, STREAM_TOKENS, start + i)
        if network[5] < LARGEST_SINGLE_LOGIT:
            _write_row_fast(source, network, reset_on_start, inputs[i], targets[i], floor_row)
        else:
            _write_row(source, network, reset_on_start, inputs[i], targets[i], floor_row)


@compiled
def _write_row(source: Any, network: Any, reset_on_start: bool, inputs: Any, targets: Any, floor_nats: Any) -> None:
    """Write a row, weighing the whole vocabulary in float64."""
    table, recurrent, output, _, bias, _ = network
    width, vocab_size = len(recurrent), len(bias)
    state, recalled, gates = np.zeros(2 * width), np.zeros(table.shape[1]), np.empty(table.shape[1])
    logits, weights = np.empty(vocab_size), np.empty(vocab_size)
    levels, sums = open_sum_tree(vocab_size)
    first_token = 1 + bounded_integer(source, vocab_size)
    token = first_token
    for t in range(len(inputs)):
        inputs[t] = token
        if reset_on_start and token == first_token:
            state[:] = 0.0
            recalled[:] = 0.0
        _advance(table[token], recurrent, state, recalled, gates)
        logits[:] = bias
        add_product(output, state, logits)
        shift = logits.max()
        set_powers_of_two(logits, 1.0, shift, weights)
        total = sum_tree(weights, levels, sums)
        v = sample_tree(weights, levels, sums, next_uniform(source) * total)
        token = v + 1
        targets[t] = token
        if floor_nats.size:
            floor_nats[t] = logarithm(total) + (shift - logits[v]) * LN_2


@compiled
def _write_row_fast(
    source: Any, network: Any, reset_on_start: bool, inputs: Any, targets: Any, floor_nats: Any
) -> None:
    """Write a row by proposals in float32, each accepted so that the law is exactly that of float64.

    A proposal v comes with probability proportional to its float32 weight w_v. Accepting it with probability
    W_v / ((1 + excess) w_v), where W_v is its float64 weight, makes the accepted one proportional to W_v (von Neumann).
    The excess bounds W_v / w_v - 1, so nearly every proposal is accepted.
    """
    table, recurrent, output, by_token, bias, bound = network
    width, vocab_size = len(recurrent), len(bias)
    state, recalled, gates = np.zeros(2 * width), np.zeros(table.shape[1]), np.empty(table.shape[1])
    output_single = aligned_zeros(width * vocab_size, np.float32).reshape(width, vocab_size)
    output_single[:] = output
    bias_single, state_single = bias.astype(np.float32), np.empty(width, np.float32)
    logits_single, weights_single = aligned_zeros(vocab_size, np.float32), aligned_zeros(vocab_size, np.float32)
    logits, weights = aligned_zeros(vocab_size, np.float64), aligned_zeros(vocab_size, np.float64)
    levels, sums = open_sum_tree(vocab_size)
    slack = 1.0 + SINGLE_ROUNDING * (width + 8) * bound + 2e-6
    first_token = 1 + bounded_integer(source, vocab_size)
    token = first_token
    for t in range(len(inputs)):
        inputs[t] = token
        if reset_on_start and token == first_token:
            state[:] = 0.0
            recalled[:] = 0.0
        _advance(table[token], recurrent, state, recalled, gates)
        for j in range(width):
            state_single[j] = state[j]
        logits_single[:] = bias_single
        add_product(output_single, state_single, logits_single)
        set_powers_of_two_single(logits_single, weights_single)
        total = sum_tree(weights_single, levels, sums)
        v = 0
        accepted = False
        while not accepted:
            v = sample_tree(weights_single, levels, sums, next_uniform(source) * total)
            logit = bias[v]
            for j in range(width):
                logit = fused_multiply_add(by_token[v, j], state[j], logit)
            accepted = next_uniform(source) * slack * np.float64(weights_single[v]) < power_of_two(logit)
        token = v + 1
        targets[t] = token
        if floor_nats.size:
            logits[:] = bias
            add_product(output, state, logits)
            set_powers_of_two(logits, 1.0, 0.0, weights)
            floor_nats[t] = logarithm(sum_tree(weights, levels, sums)) - logits[v] * LN_2


@compiled
def _advance(from_token: Any, recurrent: Any, state: Any, recalled: Any, gates: Any) -> None:
    """Move the state on by one token; the number of gates tells the cell.

    Args:
        from_token: What the token gives to every gate, bias included [G H].
        recurrent: The recurrent weights by source [H, G H].
        state: h, then the memory cell [2 H]; changed.
        recalled: What the state gives to every gate [G H]; changed too, here and not where it is needed, because that
            does not have to wait for the next token to be drawn.
        gates: Room for the gates [G H].
    """
    prefer_wide_vectors()
    width = len(recurrent)
    n_gates = len(from_token) // width
    for i in range(len(gates)):
        gates[i] = from_token[i] + recalled[i]
    recalled[:] = 0.0
    if n_gates == RNN:
        for i in range(width):
            state[i] = hyperbolic_tangent(gates[i])
        add_product(recurrent, state, recalled)
    elif n_gates == GRU:
        _move_gru(recurrent, state, gates)
        add_product(recurrent[:, : 2 * width], state, recalled[: 2 * width])
    else:
        _move_lstm(state, gates)
        add_product(recurrent, state, recalled)


@compiled
def _move_gru(recurrent: Any, state: Any, gates: Any) -> None:
    """Gates r, z and the candidate, which recalls r h instead of h."""
    width = len(recurrent)
    for i in range(2 * width):
        gates[i] = 1.0 / (1.0 + exponential(-gates[i]))
    for i in range(width):
        gates[i] *= state[i]
    add_product(recurrent[:, 2 * width :], gates[:width], gates[2 * width :])
    for i in range(width):
        z = gates[width + i]
        state[i] = z * state[i] + (1.0 - z) * hyperbolic_tangent(gates[2 * width + i])


@compiled
def _move_lstm(state: Any, gates: Any) -> None:
    """Gates i, f, o and the candidate."""
    width = len(state) // 2
    for i in range(3 * width):
        gates[i] = 1.0 / (1.0 + exponential(-gates[i]))
    for i in range(width):
        candidate = hyperbolic_tangent(gates[3 * width + i])
        state[width + i] = gates[width + i] * state[width + i] + gates[i] * candidate
        state[i] = gates[2 * width + i] * hyperbolic_tangent(state[width + i])


@compiled
def _predict_rows(
    flat: Any, shape: Any, inverse_temperature: float, reset_on_start: bool, inputs: Any, log_probs: Any
) -> None:
    vocab_size = shape[0]
    table, recurrent, output, _, bias, _ = _fold(flat, shape, inverse_temperature)
    width = len(recurrent)
    logits, weights = np.empty(vocab_size), np.empty(vocab_size)
    levels, sums = open_sum_tree(vocab_size)
    for i in range(len(inputs)):
        state, recalled, gates = np.zeros(2 * width), np.zeros(table.shape[1]), np.empty(table.shape[1])
        for t in range(inputs.shape[1]):
            if reset_on_start and inputs[i, t] == inputs[i, 0]:
                state[:] = 0.0
                recalled[:] = 0.0
            _advance(table[inputs[i, t]], recurrent, state, recalled, gates)
            logits[:] = bias
            add_product(output, state, logits)
            shift = logits.max()
            set_powers_of_two(logits, 1.0, shift, weights)
            log_total = logarithm(sum_tree(weights, levels, sums)) + shift * LN_2
            for v in range(vocab_size):
                log_probs[i, t, v] = logits[v] * LN_2 - log_total
