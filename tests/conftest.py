"""What several test files need: the house as the README draws it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def readme() -> str:
    return (ROOT / "README.md").read_text()


@pytest.fixture(scope="session")
def house(readme: str) -> dict[str, str]:
    """The README's tree: each Python file's path and its one line, in the order in which they are drawn."""
    [tree] = re.findall(r"```\n(xenoglot/\n.*?)```", readme, re.DOTALL)
    files: dict[str, str] = {}
    folder = ""
    for line in tree.splitlines()[1:]:
        indent, name, explanation = re.fullmatch(r"( +)(\S+) *(.*)", line).groups()
        if name.endswith("/"):
            folder = name
        else:
            files[f"xenoglot/{folder if len(indent) == 4 else ''}{name}"] = explanation
    return files
