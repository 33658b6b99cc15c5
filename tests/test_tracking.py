"""What a run writes about itself, read back by what shares no code with it, such as each tracker's own reader."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot.config import MonitoringConfig, WandbConfig
from xenoglot.errors import MissingExtraError, OutputError
from xenoglot.tracking import MetricsLog, Trackers, environment, open_trackers, read_metrics, trackers

RUN = {"training": {"max_steps": 20, "optimization": {"lr": 0.01}}}


# --- metrics.jsonl ---------------------------------------------------------------------------------------------------


def written(path: Path, steps, *, after_step: int | None = None) -> list[dict]:
    with MetricsLog(path, after_step) as log:
        for step in steps:
            log.write(step, {"loss_nats": 1 / step, "mfu": None})
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_step_is_a_line(tmp_path):
    lines = written(tmp_path / "metrics.jsonl", [10, 20])
    assert lines == [{"step": 10, "loss_nats": 0.1, "mfu": None}, {"step": 20, "loss_nats": 0.05, "mfu": None}]


def test_lines_can_be_read_while_the_run_goes_on(tmp_path):
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        log.write(1, {"loss_nats": float("inf")})
        assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "loss_nats": null}\n'


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9), st.integers(0, 60))
def test_a_run_that_was_cut_off_anywhere_and_resumed_has_every_line_once(tmp_path_factory, kept_step, torn_bytes):
    folder = tmp_path_factory.mktemp("run")
    whole = written(folder / "whole.jsonl", range(1, 10))
    written(folder / "torn.jsonl", range(1, 10))
    content = (folder / "torn.jsonl").read_bytes()
    last_kept_byte = sum(len(line) for line in content.splitlines(keepends=True)[:kept_step])
    (folder / "torn.jsonl").write_bytes(content[: max(last_kept_byte, len(content) - torn_bytes)])
    assert written(folder / "torn.jsonl", range(kept_step + 1, 10), after_step=kept_step) == whole


def test_a_resumed_run_may_find_no_file(tmp_path):
    assert len(written(tmp_path / "metrics.jsonl", [1], after_step=0)) == 1


def test_a_new_file_replaces_nothing(tmp_path):
    written(tmp_path / "metrics.jsonl", [1])
    with pytest.raises(OutputError, match="there are metrics already"):
        MetricsLog(tmp_path / "metrics.jsonl")
    with pytest.raises(OutputError, match="cannot be written"):
        MetricsLog(tmp_path / "absent" / "metrics.jsonl")
    assert len(read_metrics(tmp_path / "metrics.jsonl")[0]) == 1


def test_a_full_disk_is_said_in_one_line():
    with MetricsLog(Path("/dev/full"), after_step=0) as log, pytest.raises(OutputError, match="No space left"):
        log.write(1, {"loss_nats": 1.0})


def test_lines_that_are_not_whole_are_counted(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n\n[1]\n{"step": "x"}\n\xff\n{"step": 2, "loss')
    assert read_metrics(tmp_path / "metrics.jsonl") == ([{"step": 1}], 4)
    assert read_metrics(tmp_path / "absent.jsonl") == ([], 0)


# --- environment.json ------------------------------------------------------------------------------------------------


def test_the_environment_is_described_without_its_secrets(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret-4711")
    monkeypatch.setenv("WANDB_API_KEY", "secret-4711")
    described = environment()
    assert "secret-4711" not in json.dumps(described)
    assert described["python"] == platform.python_version()
    assert {"xenoglot", "torch", "numpy"} <= set(described["packages"])
    commit = described["git_commit"]
    assert commit is None or len(commit.removesuffix("-dirty")) == 40


# --- trackers --------------------------------------------------------------------------------------------------------


class Failing:
    """Works for one step."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def write(self, step, metrics):
        self.steps.append(step)
        if step > 1:
            raise ConnectionError("no route\nto host")

    def close(self):
        raise OSError("never reached: it was left out")


class Keeping:
    def __init__(self) -> None:
        self.kept: list[tuple[int, dict]] = []
        self.is_closed = False

    def write(self, step, metrics):
        self.kept.append((step, dict(metrics)))

    def close(self):
        self.is_closed = True


def test_a_tracker_that_fails_is_left_out_and_said_once(capsys):
    failing, keeping = Failing(), Keeping()
    with Trackers({"it": failing, "other": keeping}) as both:
        for step in (1, 2, 3):
            both.write(step, {"loss_nats": 1.0, "mfu": None, "bad": float("nan")})
    assert failing.steps == [1, 2]
    assert keeping.kept == [(step, {"loss_nats": 1.0}) for step in (1, 2, 3)]
    assert keeping.is_closed
    warning = "warning: it: got no metrics from step 2 on (ConnectionError: no route to host). Training goes on.\n"
    assert capsys.readouterr().err == warning


@pytest.mark.parametrize("extra", ["tensorboard", "wandb", "trackio"])
def test_an_extra_that_is_missing_is_named(tmp_path, monkeypatch, extra):
    monkeypatch.setitem(sys.modules, extra, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'xenoglot\[{extra}\]'"):
        open_trackers(MonitoringConfig(**{f"save_to_{extra}": True}), tmp_path, "name", RUN)
    assert list(tmp_path.iterdir()) == []


def test_a_tracker_that_cannot_be_opened_does_not_stop_the_run(tmp_path, monkeypatch, capsys):
    def refuse(*details):
        raise RuntimeError("no")

    monkeypatch.setattr(trackers, "_TensorBoard", refuse)
    with open_trackers(MonitoringConfig(save_to_tensorboard=True), tmp_path, "name", RUN) as opened:
        opened.write(1, {"loss_nats": 1.0})
    assert "TensorBoard: cannot be opened (RuntimeError: no)" in capsys.readouterr().err


def test_nothing_is_opened_unless_asked(tmp_path):
    with open_trackers(MonitoringConfig(), tmp_path, "name", RUN) as opened:
        opened.write(1, {"loss_nats": 1.0})
    assert list(tmp_path.iterdir()) == []


SCRIPT = """
import sys
from pathlib import Path
from xenoglot.config import MonitoringConfig, WandbConfig
from xenoglot.tracking import open_trackers
kind, folder, *steps = sys.argv[1:]
config = MonitoringConfig(**{{f"save_to_{{kind}}": True}}, wandb=WandbConfig(offline={offline}))
with open_trackers(config, Path(folder), "a <run>", {run}) as opened:
    for step in steps:
        opened.write(int(step), {{"loss_nats": 1 / int(step), "mfu": None}})
"""


def track(kind: str, folder: Path, *steps: int, offline: bool = True) -> str:
    """Write steps in a process of its own, whose home is empty and which has secrets; return what it printed."""
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    folder.mkdir(exist_ok=True)
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "TRACKIO", "HF_", "XDG"))
    }
    kept |= {
        "HOME": str(home),
        "TRACKIO_DIR": str(folder / "trackio"),
        "HF_TOKEN": "secret-4711",
        "NO_SECRET": "secret-4712",
    }
    kept |= {"WANDB_BASE_URL": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}  # whoever called out would reach nobody
    script = SCRIPT.format(run=RUN, offline=offline)
    command = [sys.executable, "-W", "ignore", "-c", script, kind, str(folder), *map(str, steps)]
    done = subprocess.run(
        command, env=kept, capture_output=True, text=True, check=True, cwd=home, stdin=subprocess.DEVNULL
    )
    assert not any(b"secret-4711" in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return done.stdout + done.stderr


def test_tensorboard_reads_what_was_written(tmp_path):
    track("tensorboard", tmp_path / "run", 1, 2, 3)
    track("tensorboard", tmp_path / "run", 3, 4)  # the run goes on from step 2
    read = """
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1]).Reload()
print([(event.step, round(event.value, 4)) for event in events.Scalars("loss_nats")], events.Tags()["scalars"])
print(events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode())
"""
    command = [sys.executable, "-W", "ignore", "-c", read, str(tmp_path / "run" / "tensorboard")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.startswith("[(1, 1.0), (2, 0.5), (3, 0.3333), (4, 0.25)] ['loss_nats']")
    assert '"lr": 0.01' in printed


def wandb_records(path: Path):
    """Read W&B's file: LevelDB's log format after seven bytes of its own, a protocol buffer in each record."""
    from wandb.proto import wandb_internal_pb2

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left_in_block = 32768 - at % 32768
        if left_in_block < 7:
            at += left_in_block
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a record by itself, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


@pytest.mark.filterwarnings("ignore")
def test_weights_and_biases_keeps_metrics_offline_in_the_run_s_folder(tmp_path):
    pytest.importorskip("wandb")
    printed = track("wandb", tmp_path / "run", 1, 2).splitlines()
    assert [line for line in printed if "`resume` will be ignored" not in line] == []  # said offline, before 0.31
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    [file] = (tmp_path / "run" / "wandb").rglob("*.wandb")
    records = list(wandb_records(file))
    history = [
        {"".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    assert [(line["_step"], line["loss_nats"]) for line in history] == [(1, 1.0), (2, 0.5)]
    assert all("mfu" not in line for line in history)
    [run] = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert (run.display_name, run.project) == ("a <run>", "xenoglot")
    assert json.loads(next(item.value_json for item in run.config.update if item.key == "training")) == RUN["training"]
    assert run.host == "-"
    track("wandb", tmp_path / "run", 3)  # the run goes on: the same run there
    ids = {file.name for file in (tmp_path / "run" / "wandb").rglob("*.wandb")}
    assert len(ids) == 1


@pytest.mark.filterwarnings("ignore")
def test_weights_and_biases_without_a_key_says_so_and_stays_offline(tmp_path):
    pytest.importorskip("wandb")
    printed = track("wandb", tmp_path / "run", 1, offline=False)
    assert "warning: Weights & Biases: not online" in printed
    assert "wandb sync" in printed
    [file] = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    assert any(record.WhichOneof("record_type") == "history" for record in wandb_records(file))


def test_trackio_s_database_holds_the_metrics(tmp_path):
    pytest.importorskip("trackio")
    printed = track("trackio", tmp_path / "run", 1, 2).splitlines()  # what it would print holds a token
    assert set(printed) <= {"* Run finished. Uploading logs to Trackio (please wait...)"}  # by its early releases
    track("trackio", tmp_path / "run", 3)  # the run goes on
    with sqlite3.connect(tmp_path / "run" / "trackio" / "xenoglot.db") as database:
        rows = database.execute("select run_name, step, metrics from metrics order by step").fetchall()
        columns = {name for (name,) in database.execute("select name from pragma_table_info('metrics')")}
        identity = "run_id" if "run_id" in columns else "run_name"  # early releases tell runs apart by name
        runs = {run for (run,) in database.execute(f"select {identity} from metrics")}
        [(config,)] = database.execute("select config from configs").fetchall()
    assert [(name, step) for name, step, _ in rows] == [("a <run>", step) for step in (1, 2, 3)]
    assert [json.loads(metrics) for *_, metrics in rows] == [
        {"loss_nats": 1.0},
        {"loss_nats": 0.5},
        {"loss_nats": 1 / 3},
    ]
    assert len(runs) == 1
    assert json.loads(config)["training"] == RUN["training"]


def test_offline_is_the_default():
    assert WandbConfig().offline
