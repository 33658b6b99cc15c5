"""NgramNet: what its sharpness does to the floor.

python docs/figures/draw_ngram_net.py
"""

from __future__ import annotations

import math

import numpy as np
from drawing import SERIES, new_axes, save

from xenoglot.figures import FAINT, INK
from xenoglot.languages import NgramNet

N_LANGUAGES, LENGTH = 200, 512
VOCAB_SIZE = 32
SHARPNESS = (0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0)
PLACES = {2: "top", 4: "bottom"}
"""Places that are looked at, and on which side of its curve's end each stands."""


def main() -> None:
    """Draw quantiles of the floors by sharpness."""
    figure, axes = new_axes(f"NgramNet, V = {VOCAB_SIZE}, d = 16, H = 64: floors of {N_LANGUAGES} languages")
    for (n, side), colour in zip(PLACES.items(), SERIES, strict=False):
        floors = np.array([_floors(n, sharpness) for sharpness in SHARPNESS])
        low, middle, high = np.quantile(floors, (0.1, 0.5, 0.9), axis=1)
        axes.fill_between(SHARPNESS, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(SHARPNESS, middle, color=colour, linewidth=1.8, marker="o", markersize=3)
        axes.text(SHARPNESS[-1] + 0.15, float(middle[-1]), f"n = {n}", color=colour, va=side)
    axes.axhline(math.log(VOCAB_SIZE), color=FAINT, linewidth=1.2)
    axes.text(SHARPNESS[-1], math.log(VOCAB_SIZE) - 0.14, "guessing", color=FAINT, ha="right")
    axes.set_ylim(0, 1.05 * math.log(VOCAB_SIZE))
    axes.set_xlabel("sharpness (bands: from a tenth to nine tenths of the languages)", color=INK)
    axes.set_ylabel("floor, nats a token", color=INK)
    save(figure, "ngram-net.png")


def _floors(n: int, sharpness: float) -> np.ndarray:
    family = NgramNet(vocab_size=VOCAB_SIZE, n=n, sharpness=sharpness)
    return family.batch(batch_size=N_LANGUAGES, length=LENGTH, seed=0, floor=True).floor_nats.mean(axis=1)


if __name__ == "__main__":
    main()
