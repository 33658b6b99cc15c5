"""What pages take from the code when they are built, so that they cannot disagree with it.

A fenced block of the kind ``options`` becomes a table, one of the kind ``command`` what ``--help`` prints:

    ```options
    languages.metalm-v1
    ```

names a family; ``predictors.NAME`` a predictor; ``config.SECTION`` a section of a run's configuration by its path, and
``config`` all sections, each under its own heading.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import typing
from collections.abc import Iterator
from unittest import mock

from xenoglot import languages, predictors
from xenoglot.cli import main
from xenoglot.config import RunConfig
from xenoglot.options import Option, options_of

__all__ = ["help_of", "options_table", "with_generated_parts"]

BLOCK = re.compile(r"^```(options|command)\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
HELP_COLUMNS = "100"


def with_generated_parts(markdown: str) -> str:
    """Replace the blocks of a page that stand for what the code says."""
    generators = {"options": options_table, "command": help_of}
    return BLOCK.sub(lambda found: generators[found[1]](found[2].strip()), markdown)


def options_table(name: str) -> str:
    """Return the options of what ``name`` stands for, as Markdown.

    Raises:
        KeyError: If it stands for nothing.
    """
    kind, _, rest = name.partition(".")
    if kind == "config":
        sections = dict(_sections("", RunConfig))
        if rest:
            return f"Under `{rest}`:\n\n{_table(sections[rest])}"
        return "\n\n".join(
            f"## `{path}`\n\n{_summary(section)}\n\n{_table(section)}"
            for path, section in sections.items()
            if options_of(section)
        )
    members = {"languages": languages.registry.members, "predictors": predictors.registry.members}[kind]()
    return _table(members[rest])


def help_of(command: str) -> str:
    """Return what a command prints when it is asked for help, as a Markdown block."""
    printed = io.StringIO()
    width = mock.patch.dict(os.environ, {"COLUMNS": HELP_COLUMNS})
    with width, contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*command.split()[1:], "--help"])
    return f"```text\n{printed.getvalue().rstrip()}\n```"


def _sections(prefix: str, section: type) -> Iterator[tuple[str, type]]:
    for name, hint in typing.get_type_hints(section).items():
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield f"{prefix}{name}", hint
            yield from _sections(f"{prefix}{name}.", hint)


def _summary(section: type) -> str:
    return (section.__doc__ or "").partition("\n")[0]


def _table(owner: type) -> str:
    declared = options_of(owner)
    if not declared:
        return "*It has no options.*"
    return "\n".join(["| option | default | allowed | meaning |", "|---|---|---|---|", *map(_row, declared)])


def _row(option: Option) -> str:
    names = ", ".join(f"`{name}`" for name in dict.fromkeys((option.name, *option.flags)))
    unit = f" ({option.unit})" if option.unit and option.unit not in option.doc else ""
    cells = (names, _default(option.default), option.allowed, f"{option.doc}{unit}")
    return "| " + " | ".join(cell.replace("|", r"\|").replace("*", r"\*") for cell in cells) + " |"


def _default(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"`{member}`" for member in value) or "none"
    return f"`{str(value).lower()}`" if value is None or isinstance(value, bool) else f"`{value}`"
