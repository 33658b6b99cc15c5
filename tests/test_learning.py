"""The promise of the first page, kept: a small decoder learns languages that nobody has spoken. Minutes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [3, 4])
def test_the_default_run_learns_in_context(tmp_path: Path, seed: int) -> None:
    command = [
        sys.executable,
        "-m",
        "xenoglot",
        "train",
        "--checkpointing.run_name",
        "run",
        "--training.seed",
        str(seed),
    ]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    results = json.loads((tmp_path / "runs" / "run" / "eval_results" / "step_1500.json").read_text())
    [metrics] = [row["metrics"] for row in results["rows"] if row["slices"].get("part") == "last quarter"]
    assert metrics["loss_nats"] < 0.40
    assert metrics["floor_nats"] == pytest.approx(0.17, abs=0.01)
