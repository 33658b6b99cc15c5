"""What the tasks of this folder read, and how losses are counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from xenoglot import languages
from xenoglot.options import options_of

Rows = Mapping[str, datasets.Dataset]


def language_rows(
    *, family: str = "markov", n_rows: int = 64, length: int = 255, seed: int = 0, **settings: Any
) -> Rows:
    """Draw rows, each of a language of its own, as numbers between blanks.

    A row's first number is given, and the others are to be predicted, so what is predicted must be what is read next:
    elements of MetaLM-1 are not disturbed here (``error_rate`` 0).

    Args:
        family: Of the languages.
        n_rows: How many.
        length: How many tokens of each are predicted.
        seed: Which rows.
        settings: Options of the family; lm-eval's own settings among them are left out.
    """
    kind = languages.get(family)
    options = {known.name: settings[known.name] for known in options_of(kind) if known.name in settings}
    if "error_rate" in {known.name for known in options_of(kind)}:
        options["error_rate"] = 0.0
    batch = kind(**options).batch(batch_size=n_rows, length=length, seed=seed, floor=True)
    return {
        "test": datasets.Dataset.from_dict(
            {
                "first": [str(row[0]) for row in batch.inputs],
                "rest": [" ".join(map(str, row)) for row in batch.targets],
                "n_tokens": [length] * n_rows,
                "floor_nats": batch.floor_nats.mean(axis=1).tolist(),
            }
        )
    }


def losses(document: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """Return a row's loss for each token, beside the best possible."""
    [(log_probability, _)] = results
    loss_nats, floor_nats = -log_probability / document["n_tokens"], document["floor_nats"]
    return {"loss_nats": loss_nats, "floor_nats": floor_nats, "excess_nats": loss_nats - floor_nats}


def text_lines(*, text: str, **settings: Any) -> Rows:
    """Read the lines of a text that are not blank.

    Args:
        text: The file.
        settings: lm-eval's own.
    """
    lines = [line for line in Path(text).read_text(encoding="utf-8").splitlines() if line.strip()]
    return {"test": datasets.Dataset.from_dict({"text": lines})}
