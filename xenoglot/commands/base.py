"""What commands share: the parser that explains itself, and declared options as flags."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import importlib
import os
import pkgutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any, NoReturn

from xenoglot import commands
from xenoglot.errors import OptionError, UnknownNameError, XenoglotError
from xenoglot.options import Option

__all__ = [
    "CommandParser",
    "abandon_standard_output",
    "add_option_flags",
    "command_modules",
    "facts_of",
    "given_options",
    "read_value",
    "spelled_as_declared",
    "unknown_command",
]

TRUE_WORDS = ("true", "yes", "1")
FALSE_WORDS = ("false", "no", "0")
NONE_WORD = "none"
LONGEST_METAVAR = 30


def command_modules() -> dict[str, ModuleType]:
    """Import every command file of the folder, by name."""
    names = sorted(found.name for found in pkgutil.iter_modules(commands.__path__) if found.name != "base")
    return {name: importlib.import_module(f"{commands.__name__}.{name}") for name in names}


class CommandParser(argparse.ArgumentParser):
    """A parser that raises its complaints as `XenoglotError`, and guesses what an unknown option was meant to be."""

    explain_unknown: Callable[[str], str] = staticmethod(lambda flag: "")
    """What a command knows about an option that it does not have."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        keywords.setdefault("formatter_class", _HelpFormatter)
        keywords.setdefault("allow_abbrev", False)
        super().__init__(*args, **keywords)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print and exit with."""
        raise XenoglotError(f"{message}. See: {self.prog} --help")

    def flags(self) -> list[str]:
        """List every long option."""
        return sorted(flag for flag in self._option_string_actions if flag.startswith("--"))

    def refuse(self, word: str) -> NoReturn:
        """Raise an error about an option that does not exist."""
        flag = word.partition("=")[0]
        if not flag.startswith("-"):
            raise XenoglotError(f"unexpected argument {word!r}. See: {self.prog} --help")
        nearest = difflib.get_close_matches(flag, self.flags(), n=1, cutoff=0.6)
        explanation = self.explain_unknown(flag)
        explanation += f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise XenoglotError(f"unknown option {flag!r}.{explanation} See: {self.prog} --help")


class _HelpFormatter(argparse.HelpFormatter):
    """Help with room for names, paragraphs and lists kept, and nothing cut to the terminal's narrowest."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(self._fill_part(part, width, indent) for part in text.strip("\n").split("\n\n"))

    def _fill_part(self, part: str, width: int, indent: str) -> str:
        """Fill a paragraph; lines that begin with spaces are a list, one item each."""
        if not part.startswith(" "):
            return super()._fill_text(part, width, indent)
        items = (line.strip() for line in part.splitlines())
        return "\n".join(textwrap.fill(item, width, initial_indent="  ", subsequent_indent="      ") for item in items)


def spelled_as_declared(words: Sequence[str], parser: CommandParser) -> list[str]:
    """Replace dashes and underscores in options by those that the parser has: both spellings are understood.

    Example:
        >>> parser = CommandParser(prog="demo")
        >>> _ = parser.add_argument("--error_rate")
        >>> spelled_as_declared(["--error-rate=0.1", "a-b"], parser)
        ['--error_rate=0.1', 'a-b']
    """
    declared = {flag.replace("-", "_"): flag for flag in parser.flags()}
    spelled: list[str] = []
    for index, word in enumerate(words):
        if word == "--":
            return [*spelled, *words[index:]]
        flag, equals, value = word.partition("=")
        if flag.startswith("--") and flag not in parser.flags():
            flag = declared.get(flag.replace("-", "_"), flag)
        spelled.append(flag + equals + value)
    return spelled


def add_option_flags(parser: argparse._ActionsContainer, options: Iterable[Option]) -> None:
    """Add a flag for each declared option; what is not given stays out of the parsed arguments."""
    for declared in options:
        details: dict[str, Any] = {"metavar": _metavar(declared)}
        if declared.kind is bool:
            details |= {"nargs": "?", "const": TRUE_WORDS[0]}
        parser.add_argument(
            *(f"--{name}" for name in (declared.name, *declared.flags)),
            dest=declared.name,
            default=argparse.SUPPRESS,
            help=_help(declared).replace("%", "%%"),
            **details,
        )


def given_options(arguments: argparse.Namespace, options: Iterable[Option]) -> dict[str, Any]:
    """Return the values of those declared options that were given.

    Raises:
        OptionError: Naming the first one that is not of its kind, or not within its limits.
    """
    return {
        declared.name: read_value(declared, getattr(arguments, declared.name))
        for declared in options
        if hasattr(arguments, declared.name)
    }


def read_value(declared: Option, text: str) -> Any:
    """Turn a word of the command line into an option's value.

    Raises:
        OptionError: If it is not of the option's kind, or not within its limits.
    """
    value: Any = text
    if declared.is_list:
        each = dataclasses.replace(declared, is_list=False)
        words = [] if text.lower() in ("", NONE_WORD) else text.split(",")
        return tuple(read_value(each, word.strip()) for word in words)
    if declared.optional and text.lower() == NONE_WORD:
        value = None
    elif declared.kind is bool:
        value = True if text.lower() in TRUE_WORDS else False if text.lower() in FALSE_WORDS else text
    elif declared.kind in (int, float):
        try:
            value = declared.kind(text)
        except ValueError as error:
            raise OptionError(declared.name, text, declared.allowed) from error
    declared.check(value)
    return value


def _metavar(declared: Option) -> str:
    if declared.is_list:
        return f"{_metavar(dataclasses.replace(declared, is_list=False))},..."
    choices = "|".join(declared.choices)
    if choices:
        return choices if len(choices) <= LONGEST_METAVAR else "NAME"  # the explanation lists them
    return {int: "N", float: "X", bool: "true|false", str: "TEXT"}[declared.kind]


def facts_of(declared: Option) -> str:
    """Say in words what an option allows, in what unit, and its default; empty if there is nothing to say."""
    facts = []
    if declared.kind in (int, float):
        facts += [declared.allowed, *([f"in {declared.unit}"] if declared.unit else [])]
    elif declared.choices:
        facts.append(declared.allowed)
    if declared.is_list and declared.default:
        facts.append(f"default {','.join(map(str, declared.default))}")
    elif declared.default is not None and not declared.is_list:
        facts.append(f"default {str(declared.default).lower() if declared.kind is bool else declared.default}")
    return "; ".join(facts)


def _help(declared: Option) -> str:
    facts = facts_of(declared)
    return f"{declared.doc} [{facts}]" if facts else declared.doc


def abandon_standard_output() -> None:
    """Send what is still buffered to nowhere: Python would try once more at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def unknown_command(name: str, known: Iterable[str]) -> UnknownNameError:
    """Make the error about a command that does not exist."""
    return UnknownNameError("command", name, known, "See: xenoglot --help")
