r"""Which heads copy by looking back: induction, previous-token and copy scores of every head.

An induction head finds where the present token stood before, and attends to what came after it. It takes two heads: one
writes into each token which token came before it (previous-token head), and a later one looks for its own token in what
was written. Where such heads form, language models begin to learn in context.

Attention is measured against **sources**: for each token the position that an ideal induction head would attend to, and
-1 where there is none. Three kinds of tokens give three kinds of sources:

- random tokens, read twice: the position after the same place of the first reading (`repeated_sources`), as is usual;
- any tokens: the position after the last earlier occurrence of the newest n of them (`matched_sources`);
- the same, shuffled within each row: what is left of a score there is due to which tokens there are, not their order.

Source: Olsson et al. 2022, "In-context Learning and Induction Heads" (arXiv 2209.11895), "prefix matching"; Elhage et
al. 2021, "A Mathematical Framework for Transformer Circuits", on eigenvalues of the copying circuit. Where we differ: a
source is one position, the last one, where Olsson et al. add up all earlier ones (with two readings of random tokens
both are the same but for chance); random tokens may repeat within a reading, since small models have few ids.

Shapes: B rows, T tokens, H query heads, D = d_model, C numbers per head, V ids.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from xenoglot.blocks import Block
from xenoglot.decoder import Decoder
from xenoglot.errors import DataError
from xenoglot.languages.base import Floats, Tokens
from xenoglot.options import whole_number

__all__ = [
    "copy_scores",
    "matched_sources",
    "previous_sources",
    "repeated_sources",
    "repeated_tokens",
    "source_scores",
    "uniform_score",
]

NO_SOURCE = -1


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


def repeated_sources(n_rows: int, n_tokens: int, *, n_readings: int = 2) -> Tokens:
    """Return the sources of `repeated_tokens`: for t after the first reading t - n_tokens + 1, in the last one before.

    Example:
        >>> repeated_sources(1, 3).tolist()
        [[-1, -1, -1, 1, 2, 3]]
    """
    places_T = np.arange(n_readings * n_tokens, dtype=np.int32)
    sources_T = np.where(places_T < n_tokens, NO_SOURCE, places_T - n_tokens + 1).astype(np.int32)
    return np.tile(sources_T, (n_rows, 1))


def previous_sources(n_rows: int, n_tokens: int) -> Tokens:
    """Return the sources of an ideal previous-token head: t - 1 for each t but the first.

    Example:
        >>> previous_sources(1, 4).tolist()
        [[-1, 0, 1, 2]]
    """
    return np.tile(np.arange(-1, n_tokens - 1, dtype=np.int32), (n_rows, 1))


def matched_sources(input_ids_BT: Tokens, *, n_matched: int = 1) -> Tokens:
    """Return, for each position, the one after the last earlier occurrence of the newest ``n_matched`` tokens, or -1.

    Where few ids come again and again, one token has always just been seen, and says little about what follows: two or
    three together say more.

    Args:
        input_ids_BT: Any ids, whole numbers [B, T].
        n_matched: How many tokens must be the same, the newest included.

    Raises:
        DataError: If the ids are not whole numbers [B, T].

    Example:
        >>> matched_sources(np.array([[5, 6, 7, 5, 6, 5]])).tolist()
        [[-1, -1, -1, 1, 2, 4]]
        >>> matched_sources(np.array([[5, 6, 7, 5, 6, 5]]), n_matched=2).tolist()
        [[-1, -1, -1, -1, 2, -1]]
    """
    whole_number("n_matched", n_matched, minimum=1)
    if input_ids_BT.ndim != 2 or not np.issubdtype(input_ids_BT.dtype, np.integer):
        found = f"{input_ids_BT.dtype} of shape {list(input_ids_BT.shape)}"
        raise DataError(f"input_ids_BT: got {found}; allowed: whole numbers [B, T].")
    sources_BT = np.full(input_ids_BT.shape, NO_SOURCE, dtype=np.int32)
    for row, ids_T in enumerate(input_ids_BT.tolist()):
        last_place: dict[tuple[int, ...], int] = {}
        for t in range(n_matched - 1, len(ids_T)):
            newest = tuple(ids_T[t - n_matched + 1 : t + 1])
            sources_BT[row, t] = last_place.get(newest, NO_SOURCE - 1) + 1
            last_place[newest] = t
    return sources_BT


def source_scores(patterns_BHTT: Tensor, sources_BT: Tokens) -> Floats:
    r"""Return, for each head, the mean attention that tokens give to their sources, float64 [H], from 0 to 1.

    .. math::
        \mathrm{score}_h = \frac{1}{|S|} \sum_{(b, t) \in S} A_{bh}[t, \mathrm{source}_b(t)],
        \qquad S = \{(b, t) : t \text{ has a source}\}

    Args:
        patterns_BHTT: A layer's attention, as `attention_patterns` returns it.
        sources_BT: The position that each token ought to attend to, -1 where there is none.

    Returns:
        The scores; nan for all heads if no token has a source.

    Raises:
        DataError: If the shapes do not belong together.

    Example:
        >>> uniform = torch.full((1, 1, 4, 4), 1.0).tril() / torch.arange(1.0, 5.0)[:, None]
        >>> source_scores(uniform, previous_sources(1, 4)).round(4)   # (1/2 + 1/3 + 1/4) / 3
        array([0.3611])
    """
    n_rows, _, n_tokens, _ = patterns_BHTT.shape
    if sources_BT.shape != (n_rows, n_tokens):
        raise DataError(
            f"sources_BT: got shape {list(sources_BT.shape)}; allowed: that of the patterns, {[n_rows, n_tokens]}."
        )
    sources = torch.from_numpy(np.maximum(sources_BT, 0).astype(np.int64)).to(patterns_BHTT.device)
    places_BHTX = sources[:, None, :, None].expand(-1, patterns_BHTT.shape[1], -1, 1)
    given_BHT = patterns_BHTT.gather(3, places_BHTX)[..., 0].double().cpu().numpy()
    has_source_BT = sources_BT >= 0
    if not has_source_BT.any():
        return np.full(patterns_BHTT.shape[1], np.nan)
    scores_H: Floats = (given_BHT * has_source_BT[:, None]).sum(axis=(0, 2)) / has_source_BT.sum()
    return scores_H


def uniform_score(sources_BT: Tokens) -> float:
    r"""Return what a head scores that attends to all it sees alike: the mean of 1 / (t + 1) over tokens with a source.

    Example:
        >>> round(uniform_score(previous_sources(1, 4)), 4)
        0.3611
    """
    _, places = np.nonzero(sources_BT >= 0)
    return float(np.mean(1.0 / (places + 1.0))) if len(places) else float("nan")


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
    for block in model.model.layers:
        assert isinstance(block, Block)
        attention, gain_D = block.self_attn, block.input_layernorm.weight.double()
        circuit_DD = (embedding_VD * gain_D).T @ output_VD  # W_E W_U, over all ids
        n_heads = model.config.attention_n_heads
        values_KCD = attention.v_proj.weight.double().view(-1, attention.head_size, len(gain_D))
        values_HCD = values_KCD.repeat_interleave(n_heads // len(values_KCD), dim=0)
        outputs_DHC = attention.o_proj.weight.double().view(len(gain_D), n_heads, attention.head_size)
        circuits_HCC = values_HCD @ circuit_DD @ outputs_DHC.transpose(0, 1)
        scores.append([_positive_share(eigenvalues_C) for eigenvalues_C in torch.linalg.eigvals(circuits_HCC)])
    return np.array(scores, dtype=np.float64)


def _positive_share(eigenvalues_C: Tensor) -> float:
    """Return the sum of eigenvalues over the sum of their sizes; imaginary parts come in pairs that cancel."""
    total = float(eigenvalues_C.abs().sum())
    return float(eigenvalues_C.real.sum()) / total if total > 0 else 0.0
