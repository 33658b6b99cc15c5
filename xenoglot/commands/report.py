"""``xenoglot report``: one page about a run, or about several side by side."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write one self-contained HTML page about runs"

EPILOG = """\
The page opens offline: results in words, loss by position against the floor, samples coloured by what each token cost,
curves of training, configuration and machine. Runs that are still going on can be looked at too.

Examples:

  xenoglot report runs/first
  xenoglot report runs/first runs/second --output comparison.html
"""
FILE_NAME = "report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the runs, and where the page goes."""
    parser.epilog = EPILOG
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="a run's folder")
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help=f"where the page goes; {FILE_NAME}, in the run's folder if there is one run, else in the current one",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the page and say where it is."""
    from xenoglot.report import write_report

    folder = arguments.runs[0] if len(arguments.runs) == 1 else Path()
    print(f"report: {write_report(arguments.runs, arguments.output or folder / FILE_NAME)}")
    return 0
