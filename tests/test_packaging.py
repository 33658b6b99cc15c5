"""What is handed out: the two archives are the same bytes wherever they are built, and hold what they should."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path
from typing import Any

import pytest

from xenoglot.cli import main

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_COPIED = (".git", ".venv", "build", "dist", "runs", "__pycache__", ".*_cache", ".hypothesis")
BUILD = [sys.executable, "-m", "hatchling", "build", "--directory"]


def build(tree: Path, target: Path, *kinds: str) -> None:
    """Build archives as a packager without a network would."""
    chosen = [word for kind in kinds for word in ("--target", kind)]
    done = subprocess.run([*BUILD, str(target), *chosen], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def copy_of_the_tree(target: Path) -> Path:
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*NOT_COPIED))
    return target


def stained(tree: Path) -> Path:
    """Return the tree as it may look on another machine: other times, other permissions, and used."""
    for path in tree.rglob("*"):
        os.utime(path, (2_000_000_000, 2_000_000_000))
        path.chmod(path.stat().st_mode & 0o700)
    for folder in ("xenoglot/kernels/__pycache__", "runs/first", "build"):
        (tree / folder).mkdir(parents=True)
        (tree / folder / "words.philox-1.py311.nbi").write_bytes(b"compiled here")
    (tree / ".env").write_text("HF_TOKEN=hf_secret\n")
    return tree


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return two folders with a wheel and an sdist each, built in trees that are alike only in what is in git."""
    folder = tmp_path_factory.mktemp("packaging")
    here, there = folder / "here", folder / "elsewhere" / "and_deeper"
    build(copy_of_the_tree(folder / "tree"), here, "wheel", "sdist")
    build(stained(copy_of_the_tree(folder / "other_tree")), there, "wheel", "sdist")
    return here, there


def only(folder: Path, pattern: str) -> Path:
    [path] = folder.glob(pattern)
    return path


def names_in_sdist(path: Path) -> set[str]:
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def test_both_archives_are_the_same_bytes_wherever_they_are_built(archives: tuple[Path, Path]) -> None:
    here, there = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in archives)
    assert sorted(here) == [f"xenoglot-{PROJECT['version']}-py3-none-any.whl", f"xenoglot-{PROJECT['version']}.tar.gz"]
    assert {name for name, content in here.items() if there[name] != content} == set()


def test_the_wheel_is_the_package_and_nothing_else(archives: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(only(archives[0], "*.whl")) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "xenoglot").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == sources
    assert {"xenoglot/py.typed", "xenoglot/recipes/hybrid.yaml", "xenoglot/report/templates/report.html"} <= packed


def test_both_archives_carry_the_licence_and_name_it(archives: tuple[Path, Path]) -> None:
    licence = (ROOT / "LICENSE").read_bytes()
    with zipfile.ZipFile(only(archives[0], "*.whl")) as wheel:
        [packed] = [name for name in wheel.namelist() if name.endswith("/licenses/LICENSE")]
        assert wheel.read(packed) == licence
        metadata = message_from_string(wheel.read(packed.replace("licenses/LICENSE", "METADATA")).decode())
    assert (metadata["License-Expression"], metadata["License-File"]) == ("Apache-2.0", "LICENSE")
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert set(metadata.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])
    with tarfile.open(only(archives[0], "*.tar.gz")) as sdist:
        [packed_licence] = [member for member in sdist if member.name.endswith("/LICENSE")]
        content = sdist.extractfile(packed_licence)
        assert content is not None
        assert content.read() == licence


def test_the_sdist_holds_every_file_of_the_repository(archives: tuple[Path, Path]) -> None:
    """Its tests read the documentation, the examples, the makefile: whoever has the sdist can run them."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("which files are the repository's is for git to say")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}
    assert len(tracked) > 300
    assert tracked - names_in_sdist(only(archives[0], "*.tar.gz")) == set()


def test_the_sdist_holds_nothing_that_was_made_or_is_secret(archives: tuple[Path, Path]) -> None:
    packed = names_in_sdist(only(archives[1], "*.tar.gz"))
    assert {name for name in packed if "__pycache__" in name or name.endswith((".nbi", ".nbc", ".pyc"))} == set()
    assert {name.partition("/")[0] for name in packed} & {".env", ".venv", "runs", "build", "dist"} == set()


def test_a_wheel_from_the_sdist_is_the_wheel(archives: tuple[Path, Path], tmp_path: Path) -> None:
    with tarfile.open(only(archives[0], "*.tar.gz")) as sdist:
        sdist.extractall(tmp_path, filter="data")
    build(only(tmp_path, "xenoglot-*"), tmp_path / "built", "wheel")
    assert only(tmp_path / "built", "*.whl").read_bytes() == only(archives[0], "*.whl").read_bytes()


def test_the_version_stands_in_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"xenoglot {PROJECT['version']}\n"
    spelled = f'"{PROJECT["version"]}"'
    assert [path for path in (ROOT / "xenoglot").rglob("*.py") if spelled in path.read_text()] == []
