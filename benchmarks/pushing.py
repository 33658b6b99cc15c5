"""What pushing to the Hub costs a run: its steps, and its end, when the Hub works, hangs, or is not there.

    python benchmarks/pushing.py

The default run's model trains for some steps and saves four checkpoints, alone and with each of three Hubs: the tests'
stand-in, the same when it never answers, and a port where nobody listens. All take turns, each run in a process of its
own. Of a run counts the median of its steps' tokens a second, and how long it takes in all; medians over the turns.
The speed of a step is compared with that of the run alone in the same turn.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from hub_stand_in import HANG, running_hub, surroundings

WAYS = ("alone", "working", "hanging", "absent")
N_STEPS = 200
WAIT_SECONDS = 10.0
"""The default of checkpointing.hf_checkpoint.wait_seconds."""
LEAST_SPEED = 0.95
"""Of the speed of a run alone; the spread of runs alone is as large."""
MOST_DELAY_SECONDS = WAIT_SECONDS + 3.0
NOBODY = "http://127.0.0.1:9"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    speeds = {way: np.empty(repeats) for way in WAYS}
    seconds = {way: np.empty(repeats) for way in WAYS}
    for repeat in range(repeats):
        for way in WAYS:
            speeds[way][repeat], seconds[way][repeat] = measure(way)
    lines = [line for way in WAYS[1:] for line in figures_of(way, speeds, seconds)]
    print()
    for line in lines:
        print(json.dumps(line))


def measure(way: str) -> tuple[float, float]:
    """Return the median of the steps' tokens a second, and the seconds of the whole run."""
    words = [sys.executable, "-m", "xenoglot", "train", "--training.max_steps", str(N_STEPS)]
    words += ["--evaluation.reference_predictors", "false", "--evaluation.n_languages", "16"]
    words += ["--checkpointing.save_every_n_steps", str(N_STEPS // 4), "--checkpointing.run_name", "run"]
    if way != "alone":
        words += ["--checkpointing.save_to_hf", "--checkpointing.hf_checkpoint.repo_id", "me/model"]
    with contextlib.ExitStack() as held:
        folder = held.enter_context(tempfile.TemporaryDirectory())
        hub = held.enter_context(running_hub())
        hub.fault = (lambda method, path: HANG) if way == "hanging" else hub.fault
        hub_url = NOBODY if way == "absent" else hub.url
        started = time.perf_counter()
        variables = {**os.environ, **surroundings(hub_url, HF_HOME=folder)}
        subprocess.run(words, cwd=folder, env=variables, check=True, capture_output=True)
        seconds = time.perf_counter() - started
        if way == "working":
            assert len(hub.repositories["me/model"].branches) == 5
        metrics = (Path(folder) / "runs" / "run" / "metrics.jsonl").read_text().splitlines()
    return float(np.median([json.loads(line)["tokens_per_second"] for line in metrics])), seconds


def figures_of(way: str, speeds: dict[str, Any], seconds: dict[str, Any]) -> list[dict[str, Any]]:
    shares, delays = speeds[way] / speeds["alone"], seconds[way] - seconds["alone"]
    share, delay = float(np.median(shares)), float(np.median(delays))
    print(
        f"{way:8} Hub: steps at {100 * share:5.1f} % of the speed alone ({100 * shares.min():.1f} to "
        f"{100 * shares.max():.1f}), the whole run {delay:+.1f} s ({delays.min():+.1f} to {delays.max():+.1f})"
    )
    return [
        {
            "name": f"speed of steps, {way} Hub",
            "value": share,
            "unit": "of the speed alone",
            "peer": {"name": "the same run without pushing", "value": float(np.median(speeds["alone"]))},
            "ratio": share,
            "target": LEAST_SPEED,
            "holds": share >= LEAST_SPEED,
        },
        {
            "name": f"how much later a run ends, {way} Hub",
            "value": delay,
            "unit": "s",
            "target": MOST_DELAY_SECONDS,
            "holds": delay <= MOST_DELAY_SECONDS,
        },
    ]


if __name__ == "__main__":
    main()
