"""A run that dies between two steps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from xenoglot.training.learner import Learner


@contextlib.contextmanager
def dying_after(monkeypatch: pytest.MonkeyPatch, n_steps: int) -> Iterator[None]:
    """Whatever trains in here ends with an error after so many steps, and has to."""
    update = Learner.update

    def dying(self: Learner, step: int, *arguments: Any, **keywords: Any) -> Any:
        if step == n_steps:
            raise ZeroDivisionError
        return update(self, step, *arguments, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr(Learner, "update", dying)
        with pytest.raises(ZeroDivisionError):
            yield
