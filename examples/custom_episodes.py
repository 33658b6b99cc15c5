"""A source of tasks of your own, in one file: numbers, to be told by their last digits.

It is named by its path, ``custom_episodes:LastDigits``, or found by its name if it stands in ``xenoglot/episodes/``.
"""

from typing import Any, ClassVar

import numpy as np
import torch

from xenoglot import episodes
from xenoglot.episodes.base import SPLITS, Episode, EpisodeSource, Examples, check_task
from xenoglot.rng import generator


class LastDigits(EpisodeSource):
    """A class is a last digit; its examples are numbers that end with it, as bytes (byte b is id b + 1)."""

    name: ClassVar[str] = "last-digits"

    def __init__(self, *, n_way: int = 5, k_shot: int = 4, q_query: int = 8, seed: int = 0) -> None:
        self.options = {"n_way": n_way, "k_shot": k_shot, "q_query": q_query, "seed": seed}

    def __call__(self, index: int, split: str = "train") -> Episode:
        """Draw a task, from nothing but (seed, split, index)."""
        draws = generator(self.options["seed"], self.name, split, check_task(index, split))
        digits = draws.choice(10, self.options["n_way"], replace=False)
        n_examples = self.options["k_shot"] + self.options["q_query"]
        # Different tens: no number is in both sets; and those of two splits have none in common.
        tens = np.stack([draws.choice(30, n_examples, replace=False) for _ in digits]) + 10 + 30 * SPLITS.index(split)
        numbers = 10 * tens + digits[:, None]
        support, query = np.split(numbers, [self.options["k_shot"]], axis=1)
        identity = f"task {index} of {self.name}, {split}"
        return Episode(support=written(support), query=written(query), n_way=len(digits), identity=identity)

    def fingerprint(self) -> dict[str, Any]:
        """Return what the tasks are a function of."""
        return {"kind": self.name, **self.options}


def written(numbers: np.ndarray) -> Examples:
    """Write numbers [n_way, shots] as rows of bytes, shot by shot."""
    rows = [torch.tensor([byte + 1 for byte in str(number).encode()]) for number in numbers.T.ravel()]
    lengths = torch.tensor([len(row) for row in rows])
    return Examples(
        token_ids_NT=torch.nn.utils.rnn.pad_sequence(rows, batch_first=True),
        lengths_N=lengths,
        mask_positions_N=lengths - 1,
        labels_N=torch.arange(len(numbers)).repeat(numbers.shape[1]),
    )


if __name__ == "__main__":
    source = episodes.get("custom_episodes:LastDigits")()
    episode = source(0, "test")
    print(episode.identity, episode.support.token_ids_NT.shape, episode.query.labels_N.tolist())
