"""What several test files need: the house as docs/house.md draws it, file by file, and README folder by folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("same-examples", derandomize=True)  # what `make test` reports depends on the code alone

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def readme() -> str:
    return (ROOT / "README.md").read_text()


@pytest.fixture(scope="session")
def house() -> dict[str, str]:
    """docs/house.md's tree: each Python file's path and its one line, in the order in which they are drawn."""
    [tree] = re.findall(r"```\n(xenoglot/\n.*?)```", (ROOT / "docs" / "house.md").read_text(), re.DOTALL)
    files: dict[str, str] = {}
    folder = ""
    for line in tree.splitlines()[1:]:
        indent, name, explanation = re.fullmatch(r"( +)(\S+) *(.*)", line).groups()
        if name.endswith("/"):
            folder = name
        else:
            files[f"xenoglot/{folder if len(indent) == 4 else ''}{name}"] = explanation
    return files
