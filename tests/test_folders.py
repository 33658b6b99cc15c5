"""Folders are there whole or not at all, and what dead processes left is put right."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from xenoglot.errors import OutputError
from xenoglot.storage.folders import clean_up, remove_folder, staged_folder


def tree(folder: Path) -> dict[str, str | None]:
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def fill(folder: Path, content: str) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "file").write_text(content)


def whole(name: str, content: str) -> dict[str, str | None]:
    return {name: None, f"{name}/inner": None, f"{name}/inner/file": content}


def test_a_folder_appears_whole_and_only_at_the_end(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "made" / "too" / "a") as folder:
        fill(folder, "new")
        assert folder.parent == tmp_path / "made" / "too"
        assert not (tmp_path / "made" / "too" / "a").exists()
    assert tree(tmp_path / "made" / "too") == whole("a", "new")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
@pytest.mark.parametrize("replace", [False, True])
def test_whatever_stops_it_leaves_what_was_there(tmp_path: Path, stop: type[BaseException], replace: bool) -> None:
    if replace:
        (tmp_path / "a").mkdir()
        fill(tmp_path / "a", "old")
    before = tree(tmp_path)

    def interrupted() -> None:
        with staged_folder(tmp_path / "a", replace=replace) as folder:
            fill(folder, "new")
            raise stop

    with pytest.raises(stop):
        interrupted()
    assert tree(tmp_path) == before


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    (tmp_path / "a").mkdir()
    fill(tmp_path / "a", "old")
    rename, calls = Path.rename, [0]

    def fail(path: Path, target: Path) -> Path:
        calls[0] += 1
        if calls[0] == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    message = "a: it cannot be written: Input/output error. Nothing half-written"
    with pytest.raises(OutputError, match=message), staged_folder(tmp_path / "a", replace=True) as folder:
        fill(folder, "new")
    assert tree(tmp_path) == whole("a", "old")


def test_an_earlier_folder_is_only_replaced_if_that_is_meant(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    fill(tmp_path / "a", "old")
    with pytest.raises(OutputError, match="there already"), staged_folder(tmp_path / "a"):
        pytest.fail("the block must not begin")
    assert tree(tmp_path) == whole("a", "old")
    with staged_folder(tmp_path / "a", replace=True) as folder:
        fill(folder, "new")
    assert tree(tmp_path) == whole("a", "new")


def test_the_names_in_it_are_on_the_disk_before_its_own_and_new_parents_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, Path.rename
    by_inode = {tmp_path.stat().st_ino: "top"}

    def noted_fsync(descriptor: int) -> None:
        done.append(by_inode.get(os.fstat(descriptor).st_ino, "another"))
        fsync(descriptor)

    def noted_rename(path: Path, target: Path) -> Path:
        done.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    with staged_folder(tmp_path / "parent" / "a") as folder:
        by_inode |= {folder.stat().st_ino: "folder", folder.parent.stat().st_ino: "parent"}
        done.append("fill")
    assert done == ["top", "fill", "folder", "rename", "parent"]


def test_a_removed_folder_is_gone_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    fill(tmp_path / "a", "old")

    def interrupted(path: Path, **options: object) -> None:
        assert not (tmp_path / "a").exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remove_folder(tmp_path / "a")
    clean_up(tmp_path)
    assert tree(tmp_path) == {}
    with pytest.raises(OutputError, match="cannot be removed: No such file"):
        remove_folder(tmp_path / "a")


def test_what_dead_processes_left_is_put_right_and_nothing_else_is_touched(tmp_path: Path) -> None:
    left = {
        ".a.0123abcd.partial": None,
        ".b.0123abcd.earlier": "b",
        ".c.0123abcd.earlier": None,
        "c": "c",
        ".d.0123abcd.partial.txt": "kept",
        ".e.partial": "kept",
        ".f": "kept",
    }
    for name, content in left.items():
        (tmp_path / name).mkdir()
        fill(tmp_path / name, content or "gone")
    (tmp_path / ".file.0123abcd.partial").touch()
    clean_up(tmp_path)
    assert {path.name: (path / "inner" / "file").read_text() for path in tmp_path.iterdir()} == {
        "b": "b",
        "c": "c",
        ".d.0123abcd.partial.txt": "kept",
        ".e.partial": "kept",
        ".f": "kept",
    }
    clean_up(tmp_path / "absent")
