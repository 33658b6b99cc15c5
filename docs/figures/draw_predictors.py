"""What the reference predictors lose above the floor: how many hypotheses are enough, which counts, how large a pool.

python docs/figures/draw_predictors.py
"""

from __future__ import annotations

from drawing import SERIES, curve, draw_curves

from xenoglot.languages import Markov, MetaLMv1
from xenoglot.predictors import ContextTreeWeighting, DirichletMarkov, FinitePool, NoisyRepeats, UnknownOrderMarkov

WHAT = "nats a token above the floor"


def draw_unknown_elements() -> None:
    """Draw the learner of MetaLM-1 with few and many hypotheses, where segments are hard to tell apart."""
    family = MetaLMv1(vocab_size=4, n_elements=5, element_length=5, error_rate=0.25, separator=True)
    batch = family.batch(batch_size=256, length=1024, seed=0, floor=True)
    lines = []
    for n_particles, colour in zip((1, 4, 64), SERIES, strict=False):
        nats = NoisyRepeats(family=family, n_particles=n_particles).nats(batch.inputs, batch.targets)
        label = f"{n_particles} partition{'s' if n_particles > 1 else ''}"
        lines.append(curve(nats - batch.floor_nats, label, colour))
    title = "Short, noisy elements (V = 4, n = 5, l = 5, e = 0.25)"
    draw_curves("unknown-elements.png", lines, length=1024, title=title, what=WHAT)


def draw_counting() -> None:
    """Draw learners that count, on Markov languages of order 2."""
    family = Markov(vocab_size=6, order=2, alpha=0.5)
    batch = family.batch(batch_size=256, length=4096, seed=0, floor=True)
    counting = {"vocab_size": 6, "alpha": 0.5}
    learners = {
        "order 1": DirichletMarkov(order=1, bound=True, **counting),
        "order 3": DirichletMarkov(order=3, bound=True, **counting),
        "tree weighting": ContextTreeWeighting(depth=4, bound=True, **counting),
        "unknown order": UnknownOrderMarkov(greatest_order=4, bound=True, **counting),
        "order 2, exact": DirichletMarkov(order=2, **counting),
    }
    lines = [
        curve(learner.nats(batch.inputs, batch.targets) - batch.floor_nats, label, colour)
        for (label, learner), colour in zip(learners.items(), reversed(SERIES), strict=True)
    ]
    title = "Markov languages of order 2 (V = 6, alpha = 0.5)"
    draw_curves("counting.png", lines, length=4096, title=title, what=WHAT)


def draw_pool() -> None:
    """Draw one who knows the pool of languages, for pools of several sizes, and one who knows the family alone."""
    family = Markov(vocab_size=16, order=1, alpha=0.3)
    lines = []
    for n_languages, colour in zip((4, 32, 256), SERIES, strict=False):
        pool = FinitePool.of(family, n_languages=n_languages, seed=0)
        batch = pool.batch(batch_size=128, length=256, seed=1)
        nats = pool.nats(batch.inputs, batch.targets) - batch.floor_nats
        lines.append(curve(nats, f"pool of {n_languages}", colour))
    batch = family.batch(batch_size=128, length=256, seed=1, floor=True)
    nats = DirichletMarkov.for_family(family).nats(batch.inputs, batch.targets) - batch.floor_nats
    lines.append(curve(nats, "any language", SERIES[3], style="--"))
    title = "Markov languages (V = 16, alpha = 0.3): which of a pool is it?"
    draw_curves("pool.png", lines, length=256, title=title, what=WHAT)


if __name__ == "__main__":
    draw_unknown_elements()
    draw_counting()
    draw_pool()
