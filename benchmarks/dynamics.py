"""What learning dynamics cost: the default run with and without them, in turn.

    python benchmarks/dynamics.py

The whole run would take too long to be repeated, so that its beginning is: the first 300 steps, in which the 64-step
log-spaced schedule of the 1,500 takes most of its times, and 100 steps with full rows from the start, with dynamics at
every fifth. What the rest of a schedule costs is that many times what one costs there. The run's own time is that of
its beginning and 1,200 further steps with full rows; the other evaluations, and the reference predictors at the end,
are left out, which makes the shares larger than they are. Medians of differences between neighbours in time, and half
the distance between their quartiles; last, one JSON line a figure.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from xenoglot.config import LearningDynamicsConfig, default_config, with_overrides
from xenoglot.run import start

MOST_SHARE = 0.05
N_TIMES = 64
BEGINNING, FULL_ROWS, EVERY = 300, 100, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    n_steps = default_config().training.max_steps
    every_checkpoint, log_spaced = schedule(n_steps), schedule(n_steps, n_log_spaced=N_TIMES)
    early, late = [step for step in log_spaced if step <= BEGINNING], list(range(0, FULL_ROWS + 1, EVERY))
    made(BEGINNING, [0])  # compiled code is loaded, files are cached
    beginnings = measured(repeats, BEGINNING, early, is_easy=True)
    full = measured(repeats, FULL_ROWS, late, is_easy=False)

    whole = np.median(beginnings.without) + (n_steps - BEGINNING) * full.update_seconds
    one_more = np.median(full.extra) / len(late)
    print(f"an update on full rows: {1000 * full.update_seconds:.0f} ms; the run: about {whole:.0f} s")
    print(f"dynamics on full rows: {1000 * one_more:.0f} ms a time; in the beginning, {len(early)} times: ", end="")
    print(f"{np.median(beginnings.extra):.2f} s\n")
    lines = [
        figure("default schedule", every_checkpoint, len(every_checkpoint) * full.extra / len(late) / whole),
        figure(
            f"{N_TIMES} log-spaced steps",
            log_spaced,
            (beginnings.extra + (len(log_spaced) - len(early)) * full.extra / len(late)) / whole,
        ),
    ]
    print()
    for line in lines:
        print(json.dumps(line))


def schedule(n_steps: int, **options: Any) -> list[int]:
    """Return at which steps of the default run dynamics are taken."""
    config = LearningDynamicsConfig(enabled=True, **options)
    every = default_config().checkpointing.save_every_n_steps
    return [step for step in range(n_steps + 1) if config.is_due(step, n_steps=n_steps, is_saved=step % every == 0)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """Seconds of runs without dynamics, how many more with them, and of an update, its data not included."""

    without: list[float]
    extra: np.ndarray[Any, Any]
    update_seconds: float


def measured(repeats: int, n_steps: int, steps: list[int], *, is_easy: bool) -> Measured:
    """Make runs without and with dynamics, in turn."""
    found: dict[str, list[float]] = {"without": [], "with": [], "update": []}
    for _ in range(repeats):
        for name, taken in (("without", []), ("with", steps)):
            seconds, update_seconds = made(n_steps, taken, **{"data.easy_start": is_easy})
            found[name].append(seconds)
            if name == "without":
                found["update"].append(update_seconds)
    extra = np.subtract(found["with"], found["without"])
    return Measured(without=found["without"], extra=extra, update_seconds=float(np.median(found["update"])))


def made(n_steps: int, steps: list[int], **changes: Any) -> tuple[float, float]:
    """Make a run of the default's sizes with dynamics at some steps; return its seconds, and those of a late update."""
    options = {
        "training.max_steps": n_steps,
        "evaluation.eval_every_n_steps": n_steps,
        "evaluation.reference_predictors": False,
        "checkpointing.learning_dynamics.enabled": bool(steps),
        "checkpointing.learning_dynamics.steps": steps,
    }
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        config = with_overrides(default_config(), {**options, **changes, "checkpointing.runs_dir": folder})
        started = time.perf_counter()
        run = start(config)
        seconds = time.perf_counter() - started
        lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    n_tokens = config.data.dataloader.batch_size * config.model.max_seq_len
    return seconds, float(n_tokens / np.median([line["tokens_per_second"] for line in lines[len(lines) // 2 :]]))


def figure(name: str, steps: list[int], shares: np.ndarray[Any, Any]) -> dict[str, Any]:
    low, middle, high = np.percentile(shares, [25, 50, 75])
    spread = (high - low) / 2
    print(f"{name:20} {len(steps):3} times: {middle:6.2%} of the run ± {spread:.2%} (at most {MOST_SHARE:.0%})")
    return {
        "name": f"learning dynamics, {name}",
        "value": middle,
        "unit": "share of the run",
        "spread": spread,
        "peer": None,
        "ratio": None,
        "target": MOST_SHARE,
        "holds": bool(middle <= MOST_SHARE),
    }


if __name__ == "__main__":
    main()
