"""A run as its folder tells it: whatever is there is read, and what is not is said in words.

A run may be going on, have been cut off, or be of another version, so nothing here insists: a file that is missing or
damaged costs what stood in it, and leaves a note.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from xenoglot import languages
from xenoglot.analysis.results import JSON_LINES_FILE, Finding, read_findings
from xenoglot.config import resolve, to_mapping
from xenoglot.errors import DataError, XenoglotError
from xenoglot.evaluation_files import OF_THE_WHOLE_RUN, RESULTS, evaluation_files
from xenoglot.tracking import read_metrics

__all__ = ["Evaluated", "RunRecord", "flat", "number", "read_run"]

Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Rows of results, as `xenoglot.evaluations.Row` writes them.

    Attributes:
        rows: Slices and metrics of each.
    """

    rows: Rows

    def one(self, **slices: str) -> Mapping[str, float]:
        """Return the finite metrics of the row with exactly these slices; none if there is no such row."""
        return next((_metrics(row) for row in self.rows if row["slices"] == slices), {})

    def by(self, name: str, **slices: str) -> list[tuple[Any, Mapping[str, float]]]:
        """Return what a slice is and the finite metrics, of every row that has it and, besides, exactly the others."""
        return [
            (row["slices"][name], _metrics(row))
            for row in self.rows
            if name in row["slices"] and {key: value for key, value in row["slices"].items() if key != name} == slices
        ]


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run left.

    Attributes:
        name: The folder's name.
        config: Values by dotted path.
        defaults: What they would have been, had nothing been asked for; empty if that is not known.
        environment: Values by dotted path.
        metrics: The lines of metrics.jsonl, in the order of their steps.
        evaluations: Results by step.
        further: Results of `xenoglot evaluate` that are kept with the run, by what they are called.
        references: The best learners' results on the same data.
        samples: Rows of tokens and what each cost.
        notes: What is missing, in sentences.
        findings: What `xenoglot analyze` found; none if it was not asked.
    """

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    metrics: Rows = field(default_factory=list)
    evaluations: Mapping[int, Evaluated] = field(default_factory=dict)
    further: Mapping[str, Evaluated] = field(default_factory=dict)
    references: Evaluated = field(default_factory=lambda: Evaluated(rows=[]))
    samples: Rows = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    findings: Sequence[Finding] = ()

    @property
    def last_step(self) -> int:
        """The last step of which anything is known."""
        steps: list[int] = [line["step"] for line in self.metrics[-1:]]
        return max([0, *self.evaluations, *steps])

    @property
    def final(self) -> Evaluated:
        """The newest evaluation; empty if there is none."""
        return self.evaluations[max(self.evaluations)] if self.evaluations else Evaluated(rows=[])


def read_run(folder: Path) -> RunRecord:
    """Read a run's folder.

    Raises:
        DataError: If there is nothing of a run in it.
    """
    names = ("config.yaml", "metrics.jsonl", RESULTS)
    if not any((folder / name).exists() for name in names):
        found = "no such folder" if not folder.is_dir() else "a folder without them"
        raise DataError(f"{folder}: got {found}; allowed: a run's folder, with {', '.join(names)}.")
    notes: list[str] = []
    config = _read(folder / "config.yaml", yaml.safe_load, notes)
    metrics, n_torn = read_metrics(folder / "metrics.jsonl")
    if n_torn:
        notes.append(f"metrics.jsonl has {n_torn} line{'s' * (n_torn > 1)} that cannot be read, and was left out.")
    record = RunRecord(
        name=folder.resolve().name,
        config=flat(config),
        defaults=_defaults(config),
        environment=flat(_read(folder / "environment.json", json.loads, notes)),
        metrics=sorted(metrics, key=lambda line: line["step"]),
        evaluations=dict(_evaluations(folder, notes)),
        further=dict(_further(folder, notes)),
        references=Evaluated(rows=_rows(_read(folder / RESULTS / "references.json", json.loads, None))),
        samples=_samples(_read(folder / RESULTS / "samples.json", json.loads, None)),
        notes=notes,
        findings=_findings(folder / "analysis" / JSON_LINES_FILE, notes),
    )
    notes += _what_is_missing(record)
    return record


def number(value: Any) -> float | None:
    """Return a finite number as such, and None for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def flat(nested: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as values by dotted path.

    Example:
        >>> flat({"training": {"max_steps": 5}, "curriculum": [1]})
        {'training.max_steps': 5, 'curriculum': [1]}
    """
    if not isinstance(nested, Mapping):
        return {}
    values: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            values |= flat(value, f"{prefix}{key}.")
        else:
            values[f"{prefix}{key}"] = value
    return values


def _metrics(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, given in row["metrics"].items() if (value := number(given)) is not None}


def _read(path: Path, parse: Callable[[str], Any], notes: list[str] | None) -> Any:
    """Parse a file; one that is missing or damaged gives nothing, and a note where one is wanted."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        complaint = "is not there"
    except (OSError, ValueError, yaml.YAMLError) as error:
        complaint = f"cannot be read ({type(error).__name__})"
    if notes is not None:
        notes.append(f"{path.name} {complaint}.")
    return {}


def _defaults(config: Any) -> dict[str, Any]:
    """Return the defaults for what the run learned; none if they are of another version, or of a family of one's own.

    Such a family is named by the path of a module, and to look at a run must not execute what a file in it names.
    """
    known = flat(config)
    family = known.get("languages.family")
    if family is not None and family not in languages.names():
        return {}
    try:
        said: dict[str, Any] = {"data": {"text": known.get("data.text"), "samples": known.get("data.samples")}}
        said["data"]["dataset"] = {"name": known.get("data.dataset.name")}
        if family is not None and family != to_mapping(resolve())["languages"]["family"]:
            said["languages"] = {"family": family}
        return flat(to_mapping(resolve(said)))
    except XenoglotError:
        return {}


def _evaluations(folder: Path, notes: list[str]) -> Iterator[tuple[int, Evaluated]]:
    for path in evaluation_files(folder).values():
        content = _read(path, json.loads, notes)
        step = content.get("step") if isinstance(content, dict) else None
        if isinstance(step, int):
            yield step, Evaluated(rows=_rows(content))


def _further(folder: Path, notes: list[str]) -> Iterator[tuple[str, Evaluated]]:
    """Yield what is no evaluation of the training's own, if it has rows."""
    own = {*evaluation_files(folder).values(), *(folder / RESULTS / name for name in OF_THE_WHOLE_RUN)}
    for path in sorted({*(folder / RESULTS).glob("*.json")} - own):
        content = _read(path, json.loads, notes)
        if rows := _rows(content):
            name, model = content.get("evaluation"), content.get("model")
            yield f"{name} of {model}" if name and model else path.stem, Evaluated(rows=rows)


def _rows(content: Any) -> Rows:
    """Return the rows that are what they should be."""
    rows = content.get("rows", []) if isinstance(content, dict) else []
    return [row for row in (rows if isinstance(rows, list) else []) if _is_row(row)]


def _is_row(row: Any) -> bool:
    if not (isinstance(row, dict) and isinstance(row.get("slices"), dict) and isinstance(row.get("metrics"), dict)):
        return False
    values = row["slices"].values()
    return all(isinstance(value, str | int) for value in values) and isinstance(
        row["slices"].get("tokens_read", 0), int
    )


def _findings(path: Path, notes: list[str]) -> Sequence[Finding]:
    try:
        return read_findings(path) if path.exists() else []
    except DataError as error:
        notes.append(f"The analysis was left out: {error}")
        return []


def _samples(content: Any) -> Rows:
    samples = content.get("samples", []) if isinstance(content, dict) else []
    return [sample for sample in samples if isinstance(sample, dict) and isinstance(sample.get("rows"), list)]


def _what_is_missing(record: RunRecord) -> Iterator[str]:
    max_steps = record.config.get("training.max_steps")
    if isinstance(max_steps, int) and record.last_step < max_steps:
        yield f"The run is not finished: {record.last_step:,} of {max_steps:,} steps are known."
    if not record.metrics:
        yield "There are no training metrics yet."
    if not record.evaluations:
        yield "There is no evaluation yet."
