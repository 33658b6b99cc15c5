"""A run that is killed again and again ends as one that was not: weights, optimizer, metrics and data, bit for bit.

Slow: run by `make test-slow`. Single crashes, at every point of a save, are in `test_crashes.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xenoglot.checkpoint import verify_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork"),
]

MAX_STEPS = 120
SIZES = {
    "training.max_steps": MAX_STEPS,
    "model.d_model": 96,
    "model.n_layers": 2,
    "model.activation_hidden_dim": 128,
    "model.max_seq_len": 32,
    "data.dataloader.batch_size": 8,
    "training.optimization.lr_warmup_steps": 5,
    "evaluation.n_languages": 4,
    "evaluation.eval_every_n_steps": 35,
    "evaluation.reference_predictors": "false",
    "checkpointing.save_every_n_steps": 2,
    "monitoring.logging.log_every_n_steps": 1,
}
SPEEDS = {"tokens_per_second", "mfu"}

IN_PARTS = {"training.optimization.gradient_accumulation_steps": 2}
TEXT = {"checkpointing.keep_last": 2, "checkpointing.save_early_steps": "true"}
CASES = {
    "languages": (1, 20, IN_PARTS),
    "text": (1, 20, {**TEXT, "training.optimization.optimizer": "muon"}),
    "languages, two processes": (2, 12, IN_PARTS),
    "text, two processes": (2, 12, {**TEXT, **IN_PARTS}),
    "languages, the model cut up over two processes": (2, 6, {**IN_PARTS, "training.fabric.strategy": "fsdp"}),
}


def words_of(options: dict[str, Any]) -> list[str]:
    return [word for path, value in {**SIZES, **options}.items() for word in (f"--{path}", str(value))]


def metrics_of(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in SPEEDS} for line in lines]


def results_of(run: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (run / "eval_results").iterdir()}


def manifests_of(run: Path) -> dict[str, dict[str, Any]]:
    """Return what each checkpoint is, down to the last bit: a manifest holds the SHA-256 of every file."""
    folders = list((run / "checkpoints").iterdir())
    assert [verify_checkpoint(folder) for folder in folders] == [[]] * len(folders)
    manifests = {folder.name: json.loads((folder / "manifest.json").read_text()) for folder in folders}
    for folder in folders:  # the card's title is the run's name, all else of it has to be the same
        of_card = manifests[folder.name]["files"]["README.md"]
        card = (folder / "README.md").read_text()
        assert run.name in card
        of_card.update(sha256=None, bytes=None, text=card.replace(f"{run.name}, step", "NAME, step"))
        del manifests[folder.name]["sha256"]  # of the manifest's own content
    return manifests


def check_that_they_are_the_same(whole: Path, mended: Path) -> None:
    assert metrics_of(whole) == metrics_of(mended)
    assert results_of(whole) == results_of(mended)
    assert manifests_of(whole) == manifests_of(mended)
    assert names_in(whole) == names_in(mended)


def names_in(run: Path) -> set[str]:
    """Return the names of all files: what was half-written when a process died is gone."""
    return {str(path.relative_to(run)) for path in run.rglob("*")}


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_is_killed_at_random_moments_ends_as_if_it_had_not_been(tmp_path: Path, case: str) -> None:
    n_processes, n_kills, options = CASES[case]
    words = words_of(options)
    if case.startswith("text"):
        text = "".join(f"{number} is the square of {number**0.5:.3f}; " for number in range(60))
        (tmp_path / "book.txt").write_text(text)
        words += ["--text", str(tmp_path / "book.txt")]
    # Twice at the beginning, then along the way, and once when all steps are made and the results are written.
    after_steps = [0, 0, *(MAX_STEPS * number // (n_kills - 3) for number in range(n_kills - 3)), MAX_STEPS]
    task = {"words": words, "n_processes": n_processes, "after_steps": after_steps}
    script = Path(__file__).with_name("killing.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), json.dumps(task)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    kills = [json.loads(line) for line in done.stdout.splitlines()]
    for line in kills:
        print(line)  # shown when the test fails, and with -rP
    check_that_they_are_the_same(tmp_path / "whole", tmp_path / "mended")
    assert len(kills) == n_kills
    assert "damaged" not in (tmp_path / "mended.log").read_text()
    newest = [kill["newest"] for kill in kills]
    assert newest == sorted(newest)  # what was saved once stays
    assert len({step for step in newest if step}) >= n_kills // 2, "the kills fell on few different steps"
    assert sum(kill["was_saving"] for kill in kills) >= n_kills // 6, "too few kills fell into a save"
    assert sum(kill["was_running"] for kill in kills) >= n_kills // 3, "too few kills fell into a loop that ran"
    assert sum(kill["outlived"] for kill in kills) == 0, "a process did not notice that the other one was dead"


@pytest.mark.parametrize(("n_devices", "kills_after"), [(1, (0, 25, 50)), (2, (20, 40))])
def test_the_program_itself_is_killed_and_started_again(
    tmp_path: Path, n_devices: int, kills_after: tuple[int, ...]
) -> None:
    """As a user does it: with processes that the program starts itself, of which only the first is killed."""
    words = words_of({**IN_PARTS, "training.max_steps": 60, "training.fabric.num_devices": n_devices})

    def program(name: str) -> subprocess.Popen[bytes]:
        where = ["--checkpointing.runs_dir", str(tmp_path), "--checkpointing.run_name", name]
        command = [sys.executable, "-m", "xenoglot", "train", *words, *where]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        log = (tmp_path / f"{name}.log").open("ab")
        with log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    assert program("whole").wait(200) == 0
    for after_step in kills_after:
        process = program("mended")
        wait_for(lambda: n_lines(tmp_path / "mended" / "metrics.jsonl") > after_step)  # noqa: B023 - called at once
        process.kill()
        process.wait()
        wait_for(lambda: is_gone(process.pid))  # noqa: B023
    assert program("mended").wait(200) == 0
    check_that_they_are_the_same(tmp_path / "whole", tmp_path / "mended")


def n_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def is_gone(session: int) -> bool:
    """Say whether no process of a session is left."""
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return True
    return False


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < deadline, "waited for 100 s"
        time.sleep(0.01)
