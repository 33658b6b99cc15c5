"""Declared options: what is allowed is what is said, and everything else is refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot.errors import OptionError
from xenoglot.options import check_options, option, options_of, whole_number


@dataclass(frozen=True, kw_only=True)
class Machine:
    size: int = option(3, "how big", unit="boxes", minimum=1, maximum=5)
    rate: float = option(0.5, "how fast", minimum=0.0, exclusive_minimum=True)
    is_loud: bool = option(False, "whether it hums")
    colour: str = option("red", "which paint", choices=("red", "blue"))
    mode: Literal["on", "off"] = option("on", "which way", choices=("on", "off"), flags=("state",))
    limit: int | None = option(None, "when to stop", minimum=0)
    undeclared: int = 7

    def __post_init__(self) -> None:
        check_options(self)


def test_declarations_are_read_in_order_from_class_and_instance() -> None:
    declared = options_of(Machine)
    assert [known.name for known in declared] == ["size", "rate", "is_loud", "colour", "mode", "limit"]
    assert declared == options_of(Machine(size=2))
    assert [known.kind for known in declared] == [int, float, bool, str, str, int]
    assert [known.optional for known in declared] == [False] * 5 + [True]
    assert declared[0].unit == "boxes"
    assert declared[4].flags == ("state",)


def test_what_is_allowed_in_words() -> None:
    assert [known.allowed for known in options_of(Machine)] == [
        "a whole number from 1 to 5",
        "a number, above 0",
        "true or false",
        "one of red, blue",
        "one of on, off",
        "a whole number, at least 0, or none",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", 0),
        ("size", 6),
        ("size", 2.0),
        ("size", "2"),
        ("size", True),
        ("size", None),
        ("rate", 0.0),
        ("rate", -1),
        ("rate", float("nan")),
        ("rate", float("inf")),
        ("rate", "fast"),
        ("is_loud", 1),
        ("colour", "green"),
        ("colour", None),
        ("mode", "ON"),
        ("limit", -1),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(OptionError) as caught:
        Machine(**{name: value})
    assert caught.value.option == name
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", 1),
        ("size", 5),
        ("size", np.int64(4)),
        ("rate", 1e-9),
        ("rate", 2),
        ("rate", np.float32(0.25)),
        ("limit", None),
        ("limit", 0),
        ("is_loud", True),
        ("colour", "blue"),
    ],
)
def test_what_is_allowed_passes(name: str, value: Any) -> None:
    assert getattr(Machine(**{name: value}), name) == value


@settings(max_examples=50, deadline=None)
@given(value=st.integers(-10, 10), minimum=st.integers(-5, 5), width=st.integers(0, 5) | st.none())
def test_whole_numbers_pass_exactly_within_their_limits(value: int, minimum: int, width: int | None) -> None:
    maximum = None if width is None else minimum + width
    if minimum <= value and (maximum is None or value <= maximum):
        assert whole_number("n", value, minimum=minimum, maximum=maximum) == value
    else:
        with pytest.raises(OptionError, match=f"^n: got {value}; allowed: a whole number"):
            whole_number("n", value, minimum=minimum, maximum=maximum)
