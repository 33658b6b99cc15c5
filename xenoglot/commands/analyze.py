"""``xenoglot analyze``: what formed inside a model while it learned: numbers, pictures, and a part of the report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import shtab

if TYPE_CHECKING:
    from xenoglot.analysis import Analysis

HELP = "look into checkpoints: when heads formed, and how layers changed"

EPILOG = """\
Every checkpoint of each run is measured: effective rank, norms, sparsity and conditioning of weights and of each head's
OV circuit; induction, previous-token and copy scores of each head, beside the loss on brand-new languages. Where a run
kept learning dynamics (--checkpointing.learning_dynamics.enabled true), activations and gradients too. Gradients are
also taken anew: their noise scale, and, where the run learns to adapt, the cosine between that and prediction.
--config_path says what to measure instead, in pico-analyze's words; `python -m pydoc xenoglot.analysis.config`
explains them.

Left in each run's folder: analysis/results.jsonl and .csv, pictures in analysis/, and a new report.html.

Examples:

  xenoglot analyze runs/first
  xenoglot analyze runs/first runs/second --config_path analysis.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the runs, and what to measure."""
    parser.epilog = EPILOG
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", type=Path, help="a run's folder; others compare with the first"
    )
    parser.add_argument(
        "--config_path", metavar="FILE", type=Path, help="a YAML file that says what to measure, at which steps"
    ).complete = shtab.FILE  # type: ignore[attr-defined]


def run(arguments: argparse.Namespace) -> int:
    """Measure, and say where the findings are."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from xenoglot.analysis import analyze, read_analysis_config

    config = None if arguments.config_path is None else read_analysis_config(arguments.config_path)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("opening runs", total=None)

        def show(name: str, step: int, n_done: int, n_all: int) -> None:
            progress.update(task, completed=n_done, total=n_all, description=f"{name}, step {step:,}")

        analyses = analyze(arguments.runs, config, on_step=show)
    for analysis in analyses:
        _leave(analysis)
    return 0


def _leave(analysis: Analysis) -> None:
    """Draw what was found, write the report anew, and say so."""
    from xenoglot.analysis.tables import formation, grids
    from xenoglot.figures_analysis import draw_formation, draw_grid
    from xenoglot.report import write_report
    from xenoglot.report.analysis import formation_in_words

    for note in analysis.notes:
        print(f"note: {note}", file=sys.stderr)
    findings, folder = analysis.findings, analysis.folder
    formed = formation(findings)
    if any(finding.head is not None and finding.data_type is None for finding in findings):
        draw_formation(findings, folder / "heads.png", title=f"{analysis.name}: heads that copy by looking back")
    for grid in grids(findings):
        draw_grid(grid, folder / f"{grid.name}.png", title=analysis.name)
    if formed is not None:
        print(formation_in_words(formed))
    print(f"findings: {folder / 'results.jsonl'} and .csv, {len(findings):,} numbers\npictures: {folder}/*.png")
    print(f"report: {write_report([folder.parent], folder.parent / 'report.html')}")
