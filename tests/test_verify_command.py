"""`xenoglot verify` says of everything that a run left whether it is whole."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from xenoglot import cli
from xenoglot.checkpoint import Checkpoints, TrainingState
from xenoglot.config import CheckpointingConfig, ModelConfig, default_config
from xenoglot.config.files import write_config
from xenoglot.decoder import Decoder

CONFIG = ModelConfig(d_model=16, n_layers=1, activation_hidden_dim=16, max_seq_len=8, vocab_size=7)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "eval_results").mkdir(parents=True)
    write_config(folder / "config.yaml", default_config())
    (folder / "environment.json").write_text("{}\n")
    (folder / "metrics.jsonl").write_text("".join(f'{{"step": {step}, "loss_nats": 1.5}}\n' for step in (5, 10, 15)))
    for step in (0, 10):
        (folder / "eval_results" / f"step_{step}.json").write_text(json.dumps({"step": step, "rows": []}))
    (folder / "eval_results" / "references.json").write_text('{"rows": []}')
    state = TrainingState(tensors={"moment": torch.ones(3)}, facts={})
    with Checkpoints(folder, CheckpointingConfig()) as checkpoints:
        for step in (5, 10):
            checkpoints.save(step, config=CONFIG, weights=Decoder(CONFIG).state_dict(), state=state)
    return folder


def told(capsys: pytest.CaptureFixture[str], *folders: Path) -> tuple[int, list[str], str]:
    """Return the exit code, the lines about things, and the last line."""
    exit_code = cli.main(["verify", *map(str, folders)])
    *lines, last = capsys.readouterr().out.splitlines()
    return exit_code, lines, last


def test_a_whole_run_is_told_line_by_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    exit_code, lines, last = told(capsys, run)
    assert exit_code == 0
    assert [re.fullmatch(r"ok     (\S+): .*", line)[1] for line in lines] == [
        str(run / name)
        for name in (
            *("config.yaml", "environment.json", "metrics.jsonl", "eval_results/step_0.json"),
            *("eval_results/step_10.json", "eval_results/references.json", "checkpoints/step_5", "checkpoints/step_10"),
        )
    ]
    n_bytes = sum(len(content) for path, content in before.items() if path.name != ".saved")
    assert last.startswith(f"all 8 are whole: {n_bytes / 1e3:.1f} kB in 0.")
    assert last.endswith(" MB/s")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_one_checkpoint_by_itself(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exit_code, lines, last = told(capsys, run / "checkpoints" / "step_5", run / "checkpoints" / "step_10")
    assert exit_code == 0
    assert len(lines) == 2
    assert last.startswith("all 2 are whole")


@pytest.mark.parametrize(
    ("path", "content", "complaint"),
    [
        ("config.yaml", b"training: {max_step: 3}\n", "it is no configuration of a run: .*max_steps"),
        ("config.yaml", b"\xff", "it is no configuration of a run"),
        ("environment.json", b'{"python": ', "torn or changed"),
        ("environment.json", b"[]", "torn or changed"),
        ("metrics.jsonl", b'{"step": 5}\n{"step"\n{"step": 15}\n', "line 2 is torn or changed"),
        ("metrics.jsonl", b'{"step": 5}\n{"step": 5}\n', "line 2 is of step 5, after one of step 5"),
        ("metrics.jsonl", b'{"step": 10}\n{"step": 5}\n', "line 2 is of step 5, after one of step 10"),
        ("metrics.jsonl", b'{"loss_nats": 10}\n', "line 1 is torn or changed"),
        ("eval_results/step_10.json", b'{"step": 9}', "it says that it is of step 9"),
        ("eval_results/references.json", b"", "torn or changed"),
        ("checkpoints/step_5/config.json", b"{}", "step_5: config.json has 2 bytes instead of"),
        ("checkpoints/step_10/manifest.json", b"{}", "step_10: manifest.json is torn or changed"),
        ("checkpoints/step_10/added", b"", "step_10: added was added after"),
    ],
)
def test_what_is_not_whole_is_told_and_the_rest_too(
    run: Path, capsys: pytest.CaptureFixture[str], path: str, content: bytes, complaint: str
) -> None:
    (run / path).write_bytes(content)
    exit_code, lines, last = told(capsys, run)
    assert exit_code == 1
    [fault] = [line for line in lines if not line.startswith("ok     ")]
    assert fault.startswith("FAULT  ")
    assert re.search(complaint, fault)
    assert last.startswith("1 of 8 are not whole")


@pytest.mark.parametrize("path", ["config.yaml", "environment.json", "metrics.jsonl"])
def test_a_missing_file_is_told(run: Path, capsys: pytest.CaptureFixture[str], path: str) -> None:
    (run / path).unlink()
    exit_code, lines, _ = told(capsys, run)
    assert exit_code == 1
    assert f"FAULT  {run / path}: it cannot be read: No such file or directory" in lines


def test_what_a_resumed_run_heals_by_itself_is_no_fault(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, "lo')
    (run / "checkpoints" / ".step_15.0123abcd.partial").mkdir()
    (run / "checkpoints" / "step_10").rename(run / "checkpoints" / "step_10.corrupt-1")
    exit_code, lines, _ = told(capsys, run)
    assert exit_code == 0
    assert any("metrics.jsonl: 3 lines; the last line is torn" in line for line in lines)
    assert any("step_10.corrupt-1: set aside as damaged; nothing reads it" in line for line in lines)


def test_a_run_that_lost_all_checkpoints_is_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in (5, 10):
        (run / "checkpoints" / f"step_{step}").rename(run / f"moved_{step}")
    exit_code, lines, _ = told(capsys, run)
    assert exit_code == 1
    assert "checkpoints: no checkpoint is left, though the run saved some" in lines[-1]


def test_code_that_a_run_names_is_not_run(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """To verify what was downloaded must not execute what came with it."""
    (tmp_path / "payload.py").write_text("raise SystemExit('it ran')\n")
    monkeypatch.chdir(tmp_path)
    (run / "config.yaml").write_text("languages: {family: 'payload:Mine'}\n")
    exit_code, lines, _ = told(capsys, run)
    assert exit_code == 0
    assert "not read to the end: that would run the code of payload:Mine" in lines[0]


def test_what_is_no_run_is_misuse(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, got in ((tmp_path, "a folder without config.yaml"), (tmp_path / "step_3", "no folder")):
        assert cli.main(["verify", str(folder)]) == 2
        assert f"{folder}: got {got}" in capsys.readouterr().err


def test_it_answers_without_torch(run: Path) -> None:
    script = (
        "import sys; from xenoglot.cli import main; code = main(sys.argv[1:]);"
        "print([name for name in ('torch', 'matplotlib') if name in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "verify", str(run)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
