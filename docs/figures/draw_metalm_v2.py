"""MetaLM-2: how predictable its languages are, each by itself.

python docs/figures/draw_metalm_v2.py
"""

from __future__ import annotations

import math

import numpy as np
from drawing import SERIES, new_axes, save

from xenoglot.figures import FAINT, INK
from xenoglot.languages import MetaLMv2

N_LANGUAGES, LENGTH = 400, 512
VOCAB_SIZE = 64


def main() -> None:
    """Draw a histogram for each cell."""
    figure, axes = new_axes(f"MetaLM-2, V = {VOCAB_SIZE}, n = 16: the floors of {N_LANGUAGES} languages of each cell")
    bins = np.linspace(0, math.log(VOCAB_SIZE), 43)
    for cell, colour in zip(("rnn", "gru", "lstm"), SERIES, strict=False):
        family = MetaLMv2(vocab_size=VOCAB_SIZE, n=16, cell=cell)  # type: ignore[arg-type]
        batch = family.batch(batch_size=N_LANGUAGES, length=LENGTH, seed=0, floor=True)
        floors = batch.floor_nats.mean(axis=1)
        axes.hist(floors, bins=bins, histtype="step", color=colour, linewidth=1.8)
        counts, _ = np.histogram(floors, bins=bins)
        peak = int(counts.argmax())
        axes.text(bins[peak + 1] + 0.05, counts[peak] - 1, f"{cell}, median {np.median(floors):.2f}", color=colour)
    axes.set_ylim(0, 1.1 * axes.get_ylim()[1])  # room for what stands above the highest
    axes.axvline(math.log(VOCAB_SIZE), color=FAINT, linewidth=1.2)
    axes.text(math.log(VOCAB_SIZE) - 0.03, 2, "guessing", color=FAINT, ha="right")
    axes.set_xlabel("floor of a language, nats a token", color=INK)
    axes.set_ylabel("languages", color=INK)
    save(figure, "metalm-v2.png")


if __name__ == "__main__":
    main()
