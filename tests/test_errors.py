"""Errors say what, what was got, what is allowed and what to do next, and are caught as Python's own kinds too."""

from __future__ import annotations

import pytest

from xenoglot.errors import (
    DataError,
    MissingExtraError,
    OptionError,
    OutputError,
    UnknownNameError,
    XenoglotError,
)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OptionError("a", 1, "b"), ValueError),
        (UnknownNameError("a", "b", []), ValueError),
        (DataError("a"), ValueError),
        (OutputError("a"), OSError),
        (MissingExtraError("a", extra="b", purpose="c"), ImportError),
    ],
)
def test_each_is_both_ours_and_python_s(error: XenoglotError, kind: type[Exception]) -> None:
    assert isinstance(error, XenoglotError)
    assert isinstance(error, kind)


def test_an_option_error_has_its_four_parts() -> None:
    error = OptionError("error_rate", 1.5, "a number from 0 to 1", "Noise is a probability.")
    assert str(error) == "error_rate: got 1.5; allowed: a number from 0 to 1. Noise is a probability."
    assert (error.option, error.got) == ("error_rate", 1.5)


@pytest.mark.parametrize(
    ("got", "suggestion"),
    [("markof", "Did you mean 'markov'?"), ("metalm-v3", "Did you mean 'metalm-v"), ("zzz", "Known:")],
)
def test_an_unknown_name_suggests_the_nearest(got: str, suggestion: str) -> None:
    message = str(UnknownNameError("family", got, ["metalm-v1", "metalm-v2", "markov"], "Look it up."))
    assert message.startswith(f"unknown family {got!r}.")
    assert suggestion in message
    assert message.endswith("Known: markov, metalm-v1, metalm-v2. Look it up.")
    assert ("Did you mean" in message) == (got != "zzz")


def test_a_missing_extra_says_what_to_install() -> None:
    error = MissingExtraError("pyarrow", extra="data", purpose="writing parquet")
    assert str(error) == "writing parquet needs pyarrow. Install it with: pip install 'xenoglot[data]'"
