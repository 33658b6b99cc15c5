"""One self-contained page about one run or several: it opens offline, in light and dark, on a desk and on a phone.

```python
xenoglot.report.write_report([Path("runs/first"), Path("runs/second")], Path("report.html"))
```

Nothing is measured here. Every word from a run (names, texts, values) is escaped by the template; the page asks nothing
of any network and forbids itself to; environment variables are never read.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from xenoglot.errors import DataError
from xenoglot.report import curves, words
from xenoglot.report.analysis import analysis_charts, analysis_sections
from xenoglot.report.few_shot import few_shot_charts
from xenoglot.report.further import further_results
from xenoglot.report.reading import RunRecord, read_run
from xenoglot.report.tokens import coloured_samples
from xenoglot.storage.files import StagedFiles

__all__ = ["write_report"]

TEMPLATES = Path(__file__).parent / "templates"


def write_report(runs: Sequence[Path], target: Path) -> Path:
    """Write a page about runs, finished or not; what a run lacks is said in the page.

    Args:
        runs: Their folders.
        target: The HTML file, which appears only when whole.

    Returns:
        The file.

    Raises:
        DataError: If no run is given, or a folder holds nothing of one.
        OutputError: If the file cannot be written.
    """
    if not runs:
        raise DataError("runs: got none; allowed: at least one run's folder.")
    page = render([read_run(Path(folder)) for folder in runs])
    with StagedFiles() as staged, staged.open(target) as file:
        file.write(page.encode("utf-8", errors="replace"))
    return target


def render(records: Sequence[RunRecord]) -> str:
    """Return the page as HTML."""
    return _template().render(_context(records)) + "\n"


@functools.cache
def _template() -> jinja2.Template:
    """Read and compile the page's template, once: that takes longer than filling it in."""
    loader = jinja2.FileSystemLoader(TEMPLATES, encoding="utf-8")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html")


def _context(records: Sequence[RunRecord]) -> dict[str, Any]:
    progress = (few_shot_charts(records), curves.over_training_charts(records), curves.training_charts(records))
    return {
        "title": ", ".join(record.name for record in records),
        "runs": list(_runs(records)),
        "figures": words.final_figures(records) if len(records) > 1 else None,
        "differing": words.differing_options(records) if len(records) > 1 else [],
        "learned": curves.by_position_charts(records),
        "progress": [group for group in progress if group is not None],
        "domains": _domains(records),
        "heads": analysis_charts(records),
        "further": list(further_results(records)),
        "analyses": list(analysis_sections(records)),
    }


def _runs(records: Sequence[RunRecord]) -> Iterator[dict[str, Any]]:
    for index, record in enumerate(records):
        yield {
            "name": record.name,
            "colour": curves.colour_of_run(index),
            "sentences": words.result_in_words(record),
            "tiles": words.tiles(record),
            "notes": record.notes,
            "changed": words.changed_options(record),
            "has_defaults": bool(record.defaults),
            "config": [(path, words.spelled(value)) for path, value in record.config.items()],
            "environment": [(path, words.spelled(value)) for path, value in record.environment.items()],
            "samples": coloured_samples(record),
        }


def _domains(records: Sequence[RunRecord]) -> list[tuple[str, list[Mapping[str, float]]]]:
    """Return each domain's figures, then those of all, a column for each run; empty where none was measured."""
    lines: list[tuple[str, list[Mapping[str, float]]]] = []
    for kind in ("domain", "domains"):
        by_run = [dict(record.final.by(kind)) for record in records]
        names = sorted({str(name) for figures in by_run for name in figures})
        lines += [(name, [figures.get(name, {}) for figures in by_run]) for name in names]
    return lines
