r"""Tags as spans: the best valid tags of a sentence, and precision, recall and F1 of the entities that they spell.

A predicted entity is right if its first word, its last word and its type are. With c right ones of p predicted and n
true ones,

.. math::
    P = \frac{c}{p}, \qquad R = \frac{c}{n}, \qquad F_1 = \frac{2 P R}{P + R} = \frac{2 c}{p + n},

for each type, and over all types together (micro). Counted by `seqeval` (strict IOB2).

Source: Tjong Kim Sang and De Meulder 2003 (CoNLL-2003). Where we differ: tags are predicted that can follow each other
(an ``I-`` only after its own type), so that strict and lenient ways of counting agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xenoglot.errors import MissingExtraError
from xenoglot.evaluations.tagging_files import OUTSIDE
from xenoglot.languages.base import Floats

__all__ = ["ALL_TYPES", "SpanScore", "best_valid_tags", "check_seqeval", "span_scores", "tags_of_types"]

ALL_TYPES = "all types"
"""What the scores of all types together are called."""

Tags = Sequence[Sequence[str]]


class SpanScore(NamedTuple):
    """How well entities were found.

    Attributes:
        f1: As in the module's formula; 0 where nothing was found.
        precision: Share of the predicted entities that are right; 0 if there is none.
        recall: Share of the true ones that were found.
        n_spans: How many true ones there are.
    """

    f1: float
    precision: float
    recall: float
    n_spans: int


def tags_of_types(types: Sequence[str]) -> tuple[str, ...]:
    """Return the tags that entities of some types are written with, ``O`` first.

    Example:
        >>> tags_of_types(["LOC", "PER"])
        ('O', 'B-LOC', 'I-LOC', 'B-PER', 'I-PER')
    """
    return (OUTSIDE, *(f"{begins}-{kind}" for kind in types for begins in "BI"))


def best_valid_tags(log_probs_WL: Floats, lengths: Sequence[int], tags: Sequence[str]) -> list[list[str]]:
    """Return the tags of each sentence that are likeliest together, of those in which every ``I-`` goes on (Viterbi).

    Args:
        log_probs_WL: Of every tag for every word, the sentences one behind the other.
        lengths: Words of each sentence; they add up to W.
        tags: The names of the L tags.

    Example:
        >>> log_probs = np.log([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])
        >>> best_valid_tags(log_probs, [2], ["O", "B-LOC", "I-LOC"])   # 0.3 * 0.7 > 0.6 * 0.2
        [['B-LOC', 'I-LOC']]
    """
    follows_LL = np.array([[_may_follow(before, tag) for tag in tags] for before in (*tags, "")])
    penalties_LL = np.where(follows_LL, 0.0, -np.inf)
    ends = np.cumsum(lengths)
    return [
        [tags[label] for label in _best_path(log_probs_WL[end - length : end], penalties_LL)]
        for end, length in zip(ends.tolist(), lengths, strict=True)
    ]


def _may_follow(before: str, tag: str) -> bool:
    return not tag.startswith("I-") or before[1:] == tag[1:]


def _best_path(log_probs_WL: Floats, penalties: Floats) -> list[int]:
    """Return the likeliest labels; ``penalties`` [L + 1, L] of each label after each, and after none."""
    scores_L = log_probs_WL[0] + penalties[-1]
    sources: list[NDArray[np.int64]] = []
    for log_probs_L in log_probs_WL[1:]:
        reached_LL = scores_L[:, None] + penalties[:-1]
        sources.append(reached_LL.argmax(axis=0))
        scores_L = reached_LL.max(axis=0) + log_probs_L
    path = [int(scores_L.argmax())]
    for source_L in reversed(sources):
        path.append(int(source_L[path[-1]]))
    return path[::-1]


def check_seqeval() -> None:
    """Raise `MissingExtraError` unless `seqeval` is there: before hours of training, not after."""
    try:
        import seqeval  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("seqeval", extra="eval", purpose="F1 of entities") from error


def span_scores(true: Tags, predicted: Tags) -> dict[str, SpanScore]:
    """Count entities by type, and all together under `ALL_TYPES`.

    Args:
        true: Tags of each sentence, in which every ``I-`` goes on with its own type; at least one entity.
        predicted: Tags of the same words.

    Raises:
        MissingExtraError: If `seqeval` is not installed.

    Example:
        >>> true = [["B-LOC", "I-LOC", "O"], ["B-PER"]]
        >>> scores = span_scores(true, [["B-LOC", "O", "O"], ["B-PER"]])   # too short is wrong
        >>> {name: score.f1 for name, score in scores.items()}
        {'LOC': 0.0, 'PER': 1.0, 'all types': 0.5}
    """
    check_seqeval()
    from seqeval.metrics import classification_report
    from seqeval.scheme import IOB2

    report: Mapping[str, Any] = classification_report(
        *([list(tags) for tags in each] for each in (true, predicted)),
        mode="strict",
        scheme=IOB2,
        output_dict=True,
        zero_division=0,
    )
    kept = {name: scores for name, scores in report.items() if not name.endswith(" avg")}
    return {
        name: SpanScore(
            f1=float(scores["f1-score"]),
            precision=float(scores["precision"]),
            recall=float(scores["recall"]),
            n_spans=int(scores["support"]),
        )
        for name, scores in {**kept, ALL_TYPES: report["micro avg"]}.items()
    }
