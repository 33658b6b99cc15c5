"""A page of the API for each part of the house, read off docs/house.md."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

__all__ = ["api_pages", "home_of"]

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
            summaries[part], parts[part] = summary, [f"xenoglot.{part}"]
        elif name != "__init__.py":
            parts[part].append(f"xenoglot.{part}.{name.removesuffix('.py')}")
    return [
        (part, f"api/{part}.md", _page(part, summaries[part], [each for each in modules if each != "xenoglot.recipes"]))
        for part, modules in parts.items()
        if part not in LEFT_OUT and modules != ["xenoglot.recipes"]
    ]


def home_of(module: str, name: str) -> str | None:
    """Return the path under which a module's class or function is explained; None for anything else.

    Example:
        >>> home_of("xenoglot.languages", "MetaLMv1")
        'xenoglot.languages.metalm_v1.MetaLMv1'
        >>> home_of("xenoglot.rng", "MAX_SEED")
    """
    found = getattr(importlib.import_module(module), name)
    if not (inspect.isclass(found) or inspect.isfunction(found)) or not found.__module__.startswith("xenoglot."):
        return None
    return f"{found.__module__}.{found.__qualname__}"


def _page(part: str, summary: str, modules: list[str]) -> str:
    said = f"*{summary.capitalize() if summary.startswith('ADD') else summary}*"
    blocks = [f"::: {module}" for module in modules]
    if len(modules) > 1:
        blocks[:1] = _package(modules[0])
    return "\n\n".join([f"# xenoglot.{part}", said, *blocks]) + "\n"


def _package(package: str) -> list[str]:
    """Return the names that a package offers as its own, with links, and the idea of it with what it defines itself."""
    homes = {name: home_of(package, name) for name in getattr(importlib.import_module(package), "__all__", ())}
    links = (f"[`{name}`][{home}]" if home else f"`{name}`" for name, home in homes.items())
    here = [name for name, home in homes.items() if home == f"{package}.{name}"]
    idea = f"::: {package}\n    options:\n      members: {here if here else 'false'}"
    return [f"From `{package}`: {', '.join(links)}.", idea] if homes else [idea]
