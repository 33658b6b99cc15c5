"""Staged files: all of them whole under their names, or none, whatever goes wrong on the way."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from xenoglot.errors import OutputError
from xenoglot.storage.files import StagedFiles


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_appear_together_and_only_at_the_end(tmp_path: Path) -> None:
    with StagedFiles() as staged:
        for name in ("a", "b"):
            with staged.open(tmp_path / name) as file:
                file.write(name.encode() * 3)
        assert not {"a", "b"} & set(contents(tmp_path))
    assert contents(tmp_path) == {"a": b"aaa", "b": b"bbb"}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, RuntimeError])
@pytest.mark.parametrize("when", ["inside the first", "between", "after both"])
def test_whatever_stops_it_leaves_what_was_there(tmp_path: Path, stop: type[BaseException], when: str) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def write_both() -> None:
        with StagedFiles() as staged:
            with staged.open(tmp_path / "a") as file:
                file.write(b"new")
                if when == "inside the first":
                    raise stop
            if when == "between":
                raise stop
            with staged.open(tmp_path / "b") as file:
                file.write(b"new")
            raise stop

    with pytest.raises(stop):
        write_both()
    assert contents(tmp_path) == {"a": b"old"}


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    with (
        pytest.raises(OutputError, match=r"cannot write '.*a': No space left on device. Nothing half-written is left."),
        StagedFiles() as staged,
        staged.open(tmp_path / "a") as file,
    ):
        file.write(b"new")
    assert contents(tmp_path) == {"a": b"old"}


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "real")
    with StagedFiles() as staged, staged.open(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert contents(tmp_path / "folder") == {"real": b"new"}


def test_permissions_are_kept_or_ordinary(tmp_path: Path) -> None:
    (tmp_path / "old").touch(mode=0o600)
    (tmp_path / "ordinary").touch()
    with StagedFiles() as staged:
        for name in ("old", "new"):
            with staged.open(tmp_path / name) as file:
                file.write(b"x")
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_device_is_written_to_and_not_replaced() -> None:
    with (
        pytest.raises(OutputError, match="No space left on device"),
        StagedFiles() as staged,
        staged.open("/dev/full") as file,
    ):
        file.write(b"x")
    assert Path("/dev/full").is_char_device()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing/a", r"the folder '.*missing' does not exist; create it first"),
        (".", "it is a folder; name a file in it"),
        ("file/a", "Not a directory"),
    ],
)
def test_a_path_that_cannot_be_written_is_said(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=reason), StagedFiles() as staged, staged.open(tmp_path / path):
        pass
    assert contents(tmp_path) == {"file": b""}
