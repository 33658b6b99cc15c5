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

from xenoglot.languages.base import Family, Floats, Language, Nats, Tokens
from xenoglot.languages.kernels import (
    LANES,
    STREAM_LANGUAGE,
    STREAM_TOKENS,
    add_product,
    bounded_integer,
    compiled,
    exponential,
    exponentiate,
    fill_normals,
    hyperbolic_tangent,
    logarithm,
    next_uniform,
    open_stream,
    padded,
    run_rows,
    sample_weights,
)
from xenoglot.options import option

__all__ = ["MetaLMv2", "MetaLMv2Language", "NetworkWeights"]

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
RNN, GRU, LSTM = 1, 3, 4
LARGEST_SAFE_LOGIT = 600.0  # below this e^logit neither overflows nor needs the largest logit taken off first


@dataclass(frozen=True, kw_only=True)
class MetaLMv2(Family):
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
    arithmetic: float64 in a written order, the same on every machine. MASK, which never occurs, reads as a zero embedding.

    Source: PaddlePaddle MetaGym, `metagym/metalm` v2; cells: Cho et al., arXiv 1406.1078; Hochreiter & Schmidhuber 1997.

    Example:
        >>> batch = MetaLMv2(vocab_size=32, n=8).batch(batch_size=2, length=64, seed=0, floor=True)
        >>> bool((batch.inputs[:, 1:] == batch.targets[:, :-1]).all())
        True
    """

    name: ClassVar[str] = "metalm-v2"
    aliases: ClassVar[tuple[str, ...]] = ("v2",)

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

    def _fill(
        self, seed: int, start: int, inputs: Tokens, targets: Tokens, floor_nats: Nats | None, threads: int | None
    ) -> None:
        self._write(seed, start, None, inputs, targets, floor_nats, threads)

    def _write(
        self,
        seed: int,
        start: int,
        flat: Floats | None,
        inputs: Tokens,
        targets: Tokens,
        floor_nats: Nats | None,
        threads: int | None,
    ) -> None:
        """Write rows of the network with these weights, or each of its own network if there are none."""

        def work(first: int, last: int) -> None:
            _write_rows(
                seed,
                start + first,
                np.empty(_n_weights(*self._shape())) if flat is None else flat,
                flat is None,
                self._shape(),
                1.0 / self.temperature,
                self.reset_on_start,
                inputs[first:last],
                targets[first:last],
                _NO_FLOOR if floor_nats is None else floor_nats[first:last],
            )

        run_rows(work, n_rows=len(inputs), length=8 * inputs.shape[1], threads=threads)


class NetworkWeights(NamedTuple):
    """The parameters of one network; G is 1 for rnn, 3 for gru (r, z, candidate), 4 for lstm (i, f, o, g)."""

    embeddings_Vn: Floats
    input_weights_GHn: Floats
    recurrent_weights_GHH: Floats
    biases_GH: Floats
    output_weights_VH: Floats
    output_biases_V: Floats


class MetaLMv2Language(Language):
    """One random recurrent network."""

    family: MetaLMv2

    def __init__(self, family: MetaLMv2, flat: Floats) -> None:
        self.family = family
        self._flat = flat

    @property
    def weights(self) -> NetworkWeights:
        """The network's parameters; token id v has row v - 1."""
        return NetworkWeights(*(part.copy() for part in _parts(self._flat, *self.family._shape())))

    def _fill(
        self, seed: int, start: int, inputs: Tokens, targets: Tokens, floor_nats: Nats | None, threads: int | None
    ) -> None:
        self.family._write(seed, start, self._flat, inputs, targets, floor_nats, threads)

    def _predict(self, inputs: Tokens) -> Floats:
        family = self.family
        log_probs = np.full((*inputs.shape, family.n_tokens), -np.inf)
        _predict_rows(
            self._flat, family._shape(), 1.0 / family.temperature, family.reset_on_start, inputs, log_probs[:, :, 1:]
        )
        return log_probs


_NO_FLOOR = np.empty((0, 0), np.float32)


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
    """Fold the weights into what a step needs.

    Returns:
        The gates' input for every token id, bias included [V + 1, G H]; the recurrent weights by source [H, G H]; the
        output weights by source [H, V padded] and biases [V padded], both over the temperature; the largest |logit|.
    """
    vocab_size, n, width, gates = shape
    embeddings, input_weights, recurrent_weights, biases, output_weights, output_biases = _parts(
        flat, vocab_size, n, width, gates
    )
    by_source = np.ascontiguousarray(input_weights.reshape(gates * width, n).T)
    table = np.empty((vocab_size + 1, gates * width))
    table[:] = biases.reshape(gates * width)
    for v in range(vocab_size):
        add_product(by_source, embeddings[v], table[v + 1])
    recurrent = np.ascontiguousarray(recurrent_weights.reshape(gates * width, width).T)
    output = np.zeros((width, padded(vocab_size)))
    bias = np.zeros(padded(vocab_size))
    bound = 0.0
    for v in range(vocab_size):
        bias[v] = output_biases[v] * inverse_temperature
        size = abs(bias[v])
        for j in range(width):
            output[j, v] = output_weights[v, j] * inverse_temperature
            size += abs(output[j, v])
        bound = max(bound, size)
    return table, recurrent, output, bias, bound


@compiled
def _write_rows(
    seed: int,
    start: int,
    flat: Any,
    draw: bool,
    shape: Any,
    inverse_temperature: float,
    reset_on_start: bool,
    inputs: Any,
    targets: Any,
    floor_nats: Any,
) -> None:
    folded = _fold(flat, shape, inverse_temperature)
    for i in range(len(inputs)):
        if draw:
            fill_normals(seed, STREAM_LANGUAGE, start + i, 0, flat)
            folded = _fold(flat, shape, inverse_temperature)
        table, recurrent, output, bias, bound = folded
        floor_row = floor_nats[i] if floor_nats.size else floor_nats[:0, 0]
        _write_row(
            open_stream(seed, STREAM_TOKENS, start + i),
            shape[0],
            table,
            recurrent,
            output,
            bias,
            bound,
            reset_on_start,
            inputs[i],
            targets[i],
            floor_row,
        )


@compiled
def _write_row(
    source: Any,
    vocab_size: int,
    table: Any,
    recurrent: Any,
    output: Any,
    bias: Any,
    bound: float,
    reset_on_start: bool,
    inputs: Any,
    targets: Any,
    floor_nats: Any,
) -> None:
    width, wants_floor = len(recurrent), floor_nats.size > 0
    state, gates, scratch = np.zeros(2 * width), np.empty(table.shape[1]), np.empty(table.shape[1])
    logits, weights, lanes = np.empty(len(bias)), np.empty(len(bias)), np.empty(LANES)
    first_token = 1 + bounded_integer(source, vocab_size)
    token = first_token
    for t in range(len(inputs)):
        inputs[t] = token
        if reset_on_start and token == first_token:
            state[:] = 0.0
        _advance(table[token], recurrent, state, gates, scratch)
        logits[:] = bias
        add_product(output, state[:width], logits)
        shift = 0.0 if bound < LARGEST_SAFE_LOGIT else logits[:vocab_size].max()
        total = exponentiate(logits, 1.0, shift, vocab_size, weights, lanes)
        v = sample_weights(weights, lanes, next_uniform(source) * total)
        token = v + 1
        targets[t] = token
        if wants_floor:
            floor_nats[t] = logarithm(total) + shift - logits[v]


@compiled
def _advance(from_token: Any, recurrent: Any, state: Any, gates: Any, scratch: Any) -> None:
    """Move the state on by one token: state is [h, memory cell], and the number of gates tells the cell."""
    width = len(recurrent)
    n_gates = len(from_token) // width
    h = state[:width]
    if n_gates == GRU:
        _advance_gru(from_token, recurrent, h, gates, scratch)
        return
    gates[:] = from_token
    add_product(recurrent, h, gates)
    if n_gates == RNN:
        for i in range(width):
            h[i] = hyperbolic_tangent(gates[i])
        return
    memory = state[width:]
    for i in range(3 * width):
        gates[i] = 1.0 / (1.0 + exponential(-gates[i]))
    for i in range(width):
        candidate = hyperbolic_tangent(gates[3 * width + i])
        memory[i] = gates[width + i] * memory[i] + gates[i] * candidate
        h[i] = gates[2 * width + i] * hyperbolic_tangent(memory[i])


@compiled
def _advance_gru(from_token: Any, recurrent: Any, h: Any, gates: Any, scratch: Any) -> None:
    width = len(h)
    gates[:] = from_token
    add_product(recurrent[:, : 2 * width], h, gates[: 2 * width])
    for i in range(2 * width):
        gates[i] = 1.0 / (1.0 + exponential(-gates[i]))
    kept = scratch[:width]
    for i in range(width):
        kept[i] = gates[i] * h[i]
    add_product(recurrent[:, 2 * width :], kept, gates[2 * width :])
    for i in range(width):
        z = gates[width + i]
        h[i] = z * h[i] + (1.0 - z) * hyperbolic_tangent(gates[2 * width + i])


@compiled
def _predict_rows(
    flat: Any, shape: Any, inverse_temperature: float, reset_on_start: bool, inputs: Any, log_probs: Any
) -> None:
    vocab_size = shape[0]
    table, recurrent, output, bias, _ = _fold(flat, shape, inverse_temperature)
    width = len(recurrent)
    gates, scratch = np.empty(table.shape[1]), np.empty(table.shape[1])
    logits, weights, lanes = np.empty(len(bias)), np.empty(len(bias)), np.empty(LANES)
    for i in range(len(inputs)):
        state = np.zeros(2 * width)
        for t in range(inputs.shape[1]):
            if reset_on_start and inputs[i, t] == inputs[i, 0]:
                state[:] = 0.0
            _advance(table[inputs[i, t]], recurrent, state, gates, scratch)
            logits[:] = bias
            add_product(output, state[:width], logits)
            shift = logits[:vocab_size].max()
            total = exponentiate(logits, 1.0, shift, vocab_size, weights, lanes)
            for v in range(vocab_size):
                log_probs[i, t, v] = logits[v] - shift - logarithm(total)
