r"""Which heads copy by looking back: induction, previous-token and copy scores of every head.

An induction head finds where the present token stood before, and attends to what came after it. It takes two heads: one
writes into each token which token came before it (previous-token head), and a later one looks for its own token in what
was written. Where such heads form, language models begin to learn in context.

Attention is measured against **sources**: which positions an ideal head would attend to from each token. Three kinds of
tokens give three kinds of sources:

- random tokens, read twice: the position after the same place of the first reading (`repeated_sources`), as is usual;
- any tokens: the positions after all earlier occurrences of the newest n of them (`matched_sources`);
- the same, shuffled within each row: what is left of a score there is due to which tokens there are, not their order.

Source: Olsson et al. 2022, "In-context Learning and Induction Heads" (arXiv 2209.11895), "prefix matching"; Elhage et
al. 2021, "A Mathematical Framework for Transformer Circuits", on eigenvalues of the copying circuit. Where we differ:
random tokens may repeat within a reading, since small models have few ids, and only the place in the reading counts
there; elsewhere more than one token may have to match, for the same reason.

Shapes: B rows, T tokens, H query heads, D = d_model, C numbers per head, V ids.
"""

from __future__ import annotations

from typing import TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xenoglot.decoder import Decoder
from xenoglot.errors import DataError
from xenoglot.languages.base import Floats, Tokens
from xenoglot.mechanisms.circuits import ov_circuits
from xenoglot.options import whole_number
from xenoglot.transformer.blocks import Block

__all__ = [
    "copy_scores",
    "matched_sources",
    "previous_sources",
    "repeated_sources",
    "repeated_tokens",
    "source_scores",
    "uniform_score",
]

Mask: TypeAlias = NDArray[np.bool_]


def repeated_tokens(
    n_rows: int, n_tokens: int, first_id: int, last_id: int, rng: np.random.Generator, *, n_readings: int = 2
) -> Tokens:
    """Draw uniformly random ids and write them down again: int32 [B, n_readings n_tokens].

    Example:
        >>> from xenoglot.rng import generator
        >>> repeated_tokens(2, 3, 1, 16, generator(0, "example"))[:, :3].shape
        (2, 3)
    """
    whole_number("n_readings", n_readings, minimum=1)
    once_BT = rng.integers(first_id, last_id, endpoint=True, size=(n_rows, n_tokens), dtype=np.int32)
    return np.tile(once_BT, (1, n_readings))


def repeated_sources(n_rows: int, n_tokens: int, *, n_readings: int = 2) -> Mask:
    """Return the sources of `repeated_tokens`, bool [B, T, T]: what followed the same place of earlier readings.

    Example:
        >>> [np.flatnonzero(from_t).tolist() for from_t in repeated_sources(1, 3)[0]]
        [[], [], [], [1], [2], [3]]
    """
    places_T = np.arange(n_readings * n_tokens)
    distance_TT = places_T[:, None] - (places_T - 1)
    is_source_TT = (distance_TT > 0) & (distance_TT % n_tokens == 0) & (places_T > 0)
    return np.tile(is_source_TT, (n_rows, 1, 1))


def previous_sources(n_rows: int, n_tokens: int) -> Mask:
    """Return the sources of an ideal previous-token head, bool [B, T, T]: t - 1 for each t but the first.

    Example:
        >>> previous_sources(1, 3).astype(int).tolist()
        [[[0, 0, 0], [1, 0, 0], [0, 1, 0]]]
    """
    return np.tile(np.eye(n_tokens, k=-1, dtype=np.bool_), (n_rows, 1, 1))


def matched_sources(input_ids_BT: Tokens, *, n_matched: int = 1) -> Mask:
    """Return which positions followed an earlier occurrence of the newest ``n_matched`` tokens, bool [B, T, T].

    Where few ids come again and again, one token has always just been seen, and says little about what follows: two or
    three together say more.

    Args:
        input_ids_BT: Any ids, whole numbers [B, T].
        n_matched: How many tokens must be the same, the newest included.

    Raises:
        DataError: If the ids are not whole numbers [B, T].

    Example:
        >>> ids = np.array([[5, 6, 7, 5, 6, 5]])
        >>> [np.flatnonzero(from_t).tolist() for from_t in matched_sources(ids)[0]]
        [[], [], [], [1], [2], [1, 4]]
        >>> [np.flatnonzero(from_t).tolist() for from_t in matched_sources(ids, n_matched=2)[0]]
        [[], [], [], [], [2], []]
    """
    whole_number("n_matched", n_matched, minimum=1)
    if input_ids_BT.ndim != 2 or not np.issubdtype(input_ids_BT.dtype, np.integer):
        found = f"{input_ids_BT.dtype} of shape {list(input_ids_BT.shape)}"
        raise DataError(f"input_ids_BT: got {found}; allowed: whole numbers [B, T].")
    is_same_BTT: Mask = input_ids_BT[:, :, None] == input_ids_BT[:, None, :]
    is_matched_BTT = is_same_BTT.copy()
    for back in range(1, n_matched):
        is_matched_BTT[:, back:, back:] &= is_same_BTT[:, :-back, :-back]
        is_matched_BTT[:, :back] = is_matched_BTT[:, :, :back] = False
    sources_BTT = np.zeros_like(is_matched_BTT)
    sources_BTT[:, :, 1:] = np.tril(is_matched_BTT, k=-1)[:, :, :-1]
    return sources_BTT


def source_scores(patterns_BHTT: Tensor, sources_BTT: Mask) -> Floats:
    r"""Return, for each head, the mean attention that tokens give to their sources together, float64 [H], from 0 to 1.

    .. math::
        \mathrm{score}_h = \frac{1}{|S|} \sum_{(b, t) \in S} \sum_{s \in \mathrm{sources}_b(t)} A_{bh}[t, s],
        \qquad S = \{(b, t) : t \text{ has a source}\}

    Args:
        patterns_BHTT: A layer's attention, as `attention_patterns` returns it.
        sources_BTT: Which positions each token ought to attend to, if any.

    Returns:
        The scores; nan for all heads if no token has a source.

    Raises:
        DataError: If the shapes do not belong together.

    Example:
        >>> uniform = torch.full((1, 1, 4, 4), 1.0).tril() / torch.arange(1.0, 5.0)[:, None]
        >>> source_scores(uniform, previous_sources(1, 4)).round(4)   # (1/2 + 1/3 + 1/4) / 3
        array([0.3611])
    """
    n_rows, n_heads, n_tokens, _ = patterns_BHTT.shape
    if sources_BTT.shape != (n_rows, n_tokens, n_tokens):
        allowed = [n_rows, n_tokens, n_tokens]
        raise DataError(f"sources_BTT: got shape {list(sources_BTT.shape)}; allowed: that of the patterns, {allowed}.")
    n_sourced = np.count_nonzero(sources_BTT.any(axis=2))
    if not n_sourced:
        return np.full(n_heads, np.nan)
    sources = torch.from_numpy(sources_BTT).to(patterns_BHTT)
    given_BH = torch.einsum("bhts,bts->bh", patterns_BHTT, sources)
    scores_H: Floats = given_BH.cpu().double().sum(dim=0).numpy() / n_sourced
    return scores_H


def uniform_score(sources_BTT: Mask) -> float:
    r"""Return what a head scores that attends to all it sees alike: the mean share of sources among positions 0 to t.

    Example:
        >>> round(uniform_score(previous_sources(1, 4)), 4)
        0.3611
    """
    counts_BT = sources_BTT.sum(axis=2)
    shares_BT = counts_BT / np.arange(1, counts_BT.shape[1] + 1)
    return float(shares_BT[counts_BT > 0].mean()) if counts_BT.any() else float("nan")


@torch.no_grad()
def copy_scores(model: Decoder) -> Floats:
    r"""Return, for each head of each layer, whether what it attends to becomes likelier, float64 [n_layers, H].

    What head h moves from a token into the logits, layers between left out, is the matrix over ids

    .. math::
        M_h = W_U\, W_O^h\, W_V^{kv(h)}\, W_E \in \mathbb{R}^{V \times V}, \qquad
        \mathrm{score}_h = \frac{\sum_i \lambda_i}{\sum_i |\lambda_i|}

    with the eigenvalues of M_h: 1 if all are positive, so that combinations of ids raise their own logits, -1 if all
    are negative, and about 0 for a random matrix. Eigenvalues other than zero are those of the C x C matrix
    W_V W_E W_U W_O, which is what is worked out. The gains of the norms before attention and before the output are
    multiplied in; what norms divide by is a positive number for each token, and is left out.

    Returns:
        The scores; 0 for a head whose M_h has no eigenvalue but zero, as at the start, where W_U is zero.

    Source: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits", "Summarizing OV/QK matrices".
    """
    embedding_VD = model.model.embed_tokens.weight.double()
    output_VD = model.lm_head.weight.double() * model.model.norm.weight.double()
    scores = []
    for layer, block in enumerate(model.model.layers):
        gain_D = cast(Block, block).input_layernorm.weight.double()
        ids_DD = (embedding_VD * gain_D).T @ output_VD  # W_E W_U, over all ids
        circuits = [
            torch.as_tensor(circuit.right_KE).double() @ ids_DD @ torch.as_tensor(circuit.left_DK).double()
            for circuit in ov_circuits(model, layer)
        ]
        scores.append([_positive_share(torch.linalg.eigvals(circuit_CC)) for circuit_CC in circuits])
    return np.array(scores, dtype=np.float64)


def _positive_share(eigenvalues_C: Tensor) -> float:
    """Return the sum of eigenvalues over the sum of their sizes; imaginary parts come in pairs that cancel."""
    total = float(eigenvalues_C.abs().sum())
    return float(eigenvalues_C.real.sum()) / total if total > 0 else 0.0
