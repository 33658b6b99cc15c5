"""MetaLM-1: a few random elements, repeated in random order, disturbed; the task is to recover the clean next token.

Draw n elements: element k has length l_k = max(3, Poisson(l)), and each of its tokens is a uniform pick from 1..V. Then
repeat: pick an element uniformly (all n of them); append the clean element to y and a disturbed copy to x. Each
position is disturbed independently with probability e: it becomes MASK with probability m, or else one of the *other*
V - 1 tokens. A separator, V + 1, may stand after every element, in x and y, never disturbed.

inputs = x[0:L], targets = y[1:L+1]: the clean next token.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from xenoglot.errors import DataError
from xenoglot.kernels import (
    LOW_32,
    SHIFT_32,
    STREAM_ELEMENTS,
    STREAM_LANGUAGE,
    STREAM_NOISE,
    STREAM_TOKENS,
    bounded_integer,
    compiled,
    log_complement,
    logarithm,
    next_uniform,
    open_stream,
    philox,
    poisson_table,
    prefer_wide_vectors,
    sample_cumulative,
    uniform_of,
    whole_below,
)
from xenoglot.languages.base import MASK, Floats, Nats, Tokens
from xenoglot.languages.compiled import CompiledFamily, CompiledLanguage
from xenoglot.languages.element_filter import floor_with_separators, floor_without_separators, predict_rows
from xenoglot.options import option

__all__ = ["MetaLMv1", "MetaLMv1Language"]

SHORTEST_ELEMENT = 3
NOISE_BLOCKS = 64  # strikes of the noise drawn at once
FOREVER = 2.0**62  # a gap beyond any row


@dataclass(frozen=True, kw_only=True)
class MetaLMv1(CompiledFamily["MetaLMv1Language"]):
    r"""Random elements repeated with noise (Xenoverse's `metalang` v1; MetaGym's `metalm`).

    Floor: the exact Bayes filter over the hidden state (element k, position j), with b_t(k, j) = p(state | x_0..t):

    .. math::
        b_t(k, j) \propto c(x_t | E_k[j]) \, b_{t-1}(k, j-1), \qquad
        b_t(k, 0) \propto \frac{c(x_t | E_k[0])}{n} \sum_{k'} b_{t-1}(k', \text{end})

    with the channel c(x | y) = 1 - e if x = y, e m if x is MASK, and e (1 - m) / (V - 1) otherwise. The next target has
    probability sum over states of b_t times [the next clean token is v]. With separators the position is visible, and
    n weights suffice: O(n) a token; without, all sum l_k states are kept: O(sum l_k) a token.

    Prefixes that cannot be (a token beyond the longest element, any disturbance when e = 0): the filter starts anew at
    an element's beginning, and with separators so it does at every separator.

    Where we differ: the earlier code draws the replacement from all tokens, so that some are no replacement; its 2023
    version never emits the last element nor token V; later ones use id 0 for separator, mask and an ordinary token.
    What that version calls (V, n, l, e) is exactly ours with V - 1 tokens, n - 1 elements, error rate e q and mask
    ratio 0.3 / q, where q = 1 - 0.7 / (V - 1).

    Source: Wang et al., arXiv 2405.17234; PaddlePaddle `l3c`, `metalang/metalangv1.py`.

    Example:
        >>> family = MetaLMv1(vocab_size=16, n_elements=4, element_length=8, separator=True)
        >>> batch = family.batch(batch_size=2, length=256, seed=0, floor=True)
        >>> batch.inputs.shape, batch.floor_nats.shape
        ((2, 256), (2, 256))
    """

    name: ClassVar[str] = "metalm-v1"
    aliases: ClassVar[tuple[str, ...]] = ("v1",)

    vocab_size: int = option(64, "ordinary tokens, 1..V", unit="tokens", minimum=2, maximum=2**31 - 3)
    n_elements: int = option(10, "elements of a language, n", minimum=1, maximum=10**6, flags=("elements_number", "n"))
    element_length: float = option(
        64, "mean length of an element, l", unit="tokens", minimum=1, maximum=10**6, flags=("elements_length",)
    )
    error_rate: float = option(0.10, "probability that a position is disturbed, e", minimum=0.0, maximum=1.0)
    mask_ratio: float = option(0.30, "share of the disturbed positions that become MASK, m", minimum=0.0, maximum=1.0)
    separator: bool = option(False, "whether a separator, id V + 1, stands after every element")

    @property
    def n_tokens(self) -> int:
        return self.vocab_size + (2 if self.separator else 1)

    @property
    def separator_id(self) -> int | None:
        """The separator's id, V + 1; None if there is none."""
        return self.vocab_size + 1 if self.separator else None

    def _draw(self, seed: int, row: int) -> MetaLMv1Language:
        lengths = poisson_table(float(self.element_length))
        flat, starts = _draw_elements(seed, row, self.vocab_size, self.n_elements, lengths)
        return MetaLMv1Language(self, flat, starts)

    def _write(
        self,
        language: MetaLMv1Language | None,
        seed: int,
        start: int,
        inputs: Tokens,
        targets: Tokens,
        floor_nats: Nats,
    ) -> None:
        if language is None:
            shape = (self.vocab_size, self.n_elements, float(self.element_length))
            _write_languages(seed, start, shape, self._law(), inputs, targets, floor_nats)
        else:
            _write_rows(seed, start, language.flat, language.starts, self._law(), inputs, targets, floor_nats)

    def _law(self) -> tuple[float, float, float, float, int, int]:
        """Return what the compiled code must know: e, m, c(x | x), c(x | y), V, and the separator or -1."""
        e, m = float(self.error_rate), float(self.mask_ratio)
        replaced = e * (1.0 - m) / (self.vocab_size - 1)
        return e, m, 1.0 - e, replaced, self.vocab_size, self.separator_id or -1


class MetaLMv1Language(CompiledLanguage):
    """One language of MetaLM-1.

    Attributes:
        elements: The n elements, int32 arrays of ids 1..V.
        flat: The elements one behind the other, int32.
        starts: Where each starts, and where the last ends, int64 [n + 1].
    """

    family: MetaLMv1

    def __init__(self, family: MetaLMv1, flat: Tokens, starts: Any) -> None:
        self.family = family
        self.flat = flat
        self.starts = starts

    @classmethod
    def from_elements(cls, family: MetaLMv1, elements: Sequence[ArrayLike]) -> MetaLMv1Language:
        """Make a language of elements of your own, of any length from 1.

        Args:
            family: Gives the vocabulary, noise and separator; its number and length of elements are not used.
            elements: Sequences of ids from 1 to V.

        Raises:
            DataError: If there is no element, or one is empty or holds other ids.
        """
        arrays = [np.asarray(element) for element in elements]
        for index, array in enumerate(arrays):
            is_whole = array.ndim == 1 and array.size > 0 and np.issubdtype(array.dtype, np.integer)
            if not is_whole or array.min() < 1 or array.max() > family.vocab_size:
                raise DataError(f"elements[{index}]: got {array!r}; allowed: ids from 1 to {family.vocab_size}.")
        if not arrays:
            raise DataError("elements: got none; allowed: at least one sequence of ids.")
        starts = np.concatenate([[0], np.cumsum([array.size for array in arrays])]).astype(np.int64)
        return cls(family, np.concatenate(arrays).astype(np.int32), starts)

    @property
    def elements(self) -> list[Tokens]:
        """The clean elements, in the order of their numbers."""
        return [self.flat[first:last].copy() for first, last in itertools.pairwise(self.starts)]

    def _predict(self, inputs: Tokens) -> Floats:
        probabilities = np.zeros((*inputs.shape, self.family.n_tokens))
        predict_rows(self.flat, self.starts, self.family._law(), inputs, probabilities)
        with np.errstate(divide="ignore"):
            log_probs: Floats = np.log(probabilities)
        return log_probs

    def _input_log_probs(self, inputs: Tokens) -> Floats:
        """Return ln p(x_t | x before t): the law of the next clean token, through the channel."""
        probabilities = np.zeros((*inputs.shape, self.family.n_tokens))
        predict_rows(self.flat, self.starts, self.family._law(), inputs, probabilities)
        first = np.zeros(self.family.n_tokens)
        np.add.at(first, self.flat[self.starts[:-1]], 1.0 / (len(self.starts) - 1))
        before_BLV = np.concatenate(
            [np.broadcast_to(first, (len(inputs), 1, first.size)), probabilities[:, :-1]], axis=1
        )
        e, m, kept, replaced, vocab_size, separator = self.family._law()
        clean_BL = np.take_along_axis(before_BLV, inputs[..., None], axis=2)[..., 0]
        words_BL = before_BLV[..., 1 : vocab_size + 1].sum(axis=2)
        observed_BL = kept * clean_BL + replaced * (words_BL - clean_BL)
        observed_BL = np.where(inputs == MASK, e * m * words_BL, observed_BL)
        if separator > 0:
            observed_BL = np.where(inputs == separator, clean_BL, observed_BL)
        with np.errstate(divide="ignore"):
            log_probs: Floats = np.log(np.maximum(observed_BL, 0.0))
        return log_probs


@compiled
def _draw_elements(seed: int, row: int, vocab_size: int, n_elements: int, lengths: Any) -> tuple[Any, Any]:
    """Draw a language: its elements one behind the other, and where each starts."""
    prefer_wide_vectors()
    least, cumulative = lengths
    source = open_stream(seed, STREAM_LANGUAGE, row)
    starts = np.empty(n_elements + 1, np.int64)
    starts[0] = 0
    for k in range(n_elements):
        drawn = least + sample_cumulative(cumulative, next_uniform(source))
        starts[k + 1] = starts[k] + max(SHORTEST_ELEMENT, drawn)
    n_pairs = (starts[n_elements] + 1) // 2
    flat = np.empty(2 * n_pairs, np.int32)
    low, high = np.uint64(row) & LOW_32, np.uint64(row) >> SHIFT_32
    for i in range(n_pairs):  # a Philox block gives two tokens: with no state in between, this vectorises
        w0, w1, w2, w3 = philox(seed, STREAM_ELEMENTS, low, high, np.uint64(i) & LOW_32)
        flat[i] = 1 + whole_below(uniform_of(w0, w1), vocab_size)
        flat[n_pairs + i] = 1 + whole_below(uniform_of(w2, w3), vocab_size)
    return flat[: starts[n_elements]], starts


@compiled
def _write_languages(seed: int, start: int, shape: Any, law: Any, inputs: Any, targets: Any, floor_nats: Any) -> None:
    vocab_size, n_elements, mean_length = shape
    lengths = poisson_table(mean_length)
    for i in range(len(inputs)):
        flat, starts = _draw_elements(seed, start + i, vocab_size, n_elements, lengths)
        rows = slice(i, i + 1)
        _write_rows(seed, start + i, flat, starts, law, inputs[rows], targets[rows], floor_nats[rows])


@compiled
def _write_rows(
    seed: int, start: int, flat: Any, starts: Any, law: Any, inputs: Any, targets: Any, floor_nats: Any
) -> None:
    for i in range(len(inputs)):
        _write_row(seed, start + i, flat, starts, law, inputs[i], targets[i])
        if floor_nats.size:
            if law[5] > 0:
                floor_with_separators(flat, starts, law, inputs[i], targets[i], floor_nats[i])
            else:
                floor_without_separators(flat, starts, law, inputs[i], targets[i], floor_nats[i])


@compiled
def _write_row(seed: int, row: int, flat: Any, starts: Any, law: Any, inputs: Any, targets: Any) -> None:
    """Write x[0:L] and y[1:L+1]: copy whole elements to both, then disturb x."""
    length, separator = len(inputs), law[5]
    source = open_stream(seed, STREAM_TOKENS, row)
    position = 0
    while position <= length:
        k = bounded_integer(source, len(starts) - 1)
        first = starts[k]
        count = min(starts[k + 1] - first, length + 1 - position)
        for i in range(min(count, length - position)):
            inputs[position + i] = flat[first + i]
        for i in range(1 if position == 0 else 0, count):
            targets[position + i - 1] = flat[first + i]
        position += count
        if separator > 0 and position <= length:
            if position < length:
                inputs[position] = separator
            targets[position - 1] = separator
            position += 1
    _disturb(seed, row, law, inputs)


@compiled
def _disturb(seed: int, row: int, law: Any, inputs: Any) -> None:
    """Disturb a clean row: go from one struck position to the next, and leave separators as they are."""
    vocab_size, separator = law[4], law[5]
    gaps, steps = np.empty(NOISE_BLOCKS, np.int64), np.empty(NOISE_BLOCKS, np.int64)
    position, struck = -1, 0
    while True:
        if struck % NOISE_BLOCKS == 0:
            _draw_noise(seed, row, struck, law, gaps, steps)
        gap, step = gaps[struck % NOISE_BLOCKS], steps[struck % NOISE_BLOCKS]
        position += 1 + gap
        struck += 1
        if position >= len(inputs):
            return
        token = inputs[position]
        if token != separator:
            stepped = token + step
            around = stepped if stepped <= vocab_size else stepped - vocab_size
            inputs[position] = MASK if step == 0 else around


@compiled
def _draw_noise(seed: int, row: int, first: int, law: Any, gaps: Any, steps: Any) -> None:
    """Draw the next strikes of the noise, one Philox block each, many at once so that the logarithms vectorise.

    Args:
        seed: The seed.
        row: The row.
        first: The number of the first of them.
        law: The language's law.
        gaps: Filled with how many positions stay as they are before each: P(gap >= k) = (1 - e)^k.
        steps: Filled with 0 for MASK, else how far to step from the clean token, 1 to V - 1, around the vocabulary.
    """
    prefer_wide_vectors()
    error_rate, mask_ratio, _, _, vocab_size, _ = law
    log_survival = log_complement(error_rate)
    low, high = np.uint64(row) & LOW_32, np.uint64(row) >> SHIFT_32
    to_unit = 1.0 / max(1.0 - mask_ratio, 1e-300)
    for i in range(len(gaps)):
        w0, w1, w2, w3 = philox(seed, STREAM_NOISE, low, high, (np.uint64(first) + np.uint64(i)) & LOW_32)
        gaps[i] = np.int64(min(logarithm(uniform_of(w0, w1)) / log_survival, FOREVER))
        beyond = uniform_of(w2, w3) - mask_ratio
        steps[i] = 0 if beyond < 0.0 else 1 + whole_below(beyond * to_unit, vocab_size - 1)
