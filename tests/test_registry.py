"""Names to classes: by folder, alias, dotted path and entry point, and never by a list that is edited."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from xenoglot import languages
from xenoglot.errors import DataError, UnknownNameError
from xenoglot.registry import Registry

BASE = "class Animal:\n    aliases = ()\n"
CAT = "from zoo.base import Animal\nclass Cat(Animal):\n    name = 'cat-v1'\n    aliases = ('cat',)\n"
DOG = "from zoo.cat import Animal, Cat\nclass Dog(Animal):\n    name = 'dog-v1'\nclass Puppy(Dog):\n    name = None\n"
OWN = "from zoo.base import Animal\nclass Cow(Animal):\n    name = 'cow'\nclass Rock:\n    name = 'rock'\n"


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry[object]]:
    """A registry over a folder of its own."""
    package = tmp_path / "zoo"
    package.mkdir()
    for name, source in {"__init__": "", "base": BASE, "cat": CAT, "dog": DOG}.items():
        (package / f"{name}.py").write_text(source)
    (tmp_path / "my_farm.py").write_text(OWN)
    (tmp_path / "broken_farm.py").write_text("import not_there_at_all\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Registry(kind="animal", package="zoo", base="zoo.base:Animal")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("zoo", "my_farm", "broken_farm")]:
        del sys.modules[name]


def test_files_of_the_folder_are_found(zoo: Registry[object]) -> None:
    assert zoo.names() == ("cat-v1", "dog-v1")
    assert zoo.get("cat-v1").__name__ == "Cat"
    assert zoo.get("cat") is zoo.get("cat-v1")
    assert dict(zoo.members()) == {"cat-v1": zoo.get("cat"), "dog-v1": zoo.get("dog-v1")}


def test_another_file_is_found_without_any_edit(zoo: Registry[object], tmp_path: Path) -> None:
    (tmp_path / "zoo" / "emu.py").write_text(CAT.replace("Cat", "Emu").replace("cat", "emu"))
    assert zoo.names() == ("cat-v1", "dog-v1", "emu-v1")


@pytest.mark.parametrize("path", ["my_farm:Cow", "my_farm.Cow"])
def test_dotted_paths_lead_to_one_s_own(zoo: Registry[object], path: str) -> None:
    assert zoo.get(path).__name__ == "Cow"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("my_farm:Hen", "my_farm has no 'Hen'"),
        ("no_farm:Cow", "There is no module 'no_farm'"),
        ("dog-v2", "Did you mean 'dog-v1'"),
        (":", "A path is such as my_module:MyClass"),
        (".Cow", "A path is such as"),
        ("my_farm:", "A path is such as"),
    ],
)
def test_what_is_not_there_is_said(zoo: Registry[object], path: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        zoo.get(path)


@pytest.mark.parametrize("path", ["my_farm:Rock", "my_farm:Animal"])
def test_what_is_no_member_is_refused(zoo: Registry[object], path: str) -> None:
    with pytest.raises(DataError, match=f"{path} is not a animal.*zoo.base.Animal"):
        zoo.get(path)


def test_an_error_inside_one_s_own_module_is_not_hidden(zoo: Registry[object]) -> None:
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        zoo.get("broken_farm:Cow")


def test_installed_packages_offer_members(zoo: Registry[object], monkeypatch: pytest.MonkeyPatch) -> None:
    offered = importlib.metadata.EntryPoint(name="cow", value="my_farm:Cow", group="zoo")

    def entry_points(group: str) -> list[importlib.metadata.EntryPoint]:
        return [offered] if group == "zoo" else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    assert zoo.names() == ("cat-v1", "cow", "dog-v1")


def test_the_families_are_registered() -> None:
    assert {"markov", "metalm-v1", "metalm-v2", "ngram-net"} <= set(languages.names())
    assert languages.get("v1").name == "metalm-v1"
    assert languages.get("v2").name == "metalm-v2"
