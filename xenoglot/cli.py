"""The program ``xenoglot``: finds its commands, reads the command line, and turns errors into one clean line.

Nothing heavy is imported here: help, completion and complaints answer at once.

Exit codes: 0 done, 1 not all is well (`verify`, `push`), 2 something about what was asked for, 130 Ctrl-C, 143
terminated.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType, ModuleType
from typing import Any, NoReturn

import shtab

import xenoglot
from xenoglot.commands.base import (
    CommandParser,
    abandon_standard_output,
    command_modules,
    spelled_as_declared,
    unknown_command,
)
from xenoglot.errors import OtherProcessError, XenoglotError

__all__ = ["main"]

COMPLETION_FLAG = "--print-completion"
DESCRIPTION = """\
The lab for meta language models: models that learn a brand-new language, measured against the exact loss of the best
possible learner."""
SPINS_BEFORE_SLEEP = 10_000
"""How often a thread of torch's looks for work before it sleeps. GNU OpenMP's own 300,000 gain nothing here when the
machine is ours, and cost a factor of five and more when another program has one of two cores."""
OF_A_PATH = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR)
"""What may be wrong with a path that was named, wherever it is first looked at."""


class _Terminated(KeyboardInterrupt):
    """The process was asked to end: whatever cleans up after Ctrl-C does so now too."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        words: The command line after the program's name; that of this process if None.

    Returns:
        The exit code.
    """
    given = list(sys.argv[1:] if words is None else words)
    os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS_BEFORE_SLEEP))  # read once, when torch is first imported
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        exit_code = _run(given)
        sys.stdout.flush()  # here, where a pipe that was closed is no error
        return exit_code
    except OtherProcessError:
        return 2  # the one that it happened to says so
    except XenoglotError as error:
        print(f"xenoglot: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        abandon_standard_output()  # whoever read it has seen enough
        return 0
    except OSError as error:
        if error.filename is None or error.errno not in OF_A_PATH:
            raise
        print(f"xenoglot: {error.filename}: {error.strerror}. Give a path that this user may use.", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        terminated = isinstance(interrupt, _Terminated)
        print(
            f"xenoglot: {'terminated' if terminated else 'interrupted'}; nothing half-written is left", file=sys.stderr
        )
        return 143 if terminated else 130
    finally:
        signal.signal(signal.SIGTERM, previous)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _run(words: list[str]) -> int:
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # where a family of one's own, my_module:Mine, is likely to be
    modules = command_modules()
    name = words[0] if words else ""
    if name and not name.startswith("-") and name not in modules:
        raise unknown_command(name, modules)
    parser, parsers = _parsers(modules, words)
    chosen = parsers.get(name, parser)
    arguments, unknown = parser.parse_known_args(words[:1] + spelled_as_declared(words[1:], chosen))
    if unknown:
        chosen.refuse(unknown[0])
    if name not in modules:
        parser.print_help()
        return 0
    return int(modules[name].run(arguments))


def _parsers(modules: dict[str, ModuleType], words: list[str]) -> tuple[CommandParser, dict[str, CommandParser]]:
    """Build the program's parser and those of its commands."""
    parser = CommandParser(prog="xenoglot", description=DESCRIPTION)
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the program's version and exit")
    shtab.add_argument_to(parser, COMPLETION_FLAG, help="print a shell's completion script and exit")
    is_completing = bool(words) and words[0].startswith(COMPLETION_FLAG)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    parsers = {}
    for name, module in modules.items():
        parsers[name] = subparsers.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(parsers[name])
        if hasattr(module, "add_more_arguments") and (is_completing or words[:1] == [name]):
            module.add_more_arguments(parsers[name], words[1:])
    return parser, parsers


class _ShowVersion(argparse.Action):
    """Looks the version up only when asked: reading an installed package's metadata takes a while."""

    def __call__(self, parser: argparse.ArgumentParser, *unused: Any) -> None:
        print(f"xenoglot {xenoglot.__version__}")
        parser.exit()
