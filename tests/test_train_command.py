"""`xenoglot train` from the command line to the picture, on tiny sizes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from xenoglot import cli
from xenoglot.decoder import Decoder

TINY = [
    *("--model.d_model", "16", "--model.n_layers", "1", "--model.activation_hidden_dim", "16"),
    *("--model.max_seq_len", "16", "--data.dataloader.batch_size", "2", "--training.max_steps", "4"),
    *("--training.optimization.lr_warmup_steps", "1", "--evaluation.n_languages", "4"),
]


def train(tmp_path, *words: str, name: str = "a") -> int:
    where = ["--checkpointing.runs_dir", str(tmp_path / "runs"), "--checkpointing.run_name", name]
    return cli.main(["train", *TINY, *where, *words])


def test_a_run_on_languages_leaves_everything_it_says(tmp_path, capsys):
    assert train(tmp_path, "--languages.n_elements", "3", "--training.max-steps=5") == 0
    folder = tmp_path / "runs" / "a"
    visible = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    assert visible == [
        "checkpoints",
        "config.yaml",
        "environment.json",
        "eval_results",
        "in_context.png",
        "metrics.jsonl",
        "report.html",
    ]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["languages"]["family"] == "metalm-v1"
    assert config["languages"]["n_elements"] == 3
    assert (config["training"]["max_steps"], config["model"]["vocab_size"]) == (5, 18)
    assert json.loads((folder / "environment.json").read_text())["packages"]["torch"]
    assert Decoder.from_pretrained(folder / "checkpoints" / "step_5").config.vocab_size == 18
    printed = capsys.readouterr().out
    assert "trained for 5 of 5 steps" in printed
    assert "fresh languages, last quarter of the context: loss" in printed
    assert "best possible" in printed
    assert printed.rstrip().endswith(f"report: {folder / 'report.html'}")


def test_a_run_on_text_measures_the_held_out_tenth(tmp_path, capsys):
    path = tmp_path / "book.txt"
    path.write_bytes(bytes(np.random.default_rng(0).integers(97, 101, 640, dtype=np.uint8)))
    assert train(tmp_path, "--text", str(path), "--training.max_steps", "60", "--training.optimization.lr", "0.02") == 0
    rows = json.loads((tmp_path / "runs" / "a" / "eval_results" / "step_60.json").read_text())["rows"]
    whole = next(row["metrics"] for row in rows if row["slices"] == {"part": "whole"})
    assert whole["loss_nats"] < 3.0  # guessing costs ln 256 = 5.5
    assert f"held-out text: {whole['loss_nats']:.3f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--text", "absent.txt"], "absent.txt"),
        (["--training.max_step", "3"], "Did you mean '--training.max_steps'"),
        (["--training.max_steps", "some"], "training.max_steps: got 'some'"),
        (["--languages.family", "markof"], "Did you mean 'markov'"),
        (["--languages.order", "3"], "unknown option '--languages.order'"),
        (["--text", "book.txt", "--languages.family", "v1"], "one thing to learn"),
        (["--model.d_model", "17"], "d_model: got 17"),
        (["--model.vocab_size", "9"], "model.vocab_size: got 9; allowed: at least the 18 ids"),
        (["--checkpointing.run_name", "../up"], "run_name"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_and_leaves_nothing(tmp_path, capsys, words, complaint):
    assert train(tmp_path, *words) == 2
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert not (tmp_path / "runs").exists()


def files_of(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "environment.json" and not path.name.startswith(".")
    }


def test_an_earlier_run_is_never_overwritten(tmp_path, capsys):
    assert train(tmp_path) == 0
    before = files_of(tmp_path / "runs")
    assert train(tmp_path, "--checkpointing.auto_resume", "false") == 2
    assert "there is a run already" in capsys.readouterr().err
    assert train(tmp_path, "--model.d_model", "32", "--training.seed", "3") == 2
    complaint = capsys.readouterr().err
    assert "model.d_model: was 16, is 32; training.seed: was 0, is 3" in complaint
    assert files_of(tmp_path / "runs") == before


def test_a_finished_run_is_finished(tmp_path, capsys):
    assert train(tmp_path) == 0
    first, before = capsys.readouterr().out, files_of(tmp_path / "runs")
    assert train(tmp_path) == 0
    assert capsys.readouterr().out == first
    assert files_of(tmp_path / "runs") == before


def test_rows_that_cannot_be_shared_equally_are_refused(tmp_path, capsys):
    assert train(tmp_path, "--training.optimization.gradient_accumulation_steps", "3") == 2
    assert "batch_size: got 2; allowed: a multiple of 3" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def last_line(folder):
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_take_one_process_s_steps_and_go_on_from_them(tmp_path, strategy):
    """Runs of one and of two processes are saved by one and resumed on two, and the other way round."""
    words = ["--data.dataloader.batch_size", "4", "--checkpointing.save_every_n_steps", "2"]
    words += ["--evaluation.reference_predictors", "false"]
    assert train(tmp_path, *words, name="one") == 0
    one = last_line(tmp_path / "runs" / "one")
    two = ["--training.fabric.num_devices", "2", "--training.fabric.strategy", strategy]
    shutil.copytree(tmp_path / "runs" / "one", tmp_path / "runs" / "one-then-two")
    shutil.rmtree(tmp_path / "runs" / "one-then-two" / "checkpoints" / "step_4")
    for name in ("two", "one-then-two"):
        where = ["--checkpointing.runs_dir", str(tmp_path / "runs"), "--checkpointing.run_name", name]
        command = [sys.executable, "-m", "xenoglot", "train", *TINY, *where, *words, *two]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
    shutil.rmtree(tmp_path / "runs" / "two" / "checkpoints" / "step_4")
    again = last_line(tmp_path / "runs" / "two")
    assert train(tmp_path, *words, name="two") == 0
    for line in (last_line(tmp_path / "runs" / "two"), last_line(tmp_path / "runs" / "one-then-two"), again):
        for metric in ("step", "loss_nats", "gradient_norm", "lr"):
            assert line[metric] == pytest.approx(one[metric], abs=1e-5)


def test_help_lists_the_options_of_the_family_that_is_named(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--languages.family", "v1", "--help"])
    printed = capsys.readouterr().out
    assert "--languages.error_rate" in printed
    assert "--training.optimization.lr " in printed


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_with_a_checkpoint_and_its_number(tmp_path, number, exit_code):
    words = ["train", *TINY, "--training.max_steps", "1000000", "--checkpointing.run_name", "a"]
    words += ["--evaluation.eval_every_n_steps", "1000000", "--checkpointing.save_every_n_steps", "1000000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "xenoglot", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = tmp_path / "runs" / "a" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (metrics.exists() and metrics.read_text()):
        time.sleep(0.1)
    process.send_signal(number)
    printed, complaints = process.communicate(timeout=60)
    assert process.returncode == exit_code, complaints
    assert re.search(r"interrupted after [\d,]+ of 1,000,000 steps, which are saved", printed)
    assert len(list((tmp_path / "runs" / "a" / "checkpoints").iterdir())) == 1
    assert complaints.count("\n") == 1  # where the run is; no progress line, for stderr is no terminal


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the peer as Linux shows it")
def test_a_process_whose_peer_is_gone_says_so_in_one_line(tmp_path):
    words = ["train", *TINY, "--training.max_steps", "1000000", "--checkpointing.run_name", "a"]
    words += ["--evaluation.eval_every_n_steps", "1000000", "--training.fabric.num_devices", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "xenoglot", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    metrics = tmp_path / "runs" / "a" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (metrics.exists() and metrics.read_text()):
        time.sleep(0.1)
    [peer] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(peer), signal.SIGKILL)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "another process of the run is gone" in complaints.splitlines()[-1]
    assert len(complaints.splitlines()) == 2
