"""Docstrings as Markdown for the API pages: formulas between dollars, examples and tables as they stand."""

from __future__ import annotations

import re
import textwrap
from typing import Any

from griffe import Extension, Object

__all__ = ["DocstringsAsMarkdown", "as_markdown"]

FORMULA = re.compile(r"^( *)\.\. math::\n((?:\1 +\S.*\n?)+)", re.MULTILINE)
EXAMPLE = re.compile(r"^( *)>>> .*(?:\n\1\S.*)*", re.MULTILINE)
TABLE = re.compile(r"^=+(?:  =+)+\n.*\n=+(?:  =+)+$", re.MULTILINE | re.DOTALL)


class DocstringsAsMarkdown(Extension):
    """Translates every docstring before it is shown."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Translate an object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    r"""Turn formulas, examples and tables of a docstring into Markdown.

    Example:
        >>> print(as_markdown("The law.\n\n.. math::\n    p_t = 1\n"))
        The law.
        <BLANKLINE>
        $$
        p_t = 1
        $$
        <BLANKLINE>
    """
    markdown = FORMULA.sub(_between_dollars, docstring)
    markdown = EXAMPLE.sub(lambda found: f"{found[1]}```pycon\n{found[0]}\n{found[1]}```", markdown)
    return TABLE.sub(lambda found: f"```text\n{found[0]}\n```", markdown)


def _between_dollars(found: re.Match[str]) -> str:
    formula = textwrap.dedent(found[2]).strip("\n")
    return textwrap.indent(f"\n$$\n{formula}\n$$\n", found[1]).lstrip("\n")
