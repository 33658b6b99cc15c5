"""What each family and each predictor costs: tokens a second, on one thread.

python docs/numbers/costs.py

Every row is a language of its own. Medians of repeats, after one that is not counted, which compiles. Say on what
machine a figure was measured, and that nothing else ran on it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

from xenoglot.languages import ContextTreeSource, Family, Markov, MetaLMv1, MetaLMv2, NgramNet
from xenoglot.predictors import ContextTreeWeighting, DirichletMarkov, FinitePool, NoisyRepeats, UnknownOrderMarkov

LENGTH, N_ROWS, N_REPEATS = 4096, 64, 9
NOISY = MetaLMv1(vocab_size=64, n_elements=10, element_length=32, error_rate=0.1, separator=True)
CHAIN = Markov(vocab_size=8, order=2)
TREE = ContextTreeSource(vocab_size=4, depth=4)
FAMILIES: tuple[tuple[str, Family], ...] = (
    ("metalm-v1, V = 64, n = 10, l = 32, with separators", NOISY),
    ("metalm-v2, V = 64, n = 16, rnn", MetaLMv2(vocab_size=64, n=16)),
    ("metalm-v2, V = 64, n = 16, lstm", MetaLMv2(vocab_size=64, n=16, cell="lstm")),
    ("ngram-net, V = 64, n = 3, d = 16, H = 64", NgramNet(vocab_size=64, n=3)),
    ("markov, V = 8, order 2", CHAIN),
    ("context-tree, V = 4, depth 4", TREE),
)
N_POOLED = 16


def tokens_a_second(work: Callable[[], object], n_tokens: int) -> float:
    """Return the median rate of some repeats of work on ``n_tokens`` tokens."""
    work()
    rates = []
    for _ in range(N_REPEATS):
        began = time.perf_counter()
        work()
        rates.append(n_tokens / (time.perf_counter() - began))
    return statistics.median(rates)


def families() -> None:
    """Print what drawing costs, without and with the floor."""
    print("| family | drawn | with its floor |\n|---|---|---|")
    for name, family in FAMILIES:
        draw = partial(family.batch, N_ROWS, LENGTH, seed=0, threads=1)
        rates = [tokens_a_second(partial(draw, floor=floor), N_ROWS * LENGTH) for floor in (False, True)]
        print(f"| {name} | {rates[0] / 1e6:,.1f} | {rates[1] / 1e6:,.1f} |")


def predictors() -> None:
    """Print what the loss of each predictor costs on rows of its own prior."""
    pool = FinitePool.of(CHAIN, n_languages=N_POOLED, seed=0)
    learners = (
        ("unknown-elements, V = 64, n = 10, l = 32", NoisyRepeats.for_family(NOISY), NOISY),
        ("dirichlet-markov, V = 8, order 2", DirichletMarkov.for_family(CHAIN), CHAIN),
        ("unknown-order-markov, V = 8, up to order 3", UnknownOrderMarkov(vocab_size=8, greatest_order=3), CHAIN),
        ("context-tree-weighting, V = 4, depth 4", ContextTreeWeighting.for_family(TREE), TREE),
        (f"finite-pool, {N_POOLED} languages of markov", pool, pool),
    )
    print("\n| predictor | read |\n|---|---|")
    for name, learner, prior in learners:
        batch = prior.batch(2, LENGTH, seed=0)
        rate = tokens_a_second(partial(learner.nats, batch.inputs, batch.targets), 2 * LENGTH)
        print(f"| {name} | {rate / 1e6:.3f} |")


def main() -> None:
    """Print both tables, in millions of tokens a second."""
    families()
    predictors()


if __name__ == "__main__":
    main()
