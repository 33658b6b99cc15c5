"""The idea in two pictures: what a language is, and what can be lost in it.

python docs/figures/draw_idea.py
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from drawing import SERIES, curve, draw_curves, save
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from xenoglot.figures import FAINT, FLOOR, INK
from xenoglot.languages import MetaLMv1
from xenoglot.languages.metalm_v1 import MetaLMv1Language
from xenoglot.predictors import NoisyRepeats

FAMILY = MetaLMv1(vocab_size=16, n_elements=3, element_length=6, error_rate=0.1, separator=True)
N_SHOWN = 44
N_LANGUAGES, LENGTH = 512, 512


def draw_language() -> None:
    """Draw the elements of one language, and the beginning of a row of it: what is read, what is to be predicted."""
    language = FAMILY.draw(seed=8)
    assert isinstance(language, MetaLMv1Language)
    batch = language.batch(batch_size=1, length=N_SHOWN, seed=5)
    figure = Figure(figsize=(9.6, 2.9), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(-5.2, N_SHOWN)
    axes.set_ylim(-3.2, 3.4)
    axes.text(-5.2, 2.6, "elements", color=INK, va="center", fontsize=10)
    left = 0
    for element in language.elements:
        _draw_tokens(axes, left, 2.1, element)
        left += len(element) + 2
    reading, asked = batch.inputs[0], batch.targets[0]
    clean = np.concatenate([[reading[0]], asked[:-1]])
    for bottom, words, tokens in ((-0.6, "read", reading), (-2.4, "predicted", asked)):
        axes.text(-5.2, bottom + 0.5, words, color=INK, va="center", fontsize=10)
        _draw_tokens(axes, 0, bottom, tokens, marked=tokens != clean if words == "read" else None)
    save(figure, "language.png")


def _draw_tokens(axes: Any, left: float, bottom: float, tokens: Any, marked: Any = None) -> None:
    for at, token in enumerate(tokens):
        is_word = 1 <= token <= FAMILY.vocab_size
        colour = colormaps["turbo"](0.08 + 0.84 * (token - 1) / (FAMILY.vocab_size - 1)) if is_word else "white"
        is_marked = marked is not None and bool(marked[at])
        edge = {"edgecolor": "black", "linewidth": 2.2, "zorder": 3} if is_marked else {"edgecolor": "white"}
        axes.add_patch(Rectangle((left + at, bottom), 1, 1, facecolor=colour, alpha=0.75, **edge))
        text = str(token) if is_word else "|" if token == FAMILY.separator_id else "M"
        axes.text(left + at + 0.5, bottom + 0.5, text, ha="center", va="center", fontsize=8, color=INK, zorder=4)


def draw_floor() -> None:
    """Draw what guessing, the best learner and one who knows the language lose, by position."""
    batch = FAMILY.batch(batch_size=N_LANGUAGES, length=LENGTH, seed=0, floor=True)
    learner_nats = NoisyRepeats(family=FAMILY).nats(batch.inputs, batch.targets)
    draw_curves(
        "floor.png",
        [
            curve(np.full((1, LENGTH), math.log(FAMILY.n_tokens - 1)), "guessing", FAINT, width=1.2),
            curve(learner_nats, "best learner", SERIES[1], style="--"),
            curve(batch.floor_nats, "floor", FLOOR),
        ],
        length=LENGTH,
        title=f"{N_LANGUAGES} languages: three elements of about six tokens, a tenth disturbed",
        what="loss, nats a token",
    )


if __name__ == "__main__":
    draw_language()
    draw_floor()
