"""A page of the API for each part of the house, read off docs/house.md."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["api_pages"]

LEFT_OUT = ("__init__", "__main__", "cli", "commands")
"""Names that are for the command line, or explained elsewhere."""


def api_pages(docs_dir: str) -> list[tuple[str, str, str]]:
    """Return title, path and Markdown of each page, in the order of the house.

    Args:
        docs_dir: Where house.md is.
    """
    [tree] = re.findall(r"```\n(xenoglot/\n.*?)```", (Path(docs_dir) / "house.md").read_text(), re.DOTALL)
    parts: dict[str, list[str]] = {}
    summaries: dict[str, str] = {}
    part = ""
    for indent, name, summary in re.findall(r"^( +)(\S+) *(.*)$", tree, re.MULTILINE):
        if len(indent) == 2:
            part = name.removesuffix("/").removesuffix(".py")
            summaries[part], parts[part] = summary, [] if name.endswith("/") else [f"xenoglot.{part}"]
        elif name != "__init__.py":
            parts[part].append(f"xenoglot.{part}.{name.removesuffix('.py')}")
    return [
        (part, f"api/{part}.md", _page(part, summaries[part], modules))
        for part, modules in parts.items()
        if part not in LEFT_OUT and modules
    ]


def _page(part: str, summary: str, modules: list[str]) -> str:
    return "\n\n".join([f"# xenoglot.{part}", f"*{summary}*", *(f"::: {module}" for module in modules)]) + "\n"
