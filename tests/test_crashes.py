"""A process may die at any moment of a save: what is found afterwards is whole, and never older than it must be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")


def told(tmp_path: Path, *words: str) -> list[dict[str, Any]]:
    script = Path(__file__).with_name("crashing.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), *words], capture_output=True, text=True, check=False, timeout=250
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr  # nothing was damaged: a crash leaves whole folders, or hidden ones
    return [json.loads(line) for line in done.stdout.splitlines()]


def nothing_hidden(lines: list[dict[str, Any]]) -> bool:
    return not any(name.startswith(".") for line in lines for name in line["names"])


def test_dying_at_any_point_of_a_save_leaves_the_earlier_or_the_new_one(tmp_path: Path) -> None:
    lines = told(tmp_path, "new")
    assert len(lines) > 20
    steps = [line["step"] for line in lines]
    assert steps == sorted(steps)
    assert {(line["step"], line["content"]) for line in lines} == {(1, 1), (2, 9)}
    assert nothing_hidden(lines)
    assert lines[-1]["names"] == ["step_1", "step_2"]


def test_dying_while_older_ones_are_removed_leaves_the_new_one(tmp_path: Path) -> None:
    lines = told(tmp_path, "retention")
    assert {(line["step"], line["content"]) for line in lines} == {(1, 1), (2, 9)}
    assert ["step_1"] in [line["names"] for line in lines]
    assert lines[-1]["names"] == ["step_2"]
    assert nothing_hidden(lines)


def test_dying_while_a_step_is_replaced_and_while_that_is_put_right_loses_neither(tmp_path: Path) -> None:
    lines = told(tmp_path, "replace")
    assert {(line["step"], line["content"]) for line in lines} == {(2, 8), (2, 9)}
    assert len([line for line in lines if len(line["points"]) == 2]) > 50
    assert nothing_hidden(lines)


def test_random_kills_while_saving_in_the_background(tmp_path: Path) -> None:
    lines = told(tmp_path, "random", "60")
    assert len(lines) == 60
    steps = [line["step"] or 0 for line in lines]
    assert steps == sorted(steps)  # what was saved once stays
    assert steps[-1] > 10
    assert all(line["content"] == line["step"] for line in lines if line["step"])
    assert nothing_hidden(lines)
    assert sum(line["was_saving"] for line in lines) >= 10, "too few kills fell into a save to prove anything"
