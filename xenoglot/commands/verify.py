"""``xenoglot verify``: whether what runs left is whole, bit for bit."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

HELP = "check that runs and their checkpoints are whole, bit for bit"

EPILOG = """\
A run's folder, or one checkpoint's. Every file of a checkpoint is compared with the SHA-256 in its manifest; the run's
other files are read. One line each: ok, or FAULT and what is wrong. Nothing is changed.

Exit code: 0 all is whole, 1 something is not, 2 there is nothing to check.

Examples:

  xenoglot verify runs/*
  xenoglot verify runs/first/checkpoints/step_1000
"""
FOUND_FAULTS = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the folders."""
    parser.epilog = EPILOG
    parser.add_argument("folders", metavar="RUN", nargs="+", type=Path, help="a run's folder, or a checkpoint's")


def run(arguments: argparse.Namespace) -> int:
    """Check everything, and print one line for each thing and one for all."""
    from xenoglot.verification import Verdict, verify

    started = time.perf_counter()
    verdicts: list[Verdict] = []
    for verdict in (verdict for folder in arguments.folders for verdict in verify(folder)):
        verdicts.append(verdict)
        if verdict.faults:
            print(f"FAULT  {verdict.path}: {'; '.join(verdict.faults)}")
        else:
            facts = [verdict.remark, _size(verdict.n_bytes) if verdict.n_bytes else ""]
            print(f"ok     {verdict.path}: {', '.join(fact for fact in facts if fact)}")
    seconds = time.perf_counter() - started
    n_bytes = sum(verdict.n_bytes for verdict in verdicts)
    n_faulty = sum(bool(verdict.faults) for verdict in verdicts)
    what = f"{n_faulty} of {len(verdicts)} are not whole" if n_faulty else f"all {len(verdicts)} are whole"
    print(f"{what}: {_size(n_bytes)} in {seconds:.2f} s, {n_bytes / 1e6 / seconds:,.0f} MB/s")
    return FOUND_FAULTS if n_faulty else 0


def _size(n_bytes: int) -> str:
    """Write a number of bytes for people.

    Example:
        >>> _size(512), _size(1_234_567)
        ('512 bytes', '1.2 MB')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:,.1f} {unit}"
    return f"{n_bytes} bytes"
