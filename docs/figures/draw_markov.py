"""Markov languages: what the Bayes predictor loses above the floor, by order.

python docs/figures/draw_markov.py
"""

from __future__ import annotations

from drawing import SERIES, curve, draw_curves

from xenoglot.figures import Line
from xenoglot.languages import Markov
from xenoglot.predictors import DirichletMarkov

N_LANGUAGES, LENGTH = 128, 4096
ORDERS = (1, 2, 3)


def main() -> None:
    """Draw both for each order."""
    lines: list[Line] = []
    for order, colour in zip(ORDERS, SERIES, strict=False):
        family = Markov(vocab_size=8, order=order, alpha=0.5)
        batch = family.batch(batch_size=N_LANGUAGES, length=LENGTH, seed=0, floor=True)
        nats = DirichletMarkov.for_family(family).nats(batch.inputs, batch.targets)
        lines.append(curve(nats, f"k = {order}, learner", colour, width=1.3, style="--"))
        lines.append(curve(batch.floor_nats, f"k = {order}, floor", colour))
    draw_curves(
        "markov.png",
        lines,
        length=LENGTH,
        title="Markov, V = 8, alpha = 0.5: the table known and learned",
        what="loss, nats a token",
    )


if __name__ == "__main__":
    main()
