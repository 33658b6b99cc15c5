"""Laws of the next token that are drawn when their context first occurs, for the families made of Dirichlet rows.

The row of a context is a function of (language, context), so it does not matter when, where or in what order the rows
are drawn, and memory stays proportional to the contexts that were met.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xenoglot.kernels import (
    EMPTY,
    LOW_32,
    SHIFT_32,
    STREAM_ELEMENTS,
    STREAM_LANGUAGE,
    compiled,
    empty_slots,
    exponential,
    log_gamma_variate,
    logarithm,
    next_uniform,
    open_stream,
    philox,
    sample_cumulative,
    slot_of,
)

__all__ = ["forget_rows", "language_key", "open_rows", "row_of", "sample_row"]


@compiled
def language_key(seed: int, row: int) -> int:
    """Return the 64-bit number that a language's rows are a function of."""
    w0, w1, _, _ = philox(seed, STREAM_LANGUAGE, np.uint64(row) & LOW_32, np.uint64(row) >> SHIFT_32, 0)
    return (np.uint64(w1) << SHIFT_32) | np.uint64(w0)  # type: ignore[return-value]


@compiled
def open_rows(vocab_size: int, most_contexts: float, length: int) -> Any:
    """Make room for the rows of every context that may be met in ``length`` tokens: the places are filled on demand.

    Returns:
        The slots of the contexts, the place that each leads to, ln p and the running sum of p by place [places, V],
        and how many places are used.
    """
    n_places = int(min(most_contexts, float(length + 1)))
    contexts = empty_slots(n_places)
    places = np.empty(len(contexts), np.int64)
    log_rows = np.empty((n_places, vocab_size))
    cumulative = np.empty((n_places, vocab_size))
    return contexts, places, log_rows, cumulative, np.zeros(1, np.int64)


@compiled
def forget_rows(table: Any) -> None:
    """Empty the table, for another language."""
    table[0][:] = EMPTY
    table[4][0] = 0


@compiled
def row_of(table: Any, key: int, context: int, alpha: float) -> int:
    """Find the place of a context's row, drawing it the first time; contexts are numbers from 0 to 2^64 - 2."""
    contexts, places, log_rows, cumulative, used = table
    wanted = np.uint64(context) + np.uint64(1)
    slot = slot_of(contexts, wanted)  # type: ignore[arg-type]
    if contexts[slot] == EMPTY:
        place = used[0]
        used[0] += 1
        contexts[slot], places[slot] = wanted, place
        _draw_log_row(key, context, alpha, log_rows[place])
        total = 0.0
        for v in range(log_rows.shape[1]):
            total += exponential(log_rows[place, v])
            cumulative[place, v] = total
    return places[slot]  # type: ignore[no-any-return]


@compiled
def sample_row(table: Any, place: int, source: Any) -> int:
    """Draw a token from 0 to V - 1 by its row."""
    return sample_cumulative(table[3][place], next_uniform(source))


@compiled
def _draw_log_row(key: int, context: int, alpha: float, log_row: Any) -> None:
    """Draw ln Dirichlet(alpha): normalised log-gammas, so that tiny alphas do not underflow."""
    source = open_stream(key, STREAM_ELEMENTS, context)
    largest = -np.inf
    for v in range(len(log_row)):
        log_row[v] = log_gamma_variate(source, alpha)
        largest = max(largest, log_row[v])
    total = 0.0
    for v in range(len(log_row)):
        total += exponential(log_row[v] - largest)
    normaliser = largest + logarithm(total)
    for v in range(len(log_row)):
        log_row[v] -= normaliser
