"""One process at a time writes to a run, and one that dies is no hindrance."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from xenoglot import run_lock
from xenoglot.errors import OutputError
from xenoglot.run_lock import RunLock

HOLDER = """
import sys, time
from pathlib import Path
from xenoglot.run_lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
COUNTERS = """
import sys, time
from pathlib import Path
from xenoglot.errors import OutputError
from xenoglot.run_lock import RunLock
folder = Path(sys.argv[1])
done = 0
while done < 100:
    try:
        with RunLock(folder):
            count = int((folder / "count").read_text())
            time.sleep(0.0005)
            (folder / "count").write_text(str(count + 1))
            done += 1
    except OutputError:
        time.sleep(0.0002)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", HOLDER, str(tmp_path)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_told_who_holds_the_run(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    message = rf"another process is writing to this run: process {holder.pid} on \S+ since \d{{4}}-.*run_name"
    for _ in range(2):
        with pytest.raises(OutputError, match=message), RunLock(tmp_path):
            pytest.fail("two hold it")
    holder.communicate("")
    with RunLock(tmp_path):
        pass


def test_a_process_that_was_killed_holds_nothing(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    assert str(holder.pid) in (tmp_path / ".lock").read_text()
    with RunLock(tmp_path), pytest.raises(OutputError, match=f"process {os.getpid()} on"), RunLock(tmp_path):
        pytest.fail("two hold it")


def test_it_leaves_nothing_behind(tmp_path: Path) -> None:
    for error in (None, ZeroDivisionError, KeyboardInterrupt):
        try:
            with RunLock(tmp_path):
                assert [path.name for path in tmp_path.iterdir()] == [".lock"]
                if error:
                    raise error
        except (ZeroDivisionError, KeyboardInterrupt):
            pass
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff"])
def test_a_file_that_says_nothing_sensible_is_no_lock(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".lock").write_bytes(content)
    with RunLock(tmp_path):
        (tmp_path / ".lock").write_bytes(content)
        with pytest.raises(OutputError, match="it has not said who it is"), RunLock(tmp_path):
            pytest.fail("two hold it")


def test_many_processes_never_hold_it_together(tmp_path: Path) -> None:
    """The file is removed by each holder: nobody may hold a lock on a file that is no longer there."""
    (tmp_path / "count").write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", COUNTERS, str(tmp_path)]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    assert (tmp_path / "count").read_text() == "400"


def test_a_file_system_without_locks_is_said_and_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(run_lock, "_lock", refuse)
    with RunLock(tmp_path):
        assert "its file system has no locks" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the run cannot be locked for writing: No such file"):
        RunLock(tmp_path / "absent").__enter__()
