"""The tree of errors: every message says what, what was got, what is allowed, and what to do next.

```
XenoglotError
├── OptionError        (ValueError)   an option has a value that is not allowed
├── UnknownNameError   (ValueError)   a name is not registered; suggests the nearest
├── ConfigFileError    (ValueError)   a configuration file cannot be used; names the file and the line
├── DataError          (ValueError)   given tokens, text or files cannot be used as they are
├── OutputError        (OSError)      a file or folder could not be written; nothing half-written is left
├── ResumeError        (ValueError)   a run cannot go on from what it left; nothing of it is changed
├── DivergenceError    (ArithmeticError)  training met a number that is not finite; no step was made
├── MissingExtraError  (ImportError)  an optional package is not installed; names the extra
├── LostProcessError   (RuntimeError) another process of the run is gone
└── OtherProcessError  (RuntimeError) another process of the run stopped, and says why itself
```
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ConfigFileError",
    "DataError",
    "DivergenceError",
    "LostProcessError",
    "MissingExtraError",
    "OptionError",
    "OtherProcessError",
    "OutputError",
    "ResumeError",
    "UnknownNameError",
    "XenoglotError",
]


class XenoglotError(Exception):
    """Any error that is about what the user asked for, not a bug of ours."""


class OptionError(XenoglotError, ValueError):
    """An option has a value that is not allowed.

    Args:
        option: The option's name, as the user wrote it.
        got: The value that was given.
        allowed: What would be accepted, in words ("a whole number, at least 2").
        advice: What to do next, if that does not follow from ``allowed``.

    Example:
        >>> raise OptionError("vocab_size", 1, "a whole number, at least 2")
        Traceback (most recent call last):
        xenoglot.errors.OptionError: vocab_size: got 1; allowed: a whole number, at least 2.
    """

    def __init__(self, option: str, got: object, allowed: str, advice: str = "") -> None:
        self.option = option
        self.got = got
        self.allowed = allowed
        self.advice = advice
        ending = f" {advice}" if advice else ""
        super().__init__(f"{option}: got {got!r}; allowed: {allowed}.{ending}")

    def at(self, section: str) -> OptionError:
        """Return the same complaint about an option of a section ("training.")."""
        return OptionError(section + self.option, self.got, self.allowed, self.advice)


class UnknownNameError(XenoglotError, ValueError):
    """A name is not among the known ones; the message suggests the nearest.

    Example:
        >>> raise UnknownNameError("family", "markof", ["markov", "metalm-v1"])
        Traceback (most recent call last):
        xenoglot.errors.UnknownNameError: unknown family 'markof'. Did you mean 'markov'? Known: markov, metalm-v1.
    """

    def __init__(self, kind: str, got: str, known: Iterable[str], advice: str = "") -> None:
        self.kind = kind
        self.got = got
        names = sorted(known)
        shared = got.rpartition(".")[0] + "."  # the section of an option: it says nothing about which of them is near
        by_end = {name.removeprefix(shared): name for name in names}
        nearest = [by_end[end] for end in difflib.get_close_matches(got.removeprefix(shared), by_end, n=1, cutoff=0.5)]
        suggestion = f" Did you mean {nearest[0]!r}?" if nearest else ""
        ending = f" {advice}" if advice else ""
        super().__init__(f"unknown {kind} {got!r}.{suggestion} Known: {', '.join(names)}.{ending}")


class ConfigFileError(XenoglotError, ValueError):
    """A configuration file cannot be read, or something in it is not allowed.

    Example:
        >>> raise ConfigFileError("run.yaml", "seed: got -1; allowed: a whole number, at least 0.", line=3)
        Traceback (most recent call last):
        xenoglot.errors.ConfigFileError: run.yaml, line 3: seed: got -1; allowed: a whole number, at least 0.
    """

    def __init__(self, path: object, problem: str, *, line: int | None = None) -> None:
        place = "" if line is None else f", line {line}"
        super().__init__(f"{path}{place}: {problem}")


class DataError(XenoglotError, ValueError):
    """Given tokens, text or files cannot be used as they are."""


class OutputError(XenoglotError, OSError):
    """A file or folder could not be written; nothing half-written is left behind."""


class ResumeError(XenoglotError, ValueError):
    """A run cannot go on from what it left: nothing whole is left, or something that matters is another now."""


class DivergenceError(XenoglotError, ArithmeticError):
    """Training met a loss or a gradient that is not finite; the step was not made."""


class MissingExtraError(XenoglotError, ImportError):
    """An optional package is not installed.

    Example:
        >>> raise MissingExtraError("pyarrow", extra="data", purpose="writing parquet")
        Traceback (most recent call last):
        xenoglot.errors.MissingExtraError: writing parquet needs pyarrow. Install it with: pip install 'xenoglot[data]'
    """

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}. Install it with: pip install 'xenoglot[{extra}]'")


class LostProcessError(XenoglotError, RuntimeError):
    """Another process of the run is gone without a word: killed, or its machine lost."""


class OtherProcessError(XenoglotError, RuntimeError):
    """Another process of the run stopped with an error, which it reports itself."""
