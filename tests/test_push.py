"""Checkpoints reach the Hub whatever it does, and nothing that it does reaches the run.

The real client talks to a stand-in, in the process of its own that talks to the Hub.
"""

from __future__ import annotations

import dataclasses
import errno
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from hub_stand_in import HANG, TOKEN, Hub, failing, hub_in_reach

from xenoglot.checkpoint import Checkpoints, TrainingState
from xenoglot.config import CheckpointingConfig, HFCheckpointConfig, ModelConfig
from xenoglot.decoder import Decoder
from xenoglot.errors import MissingExtraError
from xenoglot.hub import (
    Attempts,
    Failure,
    Outbox,
    Patience,
    Pushed,
    Pusher,
    held_steps,
    push_all,
    require_hub,
    uploading,
)
from xenoglot.hub.outbox import LEDGER, UNTRIED
from xenoglot.rng import generator
from xenoglot.storage.manifest import inspect_folder

CONFIG = ModelConfig(
    d_model=16, n_layers=1, attention_n_kv_heads=1, activation_hidden_dim=16, max_seq_len=8, vocab_size=7
)
REPOSITORY = "me/model"
WHERE = HFCheckpointConfig(repo_id=REPOSITORY, wait_seconds=60.0)
AT_ONCE = Patience(first_wait_seconds=0.02, longest_wait_seconds=0.1)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with hub_in_reach(monkeypatch, tmp_path) as hub:
        yield hub


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def save(checkpoints: Checkpoints, step: int) -> None:
    import torch

    weights = Decoder(CONFIG, torch.Generator().manual_seed(step)).state_dict()
    state = TrainingState(tensors={"moment": torch.full((500,), float(step))}, facts={"step": step})
    files = {"tokenizer.json": b"{}", "more/facts.json": b"%d" % step} if step == 2 else {}
    checkpoints.save(step, config=CONFIG, weights=weights, state=state, files=files)


def train(run: Path, *steps: int, where: HFCheckpointConfig = WHERE, patience: Patience = AT_ONCE) -> Pusher:
    """Save checkpoints as a run does, of which the last two are kept."""
    pusher = Pusher(run, where, patience)
    with pusher, Checkpoints(run, CheckpointingConfig(keep_last=2), on_saved=pusher.take) as checkpoints:
        pusher.begin()
        for step in steps:
            save(checkpoints, step)
        checkpoints.wait()
    return pusher


def saved_files(tmp_path: Path, step: int) -> dict[str, bytes]:
    """Return what a checkpoint has, but for the state, when nothing is pushed."""
    alone = tmp_path / f"alone-{step}"
    with Checkpoints(alone, CheckpointingConfig(save_in_background=False)) as checkpoints:
        save(checkpoints, step)
    return files_in(alone / "checkpoints" / f"step_{step}", without=("state/", "manifest.json"))


def files_in(folder: Path, without: tuple[str, ...] = ()) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    return {name: content for name, content in found.items() if not name.startswith(without)}


def ledger(run: Path) -> dict[str, dict[str, dict[str, object]]]:
    return json.loads((run / LEDGER).read_bytes())


def push_the_rest(run: Path, patience: Patience = AT_ONCE) -> bool:
    outbox = Outbox(run, REPOSITORY)
    outbox.hold_the_rest()
    return push_all(outbox, WHERE, Attempts(), patience, lambda held, result, seconds: None)


def on_the_hub(hub: Hub, step: int) -> dict[str, bytes]:
    files = dict(hub.files(REPOSITORY, f"step-{step}"))
    del files[".gitattributes"], files["manifest.json"]
    return files


def test_each_checkpoint_becomes_a_branch_and_the_newest_is_main(
    hub: Hub, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(run, 2, 4, 6)
    assert {step: on_the_hub(hub, step) for step in (2, 4, 6)} == {
        step: saved_files(tmp_path, step) for step in (2, 4, 6)
    }
    assert hub.repositories[REPOSITORY].private
    main = dict(hub.files(REPOSITORY, "main"))
    assert main["model.safetensors"] == on_the_hub(hub, 6)["model.safetensors"]
    assert not [name for name in main if "/" in name or name == "manifest.json"]
    assert held_steps(run) == []
    assert not (run / "unpushed").exists()
    assert list(ledger(run)["pushed"]) == ["2", "4", "6"]
    assert ledger(run)["unpushed"] == {}
    assert "warning" not in capsys.readouterr().err


def test_what_is_downloaded_proves_itself(hub: Hub, run: Path, tmp_path: Path) -> None:
    train(run, 2)
    there = tmp_path / "downloaded"
    for name, content in hub.files(REPOSITORY, "step-2").items():
        if name != ".gitattributes":
            (there / name).parent.mkdir(parents=True, exist_ok=True)
            (there / name).write_bytes(content)
    found = inspect_folder(there)
    assert (found.faults, found.facts["step"]) == ([], 2)


def test_the_state_goes_along_if_asked_and_main_is_left_alone_if_asked(hub: Hub, run: Path) -> None:
    train(run, 2, where=dataclasses.replace(WHERE, training_state=True, newest_on_main=False, private=False))
    sent = dict(hub.files(REPOSITORY, "step-2"))
    del sent[".gitattributes"]
    assert sent == files_in(run / "checkpoints" / "step_2")
    assert list(hub.files(REPOSITORY, "main")) == [".gitattributes"]
    assert not hub.repositories[REPOSITORY].private


@pytest.mark.parametrize("where", ["repos/create", "object", "commit/step-2", "commit/main"])
def test_a_server_that_fails_for_a_while_is_asked_again(hub: Hub, run: Path, tmp_path: Path, where: str) -> None:
    hub.fault = failing(500, times=1, where=where)
    train(run, 2)
    assert on_the_hub(hub, 2) == saved_files(tmp_path, 2)
    assert "model.safetensors" in hub.files(REPOSITORY, "main")
    assert held_steps(run) == []


def test_without_a_network_training_goes_on_and_what_it_saved_is_sent_later_bit_for_bit(
    hub: Hub, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens: the connection is refused
    train(run, 2, 4, 6, 8)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step_6", "step_8"]
    assert held_steps(run) == [2, 4, 6, 8]
    *_, listed = capsys.readouterr().err.splitlines()
    assert listed.startswith(f"warning: {REPOSITORY} on the Hub: steps 2, 4, 6, 8 not pushed (")
    assert listed.endswith(f"Held in {run / 'unpushed'}; to push them: xenoglot push {run}")
    entries = ledger(run)["unpushed"]
    assert list(entries) == ["2", "4", "6", "8"]
    assert "Connect" in str(entries["2"]["reason"])
    assert not push_the_rest(run)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    assert push_the_rest(run)
    assert {step: on_the_hub(hub, step) for step in (2, 8)} == {step: saved_files(tmp_path, step) for step in (2, 8)}
    assert [branch for branch, _ in hub.repositories[REPOSITORY].commits].count("main") == 1
    assert (held_steps(run), ledger(run)["unpushed"]) == ([], {})


def test_a_server_that_hangs_is_given_up_after_a_time(hub: Hub, run: Path) -> None:
    hub.fault = lambda method, path: HANG
    train(run, 2, patience=dataclasses.replace(AT_ONCE, attempt_seconds=0.6))
    entry = ledger(run)["unpushed"]["2"]
    assert entry["attempts"] == 3
    assert entry["reason"] == "no end after 1 s"


def test_a_server_that_hangs_holds_the_end_up_no_longer_than_asked(
    hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.fault = lambda method, path: HANG
    train(run, 2, where=dataclasses.replace(WHERE, wait_seconds=1.5))  # without this it would be five minutes
    assert "still pushing to me/model: waiting for it, at most 1.5 s" in capsys.readouterr().err
    assert ledger(run)["unpushed"]["2"] == {"attempts": 1, "reason": "it was stopped before it was done"}
    assert held_steps(run) == [2]


def test_after_an_error_nothing_is_waited_for(hub: Hub, run: Path) -> None:
    hub.fault = lambda method, path: HANG

    def fail() -> None:
        pusher = Pusher(run, dataclasses.replace(WHERE, wait_seconds=1e6))
        with pusher, Checkpoints(run, CheckpointingConfig(), on_saved=pusher.take) as checkpoints:
            pusher.begin()
            save(checkpoints, 2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert held_steps(run) == [2]


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_not_asked_for_twice_and_the_token_is_nowhere(
    hub: Hub, run: Path, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.fault = lambda method, path: status  # the answer holds the token, twice
    train(run, 2, 4)
    assert sum(path == "/api/repos/create" for _, path in hub.requests) == 1
    assert ledger(run)["unpushed"]["2"]["attempts"] == 1
    told = capfd.readouterr()
    assert f"HTTP {status}: " in told.err
    assert "***" in (run / LEDGER).read_text()
    everything = [
        told.out,
        told.err,
        *(path.read_bytes().decode("latin-1") for path in run.rglob("*") if path.is_file()),
    ]
    assert not [text for text in everything if TOKEN in text or TOKEN.removeprefix("hf_") in text]


def test_without_a_token_nothing_is_asked_and_all_is_held(
    hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    train(run, 2, 4)
    first, last = capsys.readouterr().err.splitlines()
    assert "there is no token" in first
    assert "steps 2, 4 not pushed (there is no token" in last
    assert (held_steps(run), hub.requests) == ([2, 4], [])


def test_a_run_that_is_killed_while_it_pushes_leaves_all_that_is_needed(hub: Hub, run: Path, tmp_path: Path) -> None:
    hub.fault = lambda method, path: HANG if "commit" in path else None
    program = f"""\
        import os, signal, sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_push as here
        from pathlib import Path
        pusher = here.Pusher(Path({str(run)!r}), here.WHERE)
        with pusher, here.Checkpoints(Path({str(run)!r}), here.CheckpointingConfig(), on_saved=pusher.take) as saving:
            pusher.begin()
            for step in (2, 4):
                here.save(saving, step)
            saving.wait()
            while pusher._attempts._process is None or not sys.stdin.read(1):
                pass
            print(pusher._attempts._process.pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """
    training = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    while not any("commit" in path for _, path in list(hub.requests)):
        assert training.poll() is None
    output, _ = training.communicate("x")
    assert training.returncode == -signal.SIGKILL
    wait_for_the_end_of(int(output))
    assert held_steps(run) == [2, 4]
    hub.fault = lambda method, path: None
    train(run, 6)
    assert {step: on_the_hub(hub, step) for step in (2, 4, 6)} == {
        step: saved_files(tmp_path, step) for step in (2, 4, 6)
    }


def wait_for_the_end_of(process: int) -> None:
    """Wait until a process of somebody else's is gone; one that stays runs into the test's time limit."""
    while True:
        try:
            os.kill(process, 0)
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return
        if state == "Z":
            return


def test_a_kill_between_saving_and_holding_forgets_nothing(hub: Hub, run: Path) -> None:
    with Checkpoints(run, CheckpointingConfig()) as checkpoints:
        save(checkpoints, 2)  # and here the process died
    train(run, 4)
    assert list(ledger(run)["pushed"]) == ["2", "4"]


def test_what_is_held_and_damaged_is_sent_to_nobody(
    hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    train(run, 2, 4, 6)  # step 2 is no longer a checkpoint
    weights = run / "unpushed" / "step_2" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    capsys.readouterr()
    train(run, 8)
    assert "model.safetensors is changed" in capsys.readouterr().err
    assert list(ledger(run)["pushed"]) == ["4", "6", "8"]
    assert (run / "unpushed" / "step_2.corrupt-1" / "model.safetensors").read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"repo_id": "me/model", "pushed": {"x": 1}}', b"\xff"])
def test_a_torn_list_means_that_all_is_held_again(run: Path, content: bytes) -> None:
    with Checkpoints(run, CheckpointingConfig()) as checkpoints:
        save(checkpoints, 2)
    (run / LEDGER).write_bytes(content)
    assert Outbox(run, REPOSITORY).hold_the_rest() == [2]
    assert ledger(run) == {"repo_id": REPOSITORY, "pushed": {}, "unpushed": {"2": dict(UNTRIED)}}


def test_another_repository_has_nothing_yet(hub: Hub, run: Path) -> None:
    train(run, 2)
    train(run, 4, where=dataclasses.replace(WHERE, repo_id="me/other"))
    assert {"step-2", "step-4"} <= hub.repositories["me/other"].branches.keys()
    assert "step-4" not in hub.repositories[REPOSITORY].branches


def test_a_full_disk_here_costs_neither_the_run_nor_the_checkpoint(
    hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*paths: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as while_full:
        while_full.setattr(os, "link", full)
        while_full.setattr(shutil, "copyfile", full)
        train(run, 2)
    assert "step 2 is not held (OutputError: " in capsys.readouterr().err
    assert (held_steps(run), list((run / "unpushed").iterdir())) == ([], [])
    train(run, 4)
    assert list(ledger(run)["pushed"]) == ["2", "4"]


def test_files_are_copied_where_they_cannot_have_two_names(
    hub: Hub, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impossible(*paths: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", impossible)
    train(run, 2)
    assert on_the_hub(hub, 2) == saved_files(tmp_path, 2)


def test_a_missing_client_is_told_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    require_hub(CheckpointingConfig())
    with pytest.raises(MissingExtraError, match=r"needs huggingface_hub. .*xenoglot\[hub\]"):
        require_hub(CheckpointingConfig(save_to_hf=True, hf_checkpoint=WHERE))


class Rolled(Attempts):
    """Attempts that end as dice have it."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.rng = generator(seed, "dice")
        self.sent: list[int] = []

    def make(self, request: dict[str, object], *, limit_seconds: float) -> Pushed | Failure:
        if self.rng.random() < 0.5:
            return Failure(reason="the dice", is_final=bool(self.rng.random() < 0.3))
        self.sent.append(int(str(request["revision"]).removeprefix("step-")))
        return Pushed(commit="abc")


@pytest.mark.parametrize("seed", range(8))
def test_whatever_fails_when_every_checkpoint_is_pushed_once_or_still_held(run: Path, seed: int) -> None:
    attempts, saved = Rolled(seed), list[int]()
    patience = Patience(first_wait_seconds=0.0, n_attempts=2)
    for step in range(2, 12, 2):
        with Checkpoints(run, CheckpointingConfig(keep_last=1)) as checkpoints:
            outbox = Outbox(run, REPOSITORY)  # as another process would begin
            outbox.hold_the_rest()
            save(checkpoints, step)
        saved.append(step)
        if attempts.rng.random() < 0.8:
            outbox.hold(step)
        push_all(outbox, WHERE, attempts, patience, lambda held, result, seconds: None)
        outbox = Outbox(run, REPOSITORY)
        outbox.hold_the_rest()
        assert sorted([*attempts.sent, *held_steps(run)]) == saved
        assert outbox.pushed_steps() == sorted(attempts.sent)
    assert Path(run / "checkpoints").is_dir()


@pytest.mark.parametrize(
    "around", ["{}", "https://me:{}@hub/x", "Authorization: Bearer {}", '{{"token": "{}"}}', "a{}b"]
)
def test_no_word_of_an_answer_is_the_token(monkeypatch: pytest.MonkeyPatch, around: str) -> None:
    monkeypatch.setenv("HF_TOKEN", "unlike_any_other")
    told = uploading.describe(ValueError(around.format("unlike_any_other") + "\n" + around.format("hf_" + "x" * 34)))
    assert "unlike_any_other" not in told
    assert "xxxx" not in told
    assert "\n" not in told
