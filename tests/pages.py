"""The pages of the documentation, and what stands in them: what several test files read."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
EVERY_PAGE = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md"))]
"""README and every page, by its path in the repository."""
BLOCK = re.compile(r"(?:^<!-- not run by the tests: ([^\n]+) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(text: str) -> list[tuple[str, str, str]]:
    """Return of each fenced block why it is not run, its language, and what stands in it."""
    return [(found[1] or "", found[2], found[3]) for found in BLOCK.finditer(text)]


def prose(text: str) -> str:
    """Return what stands outside fenced blocks and formulas."""
    return re.sub(r"\$\$.*?\$\$", "", BLOCK.sub("", text), flags=re.DOTALL)


def spans(text: str) -> list[str]:
    """Return what stands in prose as code, put on one line."""
    return [" ".join(found.split()) for found in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose(text))]


def commands(block: str) -> list[list[str]]:
    """Return the words of each command of a block of a shell."""
    return [words for line in block.replace("\\\n", "").splitlines() if (words := shlex.split(line, comments=True))]
