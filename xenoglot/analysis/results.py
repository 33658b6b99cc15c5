"""What an analysis found: one number a line, with all that it is about.

```
RUN/analysis/results.jsonl    {"metric": "per", "value": 0.83, "run": "first", "step": 40, "layer": ..., ...}
RUN/analysis/results.csv      the same as a table
```
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xenoglot.errors import DataError
from xenoglot.storage.files import StagedFiles

__all__ = ["CSV_FILE", "JSON_LINES_FILE", "Finding", "read_findings", "write_findings"]

JSON_LINES_FILE, CSV_FILE = "results.jsonl", "results.csv"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One number.

    Attributes:
        run: The run's name.
        step: After how many updates.
        metric: A measure's name, a head's score, or a loss with its unit.
        value: The number; nan where there is none, which is null in JSON and nothing in the table.
        data_type: "weights", "activations" or "gradients" where a measure is of these.
        data_split: The batch, "val" or "train", of activations and gradients.
        component: "simple" or "ov_circuit" where a measure is of layers.
        layer: The layer's name, or the number of the block for what is of a head.
        head: The head, from 0.
        against: What the other thing is, if there is one: "step", "layers", "runs" or "splits".
        other: Which one: a step, a layer's name, a run's name, a batch.
    """

    run: str
    step: int
    metric: str
    value: float
    data_type: str | None = None
    data_split: str | None = None
    component: str | None = None
    layer: str | None = None
    head: int | None = None
    against: str | None = None
    other: str | None = None

    def to_mapping(self) -> dict[str, Any]:
        """Return plain values, ready for JSON, where nan is null."""
        mapping = dataclasses.asdict(self)
        return mapping | {"value": self.value if math.isfinite(self.value) else None}


NAMES = tuple(declared.name for declared in dataclasses.fields(Finding))


def write_findings(folder: Path, findings: Sequence[Finding]) -> None:
    """Write both files into a folder, both whole or neither.

    Raises:
        OutputError: If they cannot be written.
    """
    lines = "".join(f"{json.dumps(finding.to_mapping())}\n" for finding in findings)
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, NAMES, lineterminator="\n")
    writer.writeheader()
    writer.writerows(finding.to_mapping() for finding in findings)
    with StagedFiles() as staged:
        for name, content in ((JSON_LINES_FILE, lines), (CSV_FILE, table.getvalue())):
            with staged.open(folder / name) as file:
                file.write(content.encode())


def read_findings(path: Path) -> list[Finding]:
    """Read what `write_findings` wrote as JSON lines.

    Raises:
        DataError: If the file cannot be read, or a line is no finding; with its number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: got no readable text; allowed: what xenoglot analyze wrote.") from error
    return list(_findings(path, lines))


def _findings(path: Path, lines: Iterable[str]) -> Iterable[Finding]:
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            value = math.nan if values["value"] is None else float(values["value"])
            yield Finding(**values | {"value": value, "step": int(values["step"]), "metric": str(values["metric"])})
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}, line {number}: got no finding; allowed: what xenoglot analyze wrote.") from error
