"""What a step of a hybrid run reads: rows of tokens, or tasks, as a function of (seed, step).

```python
batches = HybridBatches(tokens=rows, tasks=tasks, branches=Branches(hybrid_ratio=0.5, seed=0), tasks_per_step=4)
batches(step)            # a TokenBatch or an EpisodeBatch: the same on every process, and whenever it is asked for
```

The n-th step that predicts tokens reads what the n-th step of a run without tasks reads: no row is left out.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from xenoglot.batches import WHOLE, Batch, BatchSource, Part
from xenoglot.episodes.base import Episode, LanguageEpisode
from xenoglot.language_rows import LanguageRows
from xenoglot.rng import derive, generator

__all__ = ["Branches", "EpisodeBatch", "HybridBatches", "Task", "TaskSource"]

STEPS_AT_ONCE = 1 << 14
"""So many steps draw their branches together, which makes it quick to count those of a long run."""

Task: TypeAlias = Episode | LanguageEpisode


class TaskSource(Protocol):
    """Anything that tasks come from: an `EpisodeSource`, or languages."""

    def __call__(self, index: int, split: str = "train") -> Task:
        """Draw a task."""

    def fingerprint(self) -> dict[str, Any]:
        """Return what the tasks are a function of."""


@dataclass(frozen=True, kw_only=True)
class EpisodeBatch:
    """Tasks to learn to adapt to.

    Attributes:
        tasks: Each with its support and query set.
        seeds: Of each task, what a head is drawn from: so it is the same head, however a step's tasks are shared out.
        n_tokens: How many tokens the tasks have, padding not included.
        length: Tokens of the longest sentence or row.
    """

    tasks: tuple[Task, ...]
    seeds: tuple[int, ...]
    n_tokens: int
    length: int

    @classmethod
    def of(cls, tasks: tuple[Task, ...], seeds: tuple[int, ...]) -> EpisodeBatch:
        """Put tasks together, and count their tokens."""
        lengths = torch.cat([_lengths(task) for task in tasks])
        return cls(tasks=tasks, seeds=seeds, n_tokens=int(lengths.sum()), length=int(lengths.max()))

    def to(self, device: torch.device) -> EpisodeBatch:
        """Return the tasks on a device."""
        tasks = tuple(task.to(device) for task in self.tasks)
        return EpisodeBatch(tasks=tasks, seeds=self.seeds, n_tokens=self.n_tokens, length=self.length)


@dataclass(frozen=True, kw_only=True)
class Branches:
    """Which steps are of tasks: each draws for itself, with the same probability.

    Args:
        hybrid_ratio: The probability: 0 for no step, 1 for all.
        seed: 0 to 2^63 - 1.

    Example:
        >>> branches = Branches(hybrid_ratio=0.5, seed=0)
        >>> [branches.is_meta(step) for step in range(6)]
        [True, False, True, True, True, True]
        >>> branches.meta_steps_before(6), branches.meta_steps_before(10**6)
        (5, 499687)
    """

    hybrid_ratio: float
    seed: int

    def is_meta(self, step: int) -> bool:
        """Say whether a step, counted from 0, is of tasks."""
        block, place = divmod(step, STEPS_AT_ONCE)
        return bool(_drawn(self, block)[place])

    def meta_steps_before(self, step: int) -> int:
        """Count the steps of tasks among the first so many."""
        n_blocks, rest = divmod(step, STEPS_AT_ONCE)
        return _count(self, n_blocks) + int(np.count_nonzero(_drawn(self, n_blocks)[:rest]))

    def counts(self, step: int) -> dict[str, float]:
        """Return how many of the first so many steps were of which branch, as metrics."""
        n_meta = self.meta_steps_before(step)
        return {"autoregressive_steps": step - n_meta, "meta_steps": n_meta}


class HybridBatches:
    """Rows of tokens, or tasks, by the step's branch.

    Args:
        tokens: The rows.
        tasks: The tasks; those of a step follow those of the step of tasks before it.
        branches: Which step is of what.
        tasks_per_step: How many tasks a step has, all parts together.
        seed: What the tasks' heads are drawn from.
    """

    def __init__(
        self, *, tokens: BatchSource, tasks: TaskSource, branches: Branches, tasks_per_step: int, seed: int
    ) -> None:
        self.n_tokens = tokens.n_tokens
        self._tokens, self._tasks, self._branches = tokens, tasks, branches
        self._tasks_per_step, self._seed = tasks_per_step, seed

    def batch_size(self, step: int) -> int:
        """Return how many rows, or tasks, a step has, all parts together."""
        if self._branches.is_meta(step):
            return self._tasks_per_step
        return self._tokens.batch_size(self._number(step))

    def __call__(self, step: int, part: Part = WHOLE) -> Batch:
        """Return the rows or the tasks of a step, or a part of them."""
        if not self._branches.is_meta(step):
            return self._tokens(self._number(step), part)
        first, own = self._number(step) * self._tasks_per_step, part.rows_of(self._tasks_per_step)
        numbers = range(first + own.start, first + own.stop)
        return EpisodeBatch.of(
            tuple(self._tasks(number) for number in numbers),
            tuple(derive(self._seed, "task", number) for number in numbers),
        )

    def identity(self, step: int) -> str:
        """Return what to call a step's rows or tasks in a message."""
        if not self._branches.is_meta(step):
            return self._tokens.identity(self._number(step))
        first = self._number(step) * self._tasks_per_step
        last = f" to {first + self._tasks_per_step - 1}" if self._tasks_per_step > 1 else ""
        return f"tasks {first}{last}, the first of which is {self._tasks(first).identity}"

    def languages(self, step: int) -> LanguageRows | None:
        """Return which rows of which languages a step reads; None if it reads tasks, or something else."""
        return None if self._branches.is_meta(step) else self._tokens.languages(self._number(step))

    def fingerprint(self) -> dict[str, Any]:
        """Return what the rows, the tasks and the branches are a function of."""
        return {
            "kind": "hybrid",
            "tokens": self._tokens.fingerprint(),
            "tasks": self._tasks.fingerprint(),
            "hybrid_ratio": self._branches.hybrid_ratio,
            "branches_seed": self._branches.seed,
            "tasks_per_step": self._tasks_per_step,
            "seed": self._seed,
        }

    def _number(self, step: int) -> int:
        """Return the place of a step among those of its own branch."""
        n_meta = self._branches.meta_steps_before(step)
        return n_meta if self._branches.is_meta(step) else step - n_meta


def _lengths(task: Task) -> torch.Tensor:
    if isinstance(task, Episode):
        return torch.cat([task.support.lengths_N, task.query.lengths_N])
    return torch.tensor([rows.length for rows in (task.support, task.query) for _ in rows.inputs_BT])


@functools.lru_cache(maxsize=256)
def _drawn(branches: Branches, block: int) -> NDArray[np.bool_]:
    drawn: NDArray[np.bool_] = generator(branches.seed, "branch", block).random(STEPS_AT_ONCE) < branches.hybrid_ratio
    return drawn


@functools.lru_cache(maxsize=256)
def _count(branches: Branches, n_blocks: int) -> int:
    return sum(int(np.count_nonzero(_drawn(branches, block))) for block in range(n_blocks))
