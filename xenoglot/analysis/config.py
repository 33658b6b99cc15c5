"""What an analysis can be told: which measures of which layers at which steps, in the words of pico-analyze.

```yaml
# analysis.yaml
steps: {start: 0, end: 1000, step: 100}
metrics:
  - metric_name: cka_debiased
    data_type: activations
    data_split: val
    target_checkpoint: 1000
    components:
      - {component_name: simple, layer_suffixes: swiglu.w_2, layers: [0, 1]}
  - metric_name: per
    data_type: weights
    components:
      - {component_name: ov_circuit}
induction: {n_sequences: 64}
gradients: {n_parts: 32}
```

Where pico-analyze differs: it says ``data_type`` of each component, which is understood here too; it has no
``against``: between layers, between runs and between the two batches are new.
"""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xenoglot import measures
from xenoglot.config.documents import read_document
from xenoglot.errors import ConfigFileError, OptionError, UnknownNameError
from xenoglot.options import check_options, option, options_of

__all__ = [
    "AnalysisConfig",
    "ComponentConfig",
    "GradientsConfig",
    "InductionConfig",
    "MetricConfig",
    "StepsConfig",
    "read_analysis_config",
]

SIMPLE, OV_CIRCUIT = "simple", "ov_circuit"
WEIGHTS, ACTIVATIONS, GRADIENTS = "weights", "activations", "gradients"
STEP, LAYERS, RUNS, SPLITS = "step", "layers", "runs", "splits"
SUFFIXES = ("attention.v_proj", "attention.o_proj", "swiglu.w_2")
CIRCUIT_SUFFIXES = {"value_layer": "v_proj", "output_layer": "o_proj"}


@dataclass(frozen=True, kw_only=True)
class StepsConfig:
    """Which checkpoints are looked at; all if nothing is said."""

    start: int = option(0, "first step", unit="steps", minimum=0)
    end: int | None = option(None, "last step; the run's if none", unit="steps", minimum=0)
    step: int | None = option(None, "only start and multiples of this from there on", unit="steps", minimum=1)

    def __post_init__(self) -> None:
        check_options(self)

    def chosen(self, saved: typing.Sequence[int]) -> list[int]:
        """Return those of some steps that are meant.

        Example:
            >>> StepsConfig(start=10, step=20).chosen([0, 10, 20, 30, 55])
            [10, 30]
        """
        last = self.end if self.end is not None else max(saved, default=0)
        within = [step for step in saved if self.start <= step <= last]
        return [step for step in within if self.step is None or (step - self.start) % self.step == 0]


@dataclass(frozen=True, kw_only=True)
class ComponentConfig:
    """What is measured: layers one by one, or what each head moves, the OV circuits."""

    component_name: str = option(SIMPLE, "single layers, or each head's OV circuit", choices=(SIMPLE, OV_CIRCUIT))
    data_type: str | None = option(None, "overrules the metric's", choices=(WEIGHTS, ACTIVATIONS, GRADIENTS))
    layer_suffixes: tuple[str, ...] = option(SUFFIXES, "how the names of simple layers end, ours or Pico's")
    layers: tuple[int, ...] | None = option(None, "numbers of the blocks, from 0; all if none", minimum=0)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class MetricConfig:
    """A measure, and of what."""

    metric_name: str = option("per", "a measure's name")
    data_type: str = option(WEIGHTS, "what of a layer is measured", choices=(WEIGHTS, ACTIVATIONS, GRADIENTS))
    data_split: str = option("val", "the batch of activations and gradients", choices=("val", "train"))
    against: str | None = option(
        None,
        "what a measure of two things compares with: the same layer at one step, the other layers, the first run, or "
        "the other batch; by default one step, and of gradients the other batch",
        choices=(STEP, LAYERS, RUNS, SPLITS),
    )
    target_checkpoint: int | None = option(None, "the step compared with; the last if none", unit="steps", minimum=0)
    components: tuple[ComponentConfig, ...] = field(default_factory=lambda: (ComponentConfig(),))

    def __post_init__(self) -> None:
        check_options(self)
        self._check_comparison()
        for number, component in enumerate(self.components):
            if component.component_name == OV_CIRCUIT and self.type_of(component) == GRADIENTS:
                place = f"components.{number}.data_type"
                raise OptionError(place, GRADIENTS, f"{WEIGHTS} or {ACTIVATIONS} where the component is {OV_CIRCUIT}")

    @property
    def measure(self) -> measures.Measure:
        """The measure itself."""
        return measures.get(self.metric_name)

    @property
    def compares(self) -> str | None:
        """What it compares with; None for a measure of one thing."""
        kind = self.measure.of
        return self.against or {"pair": STEP, "gradients": SPLITS}.get(kind)

    def type_of(self, component: ComponentConfig) -> str:
        """Return what of a component's layers is measured."""
        return component.data_type or self.data_type

    def _check_comparison(self) -> None:
        kind = self.measure.of
        types = {self.type_of(component) for component in self.components}
        if kind in ("gradients", "parts") and types != {GRADIENTS}:
            raise OptionError("data_type", sorted(types), f"{GRADIENTS}, which is all that {self.metric_name} is of")
        if kind in ("matrix", "parts") and self.against is not None:
            raise OptionError("against", self.against, f"none, as {self.metric_name} is of one thing")
        if self.compares == SPLITS and WEIGHTS in types:
            raise OptionError("against", SPLITS, "another, as weights have no batch")
        if self.compares != STEP and self.target_checkpoint is not None:
            raise OptionError("target_checkpoint", self.target_checkpoint, f"none, unless against is {STEP}")


@dataclass(frozen=True, kw_only=True)
class InductionConfig:
    """Whether heads are scored, and on how much."""

    enabled: bool = option(True, "whether heads' induction, previous-token and copy scores are measured")
    n_sequences: int = option(32, "rows of each kind", unit="rows", minimum=2)
    length: int | None = option(
        None, "tokens of a row; as many as the model reads if none, but at most 512", unit="tokens", minimum=8
    )
    n_matched: tuple[int, ...] = option(
        (1, 2), "how many of the newest tokens must have occurred before, on languages", unit="tokens", minimum=1
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class GradientsConfig:
    """Whether gradients are taken anew, of prediction and of learning to adapt, and on how much."""

    enabled: bool = option(True, "whether gradients' noise scale, and the cosine of both objectives, are measured")
    n_parts: int = option(16, "parts of the rows whose gradients are compared", unit="parts", minimum=2)
    rows_per_part: int = option(2, "rows of each, at most a step's", unit="rows", minimum=1)
    n_tasks: int = option(8, "tasks, where the run learns to adapt", unit="tasks", minimum=2)
    layer_suffixes: tuple[str, ...] = option(SUFFIXES, "how the names of layers end that are told apart")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class AnalysisConfig:
    """Everything that an analysis does."""

    analysis_name: str | None = option(None, "what to call it")
    steps: StepsConfig = field(default_factory=StepsConfig)
    metrics: tuple[MetricConfig, ...] = ()
    induction: InductionConfig = field(default_factory=InductionConfig)
    gradients: GradientsConfig = field(default_factory=GradientsConfig)

    def __post_init__(self) -> None:
        check_options(self)


def read_analysis_config(path: str | os.PathLike[str]) -> AnalysisConfig:
    r"""Read what to analyse from a YAML file.

    Raises:
        ConfigFileError: If the file cannot be read, or something in it is not known or not allowed; with the line.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "analysis.yaml"
        ...     _ = path.write_text("metrics:\n  - {metric_name: gini}\n  - {metric_name: prr}\n")
        ...     read_analysis_config(path)
        Traceback (most recent call last):
        xenoglot.errors.ConfigFileError: .../analysis.yaml, line 3: unknown measure 'prr'. Did you mean 'per'? ...
    """
    document = read_document(Path(path))
    try:
        config: AnalysisConfig = _section(AnalysisConfig, document.values, "")
    except _MisplacedError as misplaced:
        line = document.line_of(misplaced.option)
        raise ConfigFileError(document.path, str(misplaced), line=line) from misplaced.__cause__
    return config


class _MisplacedError(Exception):
    """A complaint, with the dotted path of what it is about."""

    def __init__(self, option: str, problem: Exception) -> None:
        super().__init__(str(problem))
        self.option = option


def _section(section: type[Any], mapping: Any, prefix: str) -> Any:
    """Build one dataclass of plain values, its sections and lists of sections first."""
    if not isinstance(mapping, Mapping | None):
        raise _misplaced(prefix.rstrip("."), OptionError(prefix.rstrip("."), mapping, "a section of keys and values"))
    members = [member.name for member in dataclasses.fields(section)]
    values: dict[str, Any] = {}
    for key, value in (mapping or {}).items():
        if key not in members:
            known = [prefix + name for name in members]
            raise _misplaced(prefix + key, UnknownNameError("option", prefix + key, known))
        values[key] = _member(section, key, value, prefix)
    try:
        return section(**values)
    except OptionError as error:
        raise _misplaced(prefix + error.option, error.at(prefix)) from error
    except UnknownNameError as error:
        raise _misplaced(f"{prefix}metric_name", error) from error


def _member(section: type[Any], key: str, value: Any, prefix: str) -> Any:
    kind = typing.get_type_hints(section)[key]
    if dataclasses.is_dataclass(kind):
        return _section(typing.cast("type[Any]", kind), value, f"{prefix}{key}.")
    inner = typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else None
    if dataclasses.is_dataclass(inner):
        if not isinstance(value, list):
            raise _misplaced(prefix + key, OptionError(prefix + key, value, "a list of sections"))
        return tuple(
            _section(typing.cast("type[Any]", inner), each, f"{prefix}{key}.{i}.") for i, each in enumerate(value)
        )
    if key == "layer_suffixes":
        value = _suffixes(value)
    [declared] = [known for known in options_of(section) if known.name == key]
    try:
        dataclasses.replace(declared, name=prefix + key).check(value)
    except OptionError as error:
        raise _misplaced(prefix + key, error) from error
    return tuple(value) if isinstance(value, list) else value


def _suffixes(value: Any) -> Any:
    """Read one suffix as a list of it, and Pico's two names of an OV circuit's layers as the suffixes that they are."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Mapping) and value.keys() == CIRCUIT_SUFFIXES.keys():
        ends = {key: str(suffix).rpartition(".")[2] for key, suffix in value.items()}
        return tuple(value.values()) if ends == CIRCUIT_SUFFIXES else value
    return value


def _misplaced(option: str, problem: Exception) -> _MisplacedError:
    error = _MisplacedError(option, problem)
    error.__cause__ = problem
    return error
