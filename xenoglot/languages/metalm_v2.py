"""MetaLM-2: an untrained random recurrent network is the language; it is read by sampling from it.

Every token v has an embedding e_v in R^n; a recurrent cell reads them and its state h in R^H gives the logits
(W_o h + b_o) / temperature. All embeddings, weights and biases are standard normal. x_0 is uniform in 1..V, h starts at
zero, and every further token is sampled.

inputs = x[0:L], targets = x[1:L+1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from xenoglot.kernels import STREAM_LANGUAGE, fill_normals
from xenoglot.languages.base import Floats, Nats, Tokens
from xenoglot.languages.compiled import CompiledFamily, CompiledLanguage
from xenoglot.languages.recurrent_network import GATES, n_weights, parts, predict_rows, write_rows
from xenoglot.options import option

__all__ = ["MetaLMv2", "MetaLMv2Language", "NetworkWeights"]


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

    Floor: the network's own law, exact. Narrow networks forget rounding errors (n=16: all in float32, h is off by 1e-6
    in the median); wide ones are chaotic (n=64: a change of 1e-12 in h is as large as h itself 200 tokens later), and
    their law at such distances is defined by our arithmetic: float64 in a written order. MASK, which never occurs,
    reads as a zero embedding.

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
    temperature: float = option(1.0, "divides the logits; large means random", minimum=1e-300, maximum=1e6)
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
        flat = np.empty(n_weights(*self._shape()))
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
        flat = np.empty(n_weights(*self._shape())) if language is None else language.flat
        law = (language is None, self._shape(), 1.0 / self.temperature, self.reset_on_start)
        write_rows(seed, start, flat, law, inputs, targets, floor_nats)


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
        return NetworkWeights(*(part.copy() for part in parts(self.flat, *self.family._shape())))

    def _predict(self, inputs: Tokens) -> Floats:
        family = self.family
        log_probs = np.full((*inputs.shape, family.n_tokens), -np.inf)
        predict_rows(
            self.flat, family._shape(), 1.0 / family.temperature, family.reset_on_start, inputs, log_probs[:, :, 1:]
        )
        return log_probs
