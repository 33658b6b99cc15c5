"""Gradients over training: how large a batch should be, and whether prediction and learning to adapt pull alike.

They are taken anew at every checkpoint, on rows and tasks that the run never saw: the same ones at all of its steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from xenoglot.analysis.config import GRADIENTS, GradientsConfig
from xenoglot.analysis.results import Finding
from xenoglot.analysis.sources import RunSource
from xenoglot.checkpoint_folders import checkpoint_folder
from xenoglot.layer_names import matching_names
from xenoglot.run_gradients import GradientNumbers, GradientRows, gradient_statistics

__all__ = ["META_COSINE", "TITLES", "WHOLE", "Gradients"]

WHOLE = "all weights"
"""What stands for a layer where the whole model is meant."""
META_COSINE = "meta_gradient_cosine"
TITLES = {
    "gradient_norm": "Length of the gradient of next-token prediction, per weight matrix",
    "gradient_noise_scale_rows": "Gradient noise scale of next-token prediction, in rows",
    "meta_gradient_norm": "Length of the meta-gradient, per weight matrix",
    "meta_gradient_noise_scale_tasks": "Gradient noise scale of learning to adapt, in tasks",
    META_COSINE: "Cosine between the gradients of prediction and of learning to adapt",
}


class Gradients:
    """Statistics of the gradients of one run.

    Args:
        config: On how much.
        run: The run's checkpoints.

    Raises:
        DataError: If the run's data cannot be read any more.
        OptionError: If a part has more rows than a step has.
    """

    def __init__(self, config: GradientsConfig, run: RunSource) -> None:
        self._run = run
        self._layers = matching_names(run.layers, config.layer_suffixes)
        self._rows = GradientRows.of_run(
            run.folder, n_parts=config.n_parts, rows_per_part=config.rows_per_part, n_tasks=config.n_tasks
        )

    def __call__(self, step: int) -> Iterator[Finding]:
        """Yield what is known at a step: of all weights, and of the layers that are meant."""
        statistics = gradient_statistics(checkpoint_folder(self._run.folder, step), self._rows)
        for layer, numbers in [(WHOLE, statistics.whole), *((name, statistics.layers[name]) for name in self._layers)]:
            for metric, value in _named(numbers).items():
                if self._rows.tasks or not metric.startswith("meta"):
                    yield Finding(
                        run=self._run.name, step=step, metric=metric, value=value, data_type=GRADIENTS, layer=layer
                    )


def _named(numbers: GradientNumbers) -> dict[str, float]:
    values = (
        numbers.norm,
        numbers.noise_scale_rows,
        numbers.meta_norm,
        numbers.meta_noise_scale_tasks,
        numbers.cosine,
    )
    return {name: value if math.isfinite(value) else math.nan for name, value in zip(TITLES, values, strict=True)}
