"""Random recurrent networks in compiled code: folding their weights, moving their state on, and writing rows.

Logits are in units of log2 here, and already divided by the temperature.

Shapes: V tokens, H the state's width, G gates (1 for rnn, 3 for gru: r, z, candidate; 4 for lstm: i, f, o,
candidate).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xenoglot.kernels import (
    LN_2,
    LOG2_E,
    STREAM_LANGUAGE,
    STREAM_TOKENS,
    Real,
    add_product,
    aligned_zeros,
    bounded_integer,
    compiled,
    copy_to,
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

__all__ = ["GATES", "n_weights", "parts", "predict_rows", "write_rows"]

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
RNN, GRU = 1, 3
LARGEST_SINGLE_LOGIT = 100.0  # below this 2^logit and its sums stay well inside float32
SINGLE_ROUNDING = 2.0**-24  # of one float32 operation, relative


def n_weights(vocab_size: int, n: int, width: int, gates: int) -> int:
    """Return how many parameters a network has."""
    return vocab_size * n + gates * width * (n + width + 1) + vocab_size * width + vocab_size


@compiled
def parts(flat: Any, vocab_size: int, n: int, width: int, gates: int) -> Any:
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
        What each token gives to the gates, bias included [V + 1, G H]; the recurrent weights by source [H, G H]; the
        output weights by source [H, V] and by token [V, H]; the output biases [V]; the largest |logit| there can be.
    """
    vocab_size, n, width, gates = shape
    embeddings, input_weights, recurrent_weights, gate_biases, output_weights, output_biases = parts(
        flat, vocab_size, n, width, gates
    )
    by_source = np.ascontiguousarray(input_weights.reshape(gates * width, n).T)
    all_biases = gate_biases.reshape(gates * width)
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
def write_rows(seed: int, start: int, flat: Any, law: Any, inputs: Any, targets: Any, floor_nats: Any) -> None:
    """Write rows of the network with these weights, or draw each its own into the same room.

    Args:
        seed: The seed.
        start: The first row's number.
        flat: The weights, or room for them.
        law: Whether each row draws its own network, the shape (V, n, H, G), 1 / temperature, and whether the state is
            zeroed wherever the first token recurs.
        inputs: Set, int32 [B, L].
        targets: Set, int32 [B, L].
        floor_nats: Set unless empty, float32 [B, L].
    """
    draws_weights, shape, inverse_temperature, reset_on_start = law
    network = _fold(flat, shape, inverse_temperature)
    for i in range(len(inputs)):
        if draws_weights:
            fill_normals(seed, STREAM_LANGUAGE, start + i, 0, flat)
            network = _fold(flat, shape, inverse_temperature)
        floor_row = floor_nats[i] if floor_nats.size else floor_nats[:0, 0]
        source = open_stream(seed, STREAM_TOKENS, start + i)
        if network[5] < LARGEST_SINGLE_LOGIT:
            _write_row_by_proposals(source, network, reset_on_start, inputs[i], targets[i], floor_row)
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
        shift, total = _weigh(output, bias, state, logits, weights, levels, sums)
        v = sample_tree(weights, levels, sums, next_uniform(source) * total)
        token = v + 1
        targets[t] = token
        if floor_nats.size:
            floor_nats[t] = logarithm(total) + (shift - logits[v]) * LN_2


@compiled
def _write_row_by_proposals(
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
    bias_single, state_single = aligned_zeros(vocab_size, np.float32), np.empty(width, np.float32)
    bias_single[:] = bias
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
        copy_to(logits_single, bias_single)
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
            shift, total = _weigh(output, bias, state, logits, weights, levels, sums)
            floor_nats[t] = logarithm(total) + (shift - logits[v]) * LN_2


@compiled
def _weigh(output: Any, bias: Any, state: Any, logits: Any, weights: Any, levels: Any, sums: Any) -> tuple[Real, Real]:
    """Set the logits after this state and the weights 2^(logit - shift), float64; returns the shift and the total."""
    copy_to(logits, bias)
    add_product(output, state, logits)
    shift = logits.max()
    set_powers_of_two(logits, 1.0, shift, weights)
    return shift, sum_tree(weights, levels, sums)


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
    if n_gates == RNN:
        for i in range(width):
            state[i] = hyperbolic_tangent(from_token[i] + recalled[i])
        recalled[:] = 0.0
        add_product(recurrent, state, recalled)
        return
    for i in range(len(gates)):
        gates[i] = from_token[i] + recalled[i]
    recalled[:] = 0.0
    if n_gates == GRU:
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
def predict_rows(
    flat: Any, shape: Any, inverse_temperature: float, reset_on_start: bool, inputs: Any, log_probs: Any
) -> None:
    """Set ln p(next token) by index [B, L, V] for inputs [B, L]."""
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
            shift, total = _weigh(output, bias, state, logits, weights, levels, sums)
            log_total = logarithm(total) + shift * LN_2
            for v in range(vocab_size):
                log_probs[i, t, v] = logits[v] * LN_2 - log_total
