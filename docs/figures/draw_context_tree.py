"""Context trees: context tree weighting against counting at one fixed order.

python docs/figures/draw_context_tree.py
"""

from __future__ import annotations

from drawing import SERIES, curve, draw_curves

from xenoglot.figures import Line
from xenoglot.languages import ContextTreeSource
from xenoglot.predictors import ContextTreeWeighting, DirichletMarkov

FAMILY = ContextTreeSource(vocab_size=6, depth=3, alpha=0.5)
N_LANGUAGES, LENGTH = 256, 4096


def main() -> None:
    """Draw the excess of each learner."""
    batch = FAMILY.batch(batch_size=N_LANGUAGES, length=LENGTH, seed=0, floor=True)
    lines: list[Line] = []
    for order, colour in zip((0, 1, 2, 3), SERIES[1:], strict=True):
        counting = DirichletMarkov(vocab_size=FAMILY.vocab_size, order=order, alpha=FAMILY.alpha, bound=True)
        excess_nats = counting.nats(batch.inputs, batch.targets) - batch.floor_nats
        lines.append(curve(excess_nats, f"order {order}", colour, width=1.2, style="--"))
    excess_nats = ContextTreeWeighting.for_family(FAMILY).nats(batch.inputs, batch.targets) - batch.floor_nats
    lines.append(curve(excess_nats, "tree weighting", SERIES[0], width=2.0))
    draw_curves(
        "context-tree.png",
        lines,
        length=LENGTH,
        title="Context trees, V = 6, D = 3: what not knowing the tree costs",
        what="nats a token above the floor",
    )


if __name__ == "__main__":
    main()
