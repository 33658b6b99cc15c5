"""Xenoverse's NgramNet, replayed: how much the law of a row depends on the rows beside it.

python docs/numbers/batch_mates.py

There, logits are standardised over the whole batch; here, over the vocabulary of each row. One context of a language is
given two sets of batch-mates, and the two laws are compared by their total variation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xenoglot.languages import NgramNet
from xenoglot.languages.ngram_net import NgramNetLanguage, NgramWeights
from xenoglot.rng import generator

N_ROWS, N_LANGUAGES, N_CONTEXTS = 8, 20, 50
FAMILY = NgramNet(vocab_size=64, n=3, embedding_size=16, hidden_size=64)


def logits_of(weights: NgramWeights, contexts_Bn: Any) -> Any:
    """Return the network's logits [B, V], with its places weighted as there: the oldest counts nothing."""
    embedded_nBd = weights.embeddings_Vd[contexts_Bn[:, ::-1].T - 1]  # place 0 is the newest token
    hidden_nBH = np.tanh(
        np.einsum("nbd,nhd->nbh", embedded_nBd, weights.input_weights_nHd) + weights.biases_nH[:, None]
    )
    place_weights_n = np.arange(FAMILY.n)[::-1]
    mean_BH = (place_weights_n[:, None, None] * hidden_nBH).mean(axis=0)
    return mean_BH @ weights.output_weights_VH.T + weights.output_biases_V


def standardised_laws(logits_BV: Any) -> Any:
    """Return the laws of rows whose logits are standardised together."""
    scaled = FAMILY.sharpness * (logits_BV - logits_BV.mean()) / logits_BV.std()
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def main() -> None:
    """Print the greatest and the mean total variation."""
    rng = generator(0, "batch-mates")
    distances = []
    for seed in range(N_LANGUAGES):
        language = FAMILY.draw(seed)
        assert isinstance(language, NgramNetLanguage)
        for _ in range(N_CONTEXTS):
            contexts = rng.integers(1, FAMILY.vocab_size + 1, (2, N_ROWS, FAMILY.n))
            contexts[1, 0] = contexts[0, 0]  # the row that is looked at; the others are its batch-mates
            one, other = (standardised_laws(logits_of(language.weights, each)) for each in contexts)
            distances.append(float(np.abs(one[0] - other[0]).sum() / 2))
    print(f"{N_ROWS} rows: total variation {np.mean(distances):.3f} on average, {max(distances):.3f} at most")


if __name__ == "__main__":
    main()
