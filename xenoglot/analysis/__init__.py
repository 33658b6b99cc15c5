"""What formed inside a model while it learned: measures of layers and scores of heads, at every checkpoint of runs.

```python
analyses = xenoglot.analysis.analyze([Path("runs/first")])
analyses[0].findings[0].metric
```

Measures are those of `xenoglot.measures`; weights are there at every checkpoint, activations and gradients at those
with learning dynamics. Each run's findings go into its folder, under ``analysis``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from xenoglot.analysis.config import (
    ACTIVATIONS,
    GRADIENTS,
    LAYERS,
    OV_CIRCUIT,
    RUNS,
    AnalysisConfig,
    ComponentConfig,
    MetricConfig,
    read_analysis_config,
)
from xenoglot.analysis.gradients import Gradients
from xenoglot.analysis.heads import Heads
from xenoglot.analysis.measuring import checked, measured
from xenoglot.analysis.results import Finding, read_findings, write_findings
from xenoglot.analysis.sources import RunSource
from xenoglot.errors import DataError

__all__ = [
    "FOLDER",
    "Analysis",
    "AnalysisConfig",
    "analyze",
    "default_metrics",
    "read_analysis_config",
    "read_findings",
]

FOLDER = "analysis"
"""Of a run, where its findings are."""


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What was found about a run.

    Attributes:
        folder: Where it was written.
        name: The run's.
        findings: All numbers.
        notes: What could not be measured, in sentences.
    """

    folder: Path
    name: str
    findings: Sequence[Finding]
    notes: Sequence[str]


def analyze(
    runs: Sequence[Path],
    config: AnalysisConfig | None = None,
    *,
    on_step: Callable[[str, int, int, int], None] = lambda run, step, n_done, n_all: None,
) -> list[Analysis]:
    """Measure runs at their checkpoints, and write what was found into each run's folder.

    Args:
        runs: Their folders; where runs are compared, it is with the first.
        config: What to measure; `default_metrics` of what there is, and the scores of heads, if None.
        on_step: Called after every checkpoint: the run's name, the step, how many are done, and how many there are.

    Raises:
        DataError: If there is no run or no checkpoint, one is damaged, or lacks what is asked for; with what there is.
        OptionError: If layers, blocks or a step are none of a run's.
        OutputError: If the findings cannot be written.
    """
    if not runs:
        raise DataError("runs: got none; allowed: at least one run's folder.")
    wanted = config or AnalysisConfig()
    sources = [RunSource(Path(folder), wanted.steps) for folder in runs]
    metrics = default_metrics(sources) if config is None else wanted.metrics
    for metric in metrics:
        checked(metric, sources)
    n_all, n_done, analyses = sum(len(source.steps) for source in sources), 0, []
    for source in sources:
        findings: list[Finding] = []
        gradients, notes = _gradients(wanted, source)
        heads = Heads(wanted.induction, source.model(source.steps[-1]), source.config.languages)
        if wanted.induction.enabled:
            findings += heads.baselines(source.name, source.steps[0])
        for step in source.steps:
            if wanted.induction.enabled:
                findings += heads(source.name, step, source.model(step))
            findings += _of_layers(metrics, source, step, sources[0])
            findings += gradients(step) if gradients else ()
            n_done += 1
            on_step(source.name, step, n_done, n_all)
        folder = source.folder / FOLDER
        folder.mkdir(exist_ok=True)
        write_findings(folder, findings)
        analyses.append(Analysis(folder=folder, name=source.name, findings=findings, notes=[*notes, *_notes(source)]))
    return analyses


def default_metrics(sources: Sequence[RunSource]) -> tuple[MetricConfig, ...]:
    """Return what is measured of runs where nothing was asked for: of weights, and of what all of them kept."""
    circuits = (ComponentConfig(component_name=OV_CIRCUIT),)
    metrics = [MetricConfig(metric_name=name) for name in ("per", "frobenius_norm", "gini", "condition_number")]
    metrics += [MetricConfig(metric_name=name, components=circuits) for name in ("per", "frobenius_norm")]
    if all(source.dynamics_steps for source in sources):
        metrics += [
            MetricConfig(metric_name="cka_debiased", data_type=ACTIVATIONS),
            MetricConfig(metric_name="cka_debiased", data_type=ACTIVATIONS, against=LAYERS),
            MetricConfig(metric_name="per", data_type=ACTIVATIONS),
            MetricConfig(metric_name="frobenius_norm", data_type=GRADIENTS),
            MetricConfig(metric_name="gradient_cosine", data_type=GRADIENTS),
        ]
    if len(sources) > 1:
        metrics.append(MetricConfig(metric_name="cka", against=RUNS))
    return tuple(metrics)


def _gradients(wanted: AnalysisConfig, source: RunSource) -> tuple[Gradients | None, list[str]]:
    """Open what gradients are taken on; a run whose data is gone can be looked at without them, and that is said."""
    if not wanted.gradients.enabled:
        return None, []
    try:
        return Gradients(wanted.gradients, source), []
    except DataError as error:
        return None, [f"{source.name}: no gradients were taken, since its data cannot be read: {error}"]


def _of_layers(metrics: Sequence[MetricConfig], source: RunSource, step: int, first: RunSource) -> Iterator[Finding]:
    for metric in metrics:
        yield from measured(metric, source, step, first)


def _notes(source: RunSource) -> Iterator[str]:
    if not source.dynamics_steps:
        yield (
            f"{source.name} has no learning dynamics, so nothing of its layers was kept but their weights. Train with "
            "--checkpointing.learning_dynamics.enabled true for activations, and gradients of its own batches."
        )
    elif len(source.dynamics_steps) < len(source.steps):
        n_steps = len(source.dynamics_steps)
        yield f"{source.name} has learning dynamics at {n_steps} of its {len(source.steps)} checkpoints."
