"""Pico-MAML's rule for labels, replayed: how many of them become class 0.

python docs/numbers/class_zero.py

The rule (pico-maml-train at revision 9cfd29a, src/training/trainer.py): K places of every row of a micro-batch are its
support, one more its query; 32 of the different support tokens are the classes; every other token is given class 0.
Tokens are drawn from Zipf's law over the vocabulary, independently, which real text only resembles.
"""

from __future__ import annotations

import numpy as np

from xenoglot.rng import generator

VOCAB_SIZE, N_WAY, K_SHOT = 50_304, 32, 4
MICRO_BATCHES = (64, 32)
"""Rows of a micro-batch in the released configurations, for the smallest model and for the largest."""
N_TASKS = 2_000


def shares_of_class_zero(n_rows: int, rng: np.random.Generator) -> tuple[float, float]:
    """Return which shares of one task's support and query labels become class 0."""
    law_V = 1 / np.arange(1, VOCAB_SIZE + 1)
    tokens = rng.choice(VOCAB_SIZE, (n_rows, K_SHOT + 1), p=law_V / law_V.sum())
    support, query = tokens[:, :K_SHOT], tokens[:, K_SHOT]
    classes = rng.permutation(np.unique(support))[:N_WAY]
    others = classes[1:]  # class 0 itself is the first, and everything that is no class
    return 1 - float(np.isin(support, others).mean()), 1 - float(np.isin(query, others).mean())


def main() -> None:
    """Print the shares of each size of micro-batch."""
    for n_rows in MICRO_BATCHES:
        rng = generator(0, "tasks", n_rows)
        support, query = np.mean([shares_of_class_zero(n_rows, rng) for _ in range(N_TASKS)], axis=0)
        print(f"{n_rows} rows: {support:.0%} of the support and {query:.0%} of the query labels are class 0")


if __name__ == "__main__":
    main()
