r"""What the gradients at a checkpoint say: how noisy they are, and whether two objectives pull the same way.

```python
rows = GradientRows.of_run("runs/first")                        # opened once, the same at every step
statistics = gradient_statistics("runs/first/checkpoints/step_40", rows)
statistics.whole.noise_scale_rows                               # how many rows a batch should have
statistics.layers["model.layers.0.mlp.down_proj"].cosine        # prediction against learning to adapt
```

The gradient of next-token prediction is taken on several parts of a few rows each, the meta-gradient on several tasks,
one by one. The rows and tasks are those that would have followed the run's last step: of the same kind as those that
it learned from, and drawn anew. Only sums and squared lengths are kept: the memory of a few copies of the model.

Sources: McCandlish et al. 2018, arXiv 1812.06162, appendix A.1; Yu et al. 2020, arXiv 2001.06782, definition 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from xenoglot.assembly.data import open_data
from xenoglot.assembly.learners import trained_learner
from xenoglot.batches import Batch, BatchSource, TokenBatch
from xenoglot.checkpoint import Checkpoint
from xenoglot.checkpoint_folders import damage_of, step_of
from xenoglot.config import RunConfig, with_overrides
from xenoglot.config.files import read_config
from xenoglot.decoder import Decoder
from xenoglot.episodes.batches import EpisodeBatch, TaskSource
from xenoglot.errors import DataError, OptionError
from xenoglot.measures.gradient_noise_scale import noise_scale_of_norms
from xenoglot.objectives.autoregressive import Autoregressive
from xenoglot.objectives.base import Objective
from xenoglot.objectives.meta import Meta
from xenoglot.rng import derive, generator

__all__ = ["GradientNumbers", "GradientRows", "GradientStatistics", "gradient_statistics"]


@dataclass(frozen=True, kw_only=True)
class GradientNumbers:
    """What is known about the gradients of one layer, or of the whole model; nan where there is nothing to know.

    Attributes:
        norm: Length of the gradient of next-token prediction, over all rows.
        noise_scale_rows: Its simple noise scale, in rows.
        meta_norm: Length of the meta-gradient, over all tasks; nan, as the following, in a run without tasks.
        meta_noise_scale_tasks: Its simple noise scale, in tasks.
        cosine: Of both gradients.
    """

    norm: float
    noise_scale_rows: float
    meta_norm: float
    meta_noise_scale_tasks: float
    cosine: float


@dataclass(frozen=True, kw_only=True)
class GradientStatistics:
    """What is known about the gradients at a step.

    Attributes:
        step: Updates that were made before.
        whole: Of all weights as one vector.
        layers: Of each layer's weight, by the layer's name.
    """

    step: int
    whole: GradientNumbers
    layers: Mapping[str, GradientNumbers]


@dataclass(frozen=True, kw_only=True)
class GradientRows:
    """What gradients are taken on.

    Attributes:
        config: The run's configuration.
        parts: Parts of the rows, all of as many.
        tasks: Tasks, one in each; none in a run that does not learn to adapt.
    """

    config: RunConfig
    parts: Sequence[TokenBatch]
    tasks: Sequence[EpisodeBatch]

    @classmethod
    def of_run(
        cls, run_folder: str | Path, *, n_parts: int = 16, rows_per_part: int = 2, n_tasks: int = 8
    ) -> GradientRows:
        """Draw the rows and tasks that would have followed a run's last step.

        Args:
            run_folder: The run's folder; its text, if it learned one, is read where it was then.
            n_parts: Parts of the rows, at least 2. The more, the surer is the noise scale.
            rows_per_part: Rows of each, at most a batch.
            n_tasks: Tasks, at least 2, if the run has any.

        Raises:
            OptionError: If there are too few parts or tasks, or too many rows in a part.
            DataError: If the run has no configuration, or its data cannot be read any more.
        """
        for option, value in (("n_parts", n_parts), ("n_tasks", n_tasks)):
            if value < 2:
                raise OptionError(option, value, "a whole number, at least 2", "One alone says nothing about noise.")
        run = Path(run_folder)
        if not (run / "config.yaml").is_file():
            raise DataError(f"{run}: got no config.yaml; allowed: the folder of a run.")
        config = read_config(run / "config.yaml")
        predicting = {"checkpointing.runs_dir": str(run.absolute().parent), "smlmt.hybrid_ratio": 0.0}
        data = open_data(with_overrides(config, predicting))
        first = config.training.max_steps
        parts = itertools.islice(_parts(data.batches, first, rows_per_part), n_parts)
        tasks = [] if data.tasks is None else _tasks(data.tasks, config, n_tasks)
        return cls(config=config, parts=tuple(parts), tasks=tuple(tasks))


def gradient_statistics(checkpoint: str | Path, rows: GradientRows | None = None) -> GradientStatistics:
    """Take both gradients of a checkpoint.

    Args:
        checkpoint: Its folder, ``RUN/checkpoints/step_N``.
        rows: What they are taken on; of its run, and as `GradientRows.of_run` has it, if None.

    Raises:
        DataError: If it is no checkpoint of a run, or is damaged.
    """
    folder = Path(checkpoint)
    step, damage = step_of(folder), damage_of(folder)
    if step is None or damage:
        raise DataError(f"{folder}: got {'; '.join(damage) or 'another name'}; allowed: a whole checkpoint, step_N.")
    rows = rows or GradientRows.of_run(folder.absolute().parent.parent)
    model = Decoder.from_pretrained(folder).eval()
    predicted = _moments(model, Autoregressive(), rows.parts)
    adapted = None
    if rows.tasks:
        learner = trained_learner(rows.config, model, Checkpoint(folder=folder, step=step))
        adapted = _moments(model, Meta(learner), rows.tasks)
    names = {name: [name] for name in predicted.mean}
    n_rows = len(rows.parts[0].inputs_BT)
    whole, *layers = (_numbers(each, predicted, adapted, n_rows) for each in (list(names), *names.values()))
    by_layer = {name.removesuffix(".weight"): numbers for name, numbers in zip(names, layers, strict=True)}
    return GradientStatistics(step=step, whole=whole, layers=by_layer)


@dataclass(frozen=True, kw_only=True)
class _Moments:
    """Of the gradients of P parts, by weight.

    Attributes:
        n_parts: P.
        mean: The mean gradient.
        mean_square: The mean of their squared lengths.
    """

    n_parts: int
    mean: Mapping[str, Tensor]
    mean_square: Mapping[str, float]

    def norm(self, names: Iterable[str]) -> float:
        """Return the length of the mean gradient of some weights."""
        return math.sqrt(sum(_product(self.mean[name], self.mean[name]) for name in names))

    def noise_scale(self, names: Sequence[str]) -> float:
        """Return the simple noise scale of some weights, in parts; nan where the gradient is lost in noise."""
        small = sum(self.mean_square[name] for name in names)
        signal, noise = noise_scale_of_norms(small, self.norm(names) ** 2, n_small=1, n_large=self.n_parts)
        return max(0.0, noise) / signal if signal > 0 else math.nan


def _numbers(names: Sequence[str], predicted: _Moments, adapted: _Moments | None, n_rows: int) -> GradientNumbers:
    norm = predicted.norm(names)
    meta_norm = math.nan if adapted is None else adapted.norm(names)
    product = 0.0 if adapted is None else sum(_product(predicted.mean[name], adapted.mean[name]) for name in names)
    return GradientNumbers(
        norm=norm,
        noise_scale_rows=n_rows * predicted.noise_scale(names),
        meta_norm=meta_norm,
        meta_noise_scale_tasks=math.nan if adapted is None else adapted.noise_scale(names),
        cosine=product / (norm * meta_norm) if norm * meta_norm > 0 else math.nan,
    )


def _moments(model: Decoder, objective: Objective, parts: Sequence[Batch]) -> _Moments:
    """Take the gradient of each part; the parameters' own are left alone."""
    weights = dict(model.named_parameters())
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    squares = dict.fromkeys(weights, 0.0)
    for part in parts:
        loss = objective(model, part, generator(0, "gradients")).loss
        gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        for name, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                total[name] += gradient
                squares[name] += _product(gradient, gradient)
    return _Moments(
        n_parts=len(parts),
        mean={name: value / len(parts) for name, value in total.items()},
        mean_square={name: value / len(parts) for name, value in squares.items()},
    )


def _product(first: Tensor, second: Tensor) -> float:
    return torch.dot(first.flatten().double(), second.flatten().double()).item()


def _parts(batches: BatchSource, first_step: int, n_rows: int) -> Iterator[TokenBatch]:
    """Yield parts of rows, from a step on, for ever."""
    for step in itertools.count(first_step):
        batch = cast(TokenBatch, batches(step))
        size = len(batch.inputs_BT)
        if not 1 <= n_rows <= size:
            raise OptionError("rows_per_part", n_rows, f"a whole number from 1 to {size}, the rows of a step")
        for start in range(0, size - n_rows + 1, n_rows):
            yield batch.rows(slice(start, start + n_rows))


def _tasks(tasks: TaskSource, config: RunConfig, n_tasks: int) -> Iterator[EpisodeBatch]:
    """Yield tasks that no step of the run has; each with the head that it would have had there."""
    seed = derive(config.training.seed, "tasks")
    first = config.training.max_steps * config.smlmt.tasks_per_step
    for number in range(first, first + n_tasks):
        yield EpisodeBatch.of((tasks(number),), (derive(seed, "task", number),))
