"""What a run can be told about learning dynamics: which layers are kept at which steps.

Keys that Pico's `checkpointing.learning_dynamics` section has too mean the same here.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from xenoglot.errors import OptionError
from xenoglot.options import check_options, option

__all__ = ["LearningDynamicsConfig"]

SCHEDULES = ("every_n_steps", "n_log_spaced", "steps")


@dataclass(frozen=True, kw_only=True)
class LearningDynamicsConfig:
    """Activations, weights and gradients of some layers, kept with a checkpoint of the same step.

    Where no schedule is given, every checkpoint has them, and so has the model before its first step.

    Example:
        >>> config = LearningDynamicsConfig(enabled=True, n_log_spaced=8)
        >>> [step for step in range(101) if config.is_due(step, n_steps=100, is_saved=step % 50 == 0)]
        [0, 1, 2, 4, 9, 20, 45, 100]
    """

    enabled: bool = option(False, "whether layers are kept at chosen steps, each with a whole checkpoint")
    layer_suffixes: tuple[str, ...] = option(
        ("attention.v_proj", "attention.o_proj", "swiglu.w_2"),
        "how the names of these layers end, ours or Pico's",
    )
    sequence_idx: int | None = option(
        -1, "position whose activations are kept, from the end if negative; all if none", unit="tokens"
    )
    batch_size: int = option(
        8, "rows of the validation batch, and of any batch the most in memory at once", unit="rows", minimum=1
    )
    eval_data: str | None = option(
        None,
        "where the validation batch comes from: a file, a folder or a dataset; from what is held out if none, which "
        "for languages means brand-new ones",
    )
    every_n_steps: int | None = option(None, "steps from one time to the next", unit="steps", minimum=1)
    n_log_spaced: int | None = option(
        None, "so many times, equally far apart in the logarithm of the step; the first and last too", minimum=2
    )
    steps: tuple[int, ...] = option((), "exactly these steps; 0 is before the first", unit="steps", minimum=0)
    optimizer_state: bool = option(False, "whether what the optimizer remembers of the layers is kept too")
    attention_patterns: bool = option(False, "whether each head's attention on the rows is kept too")

    def __post_init__(self) -> None:
        check_options(self)
        given = [name for name in SCHEDULES if getattr(self, name) not in (None, ())]
        if len(given) > 1:
            raise OptionError(given[1], getattr(self, given[1]), f"none where {given[0]} is given")
        if self.enabled and not self.layer_suffixes:
            raise OptionError("layer_suffixes", list(self.layer_suffixes), "at least one")

    def is_due(self, step: int, *, n_steps: int, is_saved: bool) -> bool:
        """Say whether layers are kept after ``step`` steps.

        Args:
            step: Updates that were made.
            n_steps: Those of the whole run.
            is_saved: Whether there is a checkpoint of the step anyway.
        """
        if not self.enabled:
            return False
        if self.steps:
            return step in self.steps
        if self.n_log_spaced is not None:
            return step in _log_spaced(self.n_log_spaced, n_steps)
        if self.every_n_steps is not None:
            return step % self.every_n_steps == 0 or step == n_steps
        return is_saved or step in (0, n_steps)

    def check_fits(self, *, n_steps: int, shortest_row: int) -> None:
        """Compare with a run's steps and rows.

        Raises:
            OptionError: If a step never comes, or rows do not have the position.
        """
        late = [step for step in self.steps if step > n_steps]
        if late:
            raise OptionError("steps", late[0], f"at most training.max_steps, {n_steps}")
        if self.sequence_idx is not None and not -shortest_row <= self.sequence_idx < shortest_row:
            allowed = f"from {-shortest_row} to {shortest_row - 1}, as the shortest rows have {shortest_row} tokens"
            raise OptionError("sequence_idx", self.sequence_idx, f"{allowed}; or none")


@functools.lru_cache
def _log_spaced(n_times: int, last: int) -> frozenset[int]:
    """Return 0, ``last``, and steps between them in equal ratios, of which the first must be whole numbers apart.

    Each is as far from the one before, in the logarithm, as the rest would have to be from each other.
    """
    steps = [0]
    while len(steps) < n_times and steps[-1] < last:
        n_left, before = n_times - len(steps), steps[-1]
        if before == 0:
            following = 1 if n_left > 1 else last
        else:
            following = max(before + 1, round(before * (last / before) ** (1 / n_left)))
        steps.append(min(last, following))
    return frozenset(steps)
