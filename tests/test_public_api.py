"""The public names, pinned: taking one away or adding one is a decision."""

from __future__ import annotations

import inspect
import re

import pytest

import xenoglot

PUBLIC_NAMES = [
    "__version__",
    "adaptation",
    "batches",
    "checkpoint",
    "config",
    "decoder",
    "environments",
    "episodes",
    "errors",
    "evaluations",
    "figures",
    "generate",
    "heads",
    "kernels",
    "languages",
    "measures",
    "mechanisms",
    "objectives",
    "optim",
    "options",
    "predictors",
    "registry",
    "report",
    "rng",
    "text",
    "tracking",
    "trainer",
]
FAMILY_CLASSES = ["ContextTreeSource", "Markov", "MetaLMv1", "MetaLMv2", "NgramNet"]


def test_the_public_names_are_these() -> None:
    assert xenoglot.__all__ == PUBLIC_NAMES
    assert dir(xenoglot) == PUBLIC_NAMES


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(xenoglot, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'langauges'"):
        _ = xenoglot.langauges
    with pytest.raises(AttributeError, match="has no attribute 'Mraklov'"):
        _ = xenoglot.languages.Mraklov


def test_the_version_is_the_package_s() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", xenoglot.__version__)


@pytest.mark.parametrize("name", FAMILY_CLASSES)
def test_families_answer_to_their_class_names(name: str) -> None:
    family = getattr(xenoglot.languages, name)
    assert family is xenoglot.languages.get(family.name)


def public_members(module_name: str) -> list[tuple[str, object]]:
    module = getattr(xenoglot, module_name)
    if not inspect.ismodule(module):
        return []
    return [(f"{module_name}.{name}", getattr(module, name)) for name in getattr(module, "__all__", [])]


@pytest.mark.parametrize("module_name", PUBLIC_NAMES)
def test_what_is_public_is_documented(module_name: str) -> None:
    """Every public function, class and method says what it does; an override may leave that to its base."""
    missing = []
    for path, member in public_members(module_name):
        if not (inspect.isfunction(member) or inspect.isclass(member)):
            continue
        missing += [] if inspect.getdoc(member) else [path]
        if inspect.isclass(member):
            own = [name for name in vars(member) if not name.startswith("_") and callable(getattr(member, name))]
            missing += [f"{path}.{name}" for name in own if not inspect.getdoc(getattr(member, name))]
    assert missing == []
