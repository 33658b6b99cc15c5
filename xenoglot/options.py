"""Options declared once: a frozen dataclass's fields carry their meaning, limits, units and flags.

Checks, ``--help``, ``xenoglot describe`` and the command line's flags are all read off the same declaration.

```python
@dataclass(frozen=True, kw_only=True)
class Coin:
    bias: float = option(0.5, "probability of heads", minimum=0.0, maximum=1.0)

    def __post_init__(self) -> None:
        check_options(self)
```
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xenoglot.errors import OptionError

__all__ = ["Option", "check_options", "option", "options_of", "whole_number"]

_METADATA_KEY = "xenoglot.option"


@dataclass(frozen=True, kw_only=True)
class Option:
    """What one field of a configuration means and allows."""

    name: str
    kind: type
    """``int``, ``float``, ``bool`` or ``str``; of each member of a list."""
    optional: bool
    """Whether ``None`` is allowed."""
    default: Any
    doc: str
    unit: str
    minimum: float | None
    maximum: float | None
    exclusive_minimum: bool
    choices: tuple[str, ...]
    flags: tuple[str, ...]
    """Further names that the command line understands, without dashes."""
    is_list: bool = False
    """Whether it has any number of such values, a tuple."""

    @property
    def allowed(self) -> str:
        """What the option accepts, in words."""
        if self.is_list:
            return f"a list, each of it {dataclasses.replace(self, is_list=False).allowed}"
        if self.choices:
            words = "one of " + ", ".join(self.choices)
        elif self.kind is bool:
            words = "true or false"
        else:
            words = {int: "a whole number", float: "a number", str: "text"}[self.kind]
            low = "above" if self.exclusive_minimum else "at least"
            if self.minimum is not None and self.maximum is not None and not self.exclusive_minimum:
                words += f" from {self.minimum:g} to {_plain(self.maximum)}"
            elif self.minimum is not None:
                words += f", {low} {self.minimum:g}"
                words += "" if self.maximum is None else f", at most {_plain(self.maximum)}"
        return words + (", or none" if self.optional else "")

    def check(self, value: object) -> None:
        """Raise `OptionError` unless ``value`` is allowed."""
        if value is None and self.optional:
            return
        if self.is_list:
            each = dataclasses.replace(self, is_list=False)
            if not isinstance(value, list | tuple) or not all(each._is_allowed(member) for member in value):
                raise OptionError(self.name, value, self.allowed)
            return
        if not self._is_allowed(value):
            raise OptionError(self.name, value, self.allowed)

    def _is_allowed(self, value: object) -> bool:
        return self._has_right_type(value) and self._is_within_limits(value)

    def _has_right_type(self, value: object) -> bool:
        if self.kind is bool:
            return isinstance(value, bool)
        if self.kind is int:
            return isinstance(value, int | np.integer) and not isinstance(value, bool)
        if self.kind is float:
            is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
            return is_number and math.isfinite(typing.cast(float, value))
        return isinstance(value, self.kind)

    def _is_within_limits(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        if self.minimum is not None and (value < self.minimum or (self.exclusive_minimum and value == self.minimum)):
            return False
        return self.maximum is None or value <= self.maximum


def option(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    exclusive_minimum: bool = False,
    choices: tuple[str, ...] = (),
    flags: tuple[str, ...] = (),
) -> Any:
    """Declare one field of a configuration dataclass.

    Args:
        default: The value if none is given.
        doc: One line on what it means.
        unit: What it is counted in, for people.
        minimum: The least allowed value.
        maximum: The greatest allowed value.
        exclusive_minimum: Whether ``minimum`` itself is refused.
        choices: The allowed words, for text.
        flags: Further names on the command line, such as those of earlier systems.
    """
    metadata: Mapping[str, Any] = {
        _METADATA_KEY: {
            "doc": doc,
            "unit": unit,
            "minimum": minimum,
            "maximum": maximum,
            "exclusive_minimum": exclusive_minimum,
            "choices": choices,
            "flags": flags,
        }
    }
    return dataclasses.field(default=default, metadata=metadata)


def options_of(configuration: Any) -> tuple[Option, ...]:
    """List the declared options of a dataclass or of one of its instances, in order."""
    owner = configuration if isinstance(configuration, type) else type(configuration)
    hints = typing.get_type_hints(owner)
    return tuple(
        _read(field, hints[field.name]) for field in dataclasses.fields(owner) if _METADATA_KEY in field.metadata
    )


def check_options(configuration: Any) -> None:
    """Check every declared option of an instance.

    Raises:
        OptionError: Naming the first option whose value is not allowed.
    """
    for declared in options_of(configuration):
        declared.check(getattr(configuration, declared.name))


def whole_number(name: str, value: object, *, minimum: int, maximum: int | None = None) -> int:
    """Check an argument that is not a field, and return it as a plain ``int``.

    Example:
        >>> whole_number("length", 0, minimum=1)
        Traceback (most recent call last):
        xenoglot.errors.OptionError: length: got 0; allowed: a whole number, at least 1.
    """
    declared = Option(
        name=name,
        kind=int,
        optional=False,
        default=None,
        doc="",
        unit="",
        minimum=minimum,
        maximum=maximum,
        exclusive_minimum=False,
        choices=(),
        flags=(),
    )
    declared.check(value)
    return int(typing.cast(int, value))


def _read(field: dataclasses.Field[Any], hint: Any) -> Option:
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kinds = [member for member in members if member is not type(None)]
    if typing.get_origin(kinds[0]) is typing.Literal:
        kinds = [str]
    is_list = typing.get_origin(kinds[0]) is tuple
    return Option(
        name=field.name,
        kind=typing.get_args(kinds[0])[0] if is_list else kinds[0],
        is_list=is_list,
        optional=type(None) in members,
        default=field.default,
        **field.metadata[_METADATA_KEY],
    )


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else f"{number:g}"
