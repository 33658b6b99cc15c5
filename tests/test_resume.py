"""What is lost between two halves of a run does not show in its end; what cannot be mended is said, and left alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dying import dying_after

from xenoglot import cli
from xenoglot.checkpoint import verify_checkpoint
from xenoglot.training.learner import Learner

OPTIONS = {
    "model.d_model": 16,
    "model.n_layers": 1,
    "model.activation_hidden_dim": 16,
    "model.max_seq_len": 16,
    "data.dataloader.batch_size": 4,
    "training.max_steps": 8,
    "training.optimization.lr_warmup_steps": 2,
    "training.optimization.gradient_accumulation_steps": 2,
    "evaluation.n_languages": 4,
    "evaluation.eval_every_n_steps": 3,
    "evaluation.reference_predictors": "false",
    "checkpointing.save_every_n_steps": 2,
    "monitoring.logging.log_every_n_steps": 1,
}
MISUSE = 2


def words_of(folder: Path, **options: Any) -> list[str]:
    """Return the command line of a run; options are written with two underscores for a dot."""
    given = OPTIONS | {name.replace("__", "."): value for name, value in options.items()}
    where = {"checkpointing.runs_dir": folder.parent, "checkpointing.run_name": folder.name}
    return ["train", *(word for path, value in (given | where).items() for word in (f"--{path}", str(value)))]


def train(folder: Path, **options: Any) -> int:
    return cli.main(words_of(folder, **options))


def die_after(monkeypatch: pytest.MonkeyPatch, folder: Path, n_steps: int, **options: Any) -> None:
    """Train, and end with an error after so many steps."""
    with dying_after(monkeypatch, n_steps):
        train(folder, **options)


def left_by(run: Path) -> dict[str, Any]:
    """Return all that a run's steps have led to: metrics without speeds, results, and every bit of each checkpoint."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    folders = [path for path in (run / "checkpoints").iterdir() if "corrupt" not in path.name]
    assert [verify_checkpoint(folder) for folder in folders] == [[]] * len(folders)
    return {
        "metrics": [{name: line[name] for name in line.keys() - {"tokens_per_second", "mfu"}} for line in lines],
        "results": {path.name: path.read_text() for path in (run / "eval_results").iterdir()},
        "checkpoints": {folder.name: (folder / "manifest.json").read_text() for folder in folders},
    }


def everything_in(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run that nothing happened to leaves."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert train(run) == 0
    return left_by(run)


@pytest.mark.parametrize("n_steps", [1, 2, 5, 7])
def test_a_run_that_died_ends_as_if_it_had_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, Any], n_steps: int
) -> None:
    run = tmp_path / "run"
    die_after(monkeypatch, run, n_steps)
    assert train(run) == 0
    assert left_by(run) == whole


def test_results_of_an_attempt_that_did_not_last_are_not_the_run_s(
    tmp_path: Path, whole: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """An earlier process may have come further than its newest checkpoint, with other options even."""
    results = tmp_path / "run" / "eval_results"
    results.mkdir(parents=True)
    for name in ("step_900.json", "references.json", "samples.json"):
        (results / name).write_text('{"step": 900, "rows": [], "samples": []}')
    mine = results / "step_2_in-context.json"  # as `xenoglot evaluate --output` leaves where it is told to
    mine.write_text('{"step": 2, "rows": []}')
    assert train(tmp_path / "run") == 0
    assert mine.exists()
    mine.unlink()
    assert left_by(tmp_path / "run") == whole
    assert "900" not in capsys.readouterr().out


def test_a_damaged_checkpoint_costs_steps_and_nothing_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    die_after(monkeypatch, run, 7)
    flip(run / "checkpoints" / "step_6" / "state" / "training_state.safetensors")
    (run / "checkpoints" / "step_4" / "config.json").unlink()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')
    capsys.readouterr()
    assert train(run) == 0
    told = capsys.readouterr().err
    assert "step_6: the checkpoint is damaged: state/training_state.safetensors is changed" in told
    assert "step_4: the checkpoint is damaged: config.json is missing" in told
    assert "from step 2 on" in told
    assert left_by(run) == whole
    assert (run / "checkpoints" / "step_6.corrupt-1" / "manifest.json").exists()


@pytest.mark.parametrize("loss", ["damaged", "removed"])
def test_a_run_whose_checkpoints_are_lost_is_not_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], loss: str
) -> None:
    run = tmp_path / "run"
    die_after(monkeypatch, run, 5)
    if loss == "removed":
        shutil.rmtree(run / "checkpoints")
    else:
        for folder in (run / "checkpoints").iterdir():
            flip(folder / "model.safetensors")
    metrics = (run / "metrics.jsonl").read_bytes()
    for _ in range(2):
        capsys.readouterr()
        assert train(run) == MISUSE
        assert "got no whole checkpoint, though the run saved some" in capsys.readouterr().err.splitlines()[-1]
    assert (run / "metrics.jsonl").read_bytes() == metrics


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"training__seed": 1}, "training.seed: was 0, is 1"),
        ({"data__dataloader__batch_size": 8}, "batch_size"),
        ({"model__d_model": 32}, "model.d_model: was 16, is 32"),
        ({"training__optimization__beta2": 0.9}, "training.optimization.beta2: was 0.95, is 0.9"),
        ({"languages__error_rate": 0.2}, "error_rate: was 0.05, is 0.2"),
    ],
)
def test_a_run_is_not_gone_on_with_as_another(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, Any],
    path: str,
) -> None:
    run = tmp_path / "run"
    die_after(monkeypatch, run, 3)
    before = everything_in(run)
    capsys.readouterr()
    assert train(run, **options) == MISUSE
    [told] = capsys.readouterr().err.splitlines()
    assert path in told
    assert "was begun with" in told
    assert everything_in(run) == before


def test_a_changed_text_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, book = tmp_path / "run", tmp_path / "book.txt"
    book.write_text("It was the best of times, it was the worst of times. " * 40)
    die_after(monkeypatch, run, 3, data__text=book)
    book.write_text("It was the best of times, it was the worst of times! " * 40)
    capsys.readouterr()
    assert train(run, data__text=book) == MISUSE
    assert "data." in capsys.readouterr().err.splitlines()[-1]


def test_a_second_writer_is_refused_and_disturbs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The second one comes in the middle of a step of the first; that it is no other process makes no difference."""
    run = tmp_path / "run"
    update, seen = Learner.update, []

    def disturbed(self: Learner, step: int, *arguments: Any, **keywords: Any) -> Any:
        if step == 5:
            capsys.readouterr()
            seen.append((train(run), capsys.readouterr().err))
        return update(self, step, *arguments, **keywords)

    monkeypatch.setattr(Learner, "update", disturbed)
    assert train(run, checkpointing__save_in_background="false") == 0
    [(exit_code, told)] = seen
    assert exit_code == MISUSE
    assert f"another process is writing to this run: process {os.getpid()} on " in told
    assert told.count("\n") == 1
    assert left_by(run) == whole


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that is soon full."""
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_run_on_a_disk_that_is_full_says_so_and_goes_on_when_there_is_room(
    small_disk: Path, whole: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = small_disk / "run"
    filling = small_disk / "filling"
    filling.write_bytes(bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize - 140_000))
    assert train(run) == MISUSE
    told = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device" in told
    steps = [path.name for path in (run / "checkpoints").iterdir()]
    assert "step_2" in steps
    assert "step_8" not in steps
    assert [verify_checkpoint(run / "checkpoints" / name) for name in steps] == [[]] * len(steps)
    filling.unlink()
    assert train(run) == 0
    assert left_by(run) == whole
