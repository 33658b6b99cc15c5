"""``xenoglot describe``: what a family is, from its own declarations: mathematics, options, floor, source."""

from __future__ import annotations

import argparse
import inspect
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from xenoglot import languages
from xenoglot.commands.base import facts_of
from xenoglot.options import Option, options_of

if TYPE_CHECKING:
    from xenoglot.languages import Family

HELP = "explain a family of languages, or list them all"
EPILOG = """\
What a language of the family is, its mathematics, its floor, where it comes from, and its options with what they
allow. A family of your own is named by its path, my_module:Mine.

Examples:

  xenoglot describe
  xenoglot describe metalm-v1
"""

WIDEST = 100
NARROWEST = 72
INDENT = "    "

SYMBOLS = {
    "alpha": "α",
    "beta": "β",
    "cdot": "·",
    "ge": "≥",
    "geq": "≥",
    "in": "∈",
    "infty": "∞",
    "lambda": "λ",
    "le": "≤",
    "leq": "≤",
    "mid": "|",
    "mu": "μ",
    "ne": "≠",
    "neq": "≠",
    "odot": "⊙",
    "pi": "π",
    "prod": "Π",
    "propto": "∝",
    "sigma": "σ",
    "sim": "~",
    "sum": "Σ",
    "theta": "θ",
    "times": "×",
    "to": "→",
}
SPACES = {",": " ", ";": " ", "!": "", "quad": "\t", "qquad": "\n"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the family's name."""
    parser.epilog = EPILOG
    parser.add_argument("family", metavar="FAMILY", nargs="?", help="a family's name; all are listed without it")


def run(arguments: argparse.Namespace) -> int:
    """Print the explanation."""
    if arguments.family is None:
        lines = _listing(languages.registry.members().values())
    else:
        lines = _explanation(languages.get(arguments.family))
    print("\n".join(lines))
    return 0


def _listing(families: Iterable[type[Family]]) -> Iterator[str]:
    for family in families:
        name = ", ".join((family.name, *family.aliases))
        yield f"{name:<16}{_unmarked((inspect.getdoc(family) or '').partition(chr(10))[0])}"
    yield ""
    yield "More about one: xenoglot describe FAMILY"


def _explanation(family: type[Family]) -> Iterator[str]:
    yield _heading(", ".join((family.name, *family.aliases)))
    module = sys.modules[family.__module__]
    for docstring in (inspect.getdoc(module), inspect.getdoc(family)):
        if docstring:
            yield plain_text(docstring)
            yield ""
    yield _heading("Options")
    for declared in options_of(family):
        yield from _option_lines(declared)
    yield ""
    yield f"Try: xenoglot generate --version {family.name} --samples 2 --sequence_length 32"


def _heading(text: str) -> str:
    return f"{text}\n{'-' * len(text)}"


def _option_lines(declared: Option) -> Iterator[str]:
    names = ", ".join(f"--{name}" for name in (declared.name, *declared.flags))
    yield names
    yield _filled(declared.doc, INDENT)
    facts = facts_of(declared)
    if facts:
        yield _filled(facts, INDENT)


# --- docstrings for a terminal ---------------------------------------------------------------------------------------


def plain_text(docstring: str) -> str:
    r"""Turn a docstring into text for a terminal: no markup, mathematics in ordinary characters.

    Example:
        >>> print(plain_text("The law.\n\n.. math::\n    p_t \\propto \\frac{a_t}{n}\n\nwith `n` *words*."))
        The law.
        <BLANKLINE>
            p_t ∝ (a_t)/n
        <BLANKLINE>
        with n words.
    """
    return "\n".join(_rendered_blocks(docstring)).strip("\n")


def _rendered_blocks(docstring: str) -> Iterator[str]:
    for block in re.split(r"\n\s*\n", docstring.strip("\n")):
        lines = block.split("\n")
        while lines:
            if lines[0].strip() == ".. math::":
                formula, lines = _split_indented(lines[1:])
                yield textwrap.indent(plain_mathematics(" ".join(formula)), INDENT)
            elif lines[0].lstrip().startswith(("```", ">>>")) or lines[0].strip() == "Example:":
                yield "\n".join(line for line in lines if not line.startswith("```"))
                lines = []
            else:
                end = next((at for at, line in enumerate(lines) if line.strip() == ".. math::"), len(lines))
                yield _paragraph(lines[:end])
                lines = lines[end:]
        yield ""


def _split_indented(lines: list[str]) -> tuple[list[str], list[str]]:
    """Divide lines into the indented ones at the front, and the rest."""
    count = next((at for at, line in enumerate(lines) if not line.startswith(" ")), len(lines))
    return [line.strip() for line in lines[:count]], lines[count:]


def _paragraph(lines: list[str]) -> str:
    """Fill the width, an item of a list by itself."""
    items: list[str] = []
    for line in lines:
        if line.startswith("- ") or not items:
            items.append(line)
        else:
            items[-1] += " " + line.strip()
    return "\n".join(_filled(_unmarked(item)) for item in items)


def _unmarked(text: str) -> str:
    """Take away the marks of code and emphasis."""
    return re.sub(r"`+|(?<!\w)\*+(?=\w)|(?<=\w)\*+(?!\w)", "", text)


def _filled(text: str, indent: str = "") -> str:
    width = min(WIDEST, shutil.get_terminal_size().columns)
    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def plain_mathematics(formula: str) -> str:
    r"""Turn a LaTeX formula of the docstrings' kind into lines of ordinary characters.

    Example:
        >>> plain_mathematics(r"h_t = \tanh(W_x e_{x_t} + b), \quad x \sim \mathrm{U}(1), \quad y = \frac{x_1}{n}")
        'h_t = tanh(W_x e_(x_t) + b),  x ~ U(1),  y = (x_1)/n'
    """
    inner = r"\{((?:[^{}]|\{[^{}]*\})*)\}"  # a group with at most one group inside
    text = re.sub(r"\\(?:mathrm|text|mathbf|mathit|operatorname)" + inner, r"\1", " ".join(formula.split()))
    text = re.sub(r"\\frac" + inner + inner, lambda found: f"{_grouped(found[1])}/{_grouped(found[2])}", text)
    text = re.sub(r"\\([,;!]|[a-zA-Z]+)", lambda found: SPACES.get(found[1], SYMBOLS.get(found[1], found[1])), text)
    for _ in range(2):  # the inner group first
        text = re.sub(r"([_^])\{([^{}]*)\}", lambda found: found[1] + _grouped(found[2]), text)
    text = re.sub(" *([\t\n]) *| +", lambda found: found[1] or " ", text.replace("{", "").replace("}", ""))
    return "\n".join(_fitted(line) for line in text.split("\n"))


def _fitted(line: str) -> str:
    """Keep the parts of a formula on one line if they fit."""
    return line.replace("\t", "\n" if len(line) > NARROWEST else "  ")


def _grouped(part: str) -> str:
    """Put what is more than one name into brackets."""
    return part if re.fullmatch(r"[^\W_]+", part) else f"({part})"
