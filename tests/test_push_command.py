"""`xenoglot train` pushes in the background, `xenoglot push` sends the rest, and `xenoglot verify` knows of both."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from configurations import TINY_FLAGS
from hub_stand_in import HANG, TOKEN, Hub, hub_in_reach

from xenoglot import cli
from xenoglot.checkpoint import Checkpoints, TrainingState
from xenoglot.config import CheckpointingConfig, ModelConfig, default_config, with_overrides
from xenoglot.config.files import write_config
from xenoglot.decoder import Decoder
from xenoglot.errors import OptionError
from xenoglot.hub import held_steps
from xenoglot.hub.outbox import LEDGER
from xenoglot.run_lock import RunLock

CONFIG = ModelConfig(d_model=16, n_layers=1, activation_hidden_dim=16, max_seq_len=8, vocab_size=7)
TO_THE_HUB = {"checkpointing.save_to_hf": True, "checkpointing.hf_checkpoint.repo_id": "me/model"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with hub_in_reach(monkeypatch, tmp_path) as hub:
        yield hub


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two checkpoints, of which nothing was pushed."""
    folder = tmp_path / "run"
    folder.mkdir()
    write_config(folder / "config.yaml", with_overrides(default_config(), TO_THE_HUB))
    (folder / "environment.json").write_text("{}\n")
    (folder / "metrics.jsonl").write_text('{"step": 5, "loss_nats": 1.5}\n')
    state = TrainingState(tensors={"moment": torch.ones(3)}, facts={})
    with Checkpoints(folder, CheckpointingConfig()) as checkpoints:
        for step in (5, 10):
            checkpoints.save(step, config=CONFIG, weights=Decoder(CONFIG).state_dict(), state=state)
    return folder


def test_push_sends_what_is_not_there_yet_and_says_so(hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["push", str(run)]) == 0
    first, second, last = capsys.readouterr().out.splitlines()
    for line, step in ((first, 5), (second, 10)):
        assert re.fullmatch(rf"pushed  step {step}: 0\.\d MB in \d+\.\d s, commit [0-9a-f]{{8}}", line)
    assert last == "2 pushed to me/model, 0 left"
    assert {"main", "step-5", "step-10"} == hub.repositories["me/model"].branches.keys()
    n_requests = len(hub.requests)
    assert cli.main(["push", str(run)]) == 0
    assert capsys.readouterr().out == "me/model has everything already\n"
    assert len(hub.requests) == n_requests


def test_push_to_another_repository(hub: Hub, run: Path) -> None:
    assert cli.main(["push", str(run), "--repo_id", "a-team/x.y"]) == 0
    assert list(hub.repositories) == ["a-team/x.y"]


def test_push_says_what_is_left_and_why(hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub.fault = lambda method, path: 403 if path.endswith("commit/step-10") else None
    assert cli.main(["push", str(run)]) == 1
    told = capsys.readouterr()
    _, failed, last = told.out.splitlines()
    assert failed.startswith("FAILED  step 10: HTTP 403: ")
    assert TOKEN not in told.out + told.err
    assert last == "1 pushed to me/model, 1 left"
    assert told.err == "not pushed: step 10; try again later\n"


def test_push_refuses_what_it_cannot_do(
    hub: Hub, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def complaint(*words: str) -> str:
        assert cli.main(["push", *words]) == 2
        return capsys.readouterr().err

    assert "got no folder with a config.yaml; allowed: a run's folder" in complaint(str(tmp_path))
    assert "repo_id: got 'model'; allowed: NAMESPACE/NAME" in complaint(str(run), "--repo_id", "model")
    with RunLock(run):
        assert "another process is writing to this run" in complaint(str(run))
    (run / "config.yaml").write_text("checkpointing: 3\n")
    assert "checkpointing: got 3; allowed: " in complaint(str(run))
    (run / "config.yaml").write_text("languages: {family: 'no_module:Mine'}\n")  # which is not imported
    assert "repo_id: got None; allowed: a repository on the Hub" in complaint(str(run))
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert "HF_TOKEN: got None; allowed: a token that may write there" in complaint(str(run), "--repo_id", "me/model")
    assert hub.requests == []
    assert not (run / LEDGER).exists()


def test_the_token_may_come_from_a_file(hub: Hub, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / ".env").write_text(f"HF_TOKEN={TOKEN}\n")
    assert cli.main(["push", str(run)]) == 0


def test_verify_reads_what_is_held_and_knows_what_the_hub_adds(
    hub: Hub, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.fault = lambda method, path: 403 if path.endswith("commit/step-10") else None
    cli.main(["push", str(run)])
    capsys.readouterr()
    assert cli.main(["verify", str(run)]) == 0
    told = capsys.readouterr().out
    assert re.search(rf"ok     {run / LEDGER}: ", told)
    assert re.search(rf"ok     {run / 'unpushed' / 'step_10'}: \d+ files, not pushed yet", told)
    downloaded = tmp_path / "downloaded"
    downloaded.mkdir()
    for name, content in hub.files("me/model", "step-5").items():
        (downloaded / name).write_bytes(content)
    assert cli.main(["verify", str(downloaded)]) == 0
    weights = run / "unpushed" / "step_10" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    weights.unlink()  # which is a second name of the checkpoint's file
    content[-1] ^= 1
    weights.write_bytes(content)
    (run / LEDGER).write_text("{")
    assert cli.main(["verify", str(run)]) == 1
    told = capsys.readouterr().out
    assert re.search(rf"FAULT  {run / 'unpushed' / 'step_10'}: model.safetensors is changed", told)
    assert re.search(rf"FAULT  {run / LEDGER}: it is torn or changed", told)


def test_a_run_ends_the_same_whether_it_is_pushed_or_not(
    hub: Hub, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["train", *TINY_FLAGS, "--checkpointing.save_every_n_steps", "2", "--checkpointing.keep_last", "1"]
    words += ["--monitoring.logging.log_every_n_steps", "1"]
    asked = ["--checkpointing.save_to_hf", "--checkpointing.hf_checkpoint.repo_id", "me/model"]
    assert cli.main([*words, "--checkpointing.run_name", "alone"]) == 0
    hub.fault = lambda method, path: 503
    asked += ["--checkpointing.hf_checkpoint.wait_seconds", "0.5"]
    assert cli.main([*words, *asked, "--checkpointing.run_name", "pushed"]) == 0
    alone, pushed = tmp_path / "runs" / "alone", tmp_path / "runs" / "pushed"
    assert losses(alone) == losses(pushed)
    saved = Path("checkpoints", "step_4", "model.safetensors")
    assert (alone / saved).read_bytes() == (pushed / saved).read_bytes()
    assert held_steps(pushed) == [2, 4]
    hub.fault = lambda method, path: None
    assert cli.main(["push", str(pushed)]) == 0
    assert hub.files("me/model", "main")["model.safetensors"] == (pushed / saved).read_bytes()
    told = capfd.readouterr()
    assert f"to push them: xenoglot push {os.path.relpath(pushed)}" in told.err
    everything = [
        told.out,
        told.err,
        *(path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()),
    ]
    assert not [text for text in everything if TOKEN in text]


def test_ctrl_c_while_the_end_waits_ends_it_at_once(hub: Hub, tmp_path: Path) -> None:
    hub.fault = lambda method, path: HANG
    words = ["train", *TINY_FLAGS, "--evaluation.reference_predictors", "false", "--checkpointing.run_name", "run"]
    words += ["--checkpointing.save_to_hf"]
    words += ["--checkpointing.hf_checkpoint.repo_id", "me/model", "--checkpointing.hf_checkpoint.wait_seconds", "1e6"]
    with subprocess.Popen([sys.executable, "-m", "xenoglot", *words], stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if "waiting for it, at most 1e+06 s" in line:
                break
        run.send_signal(signal.SIGINT)
        told = run.stderr.read()
    assert run.returncode == 128 + signal.SIGINT
    assert "step 4 not pushed (it was stopped before it was done)" in told
    assert held_steps(tmp_path / "runs" / "run") == [4]
    assert cli.main(["verify", "runs/run"]) == 0


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss_nats"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["model", "a/b/c", "me/", "/model", "me/mo del", "me/é", "-", "x/" + "y" * 95])
def test_a_name_that_is_no_repository_s_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match=r"checkpointing.hf_checkpoint.repo_id: got .*NAMESPACE/NAME"):
        with_overrides(default_config(), {"checkpointing.hf_checkpoint.repo_id": name})


def test_pushing_without_a_repository_is_refused() -> None:
    with pytest.raises(
        OptionError, match=r"checkpointing.save_to_hf: got True; .*hf_checkpoint.repo_id NAMESPACE/NAME"
    ):
        with_overrides(default_config(), {"checkpointing.save_to_hf": True})
