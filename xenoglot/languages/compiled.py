"""Families whose rows are written by compiled code, many rows at once on several threads."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from xenoglot.kernels import run_rows
from xenoglot.languages.base import Family, Language, Nats, Tokens

__all__ = ["CompiledFamily", "CompiledLanguage"]

OwnLanguage = TypeVar("OwnLanguage", bound=Language)

NO_FLOOR = np.empty((0, 0), np.float32)


class CompiledFamily(Family, Generic[OwnLanguage]):
    """A family that writes its rows, and those of its languages, in one compiled function.

    Attributes:
        work_per_token: About how many times as much work a token is as one of MetaLM-1: says when threads pay.
    """

    work_per_token: ClassVar[int] = 1

    @abstractmethod
    def _write(
        self, language: OwnLanguage | None, seed: int, start: int, inputs: Tokens, targets: Tokens, floor_nats: Nats
    ) -> None:
        """Write rows ``start``, ``start + 1``, ... of a language, or each of its own one if that is None.

        The floor is written too, unless ``floor_nats`` is empty. Called from several threads at once.
        """

    def _fill(
        self, seed: int, start: int, inputs: Tokens, targets: Tokens, floor_nats: Nats | None, threads: int | None
    ) -> None:
        self._share_out(None, seed, start, inputs, targets, floor_nats, threads)

    def _share_out(
        self,
        language: OwnLanguage | None,
        seed: int,
        start: int,
        inputs: Tokens,
        targets: Tokens,
        floor_nats: Nats | None,
        threads: int | None,
    ) -> None:
        def work(first: int, last: int) -> None:
            floor_rows = NO_FLOOR if floor_nats is None else floor_nats[first:last]
            self._write(language, seed, start + first, inputs[first:last], targets[first:last], floor_rows)

        run_rows(work, n_rows=len(inputs), length=self.work_per_token * inputs.shape[1], threads=threads)


class CompiledLanguage(Language):
    """A language of a `CompiledFamily`."""

    family: CompiledFamily[Any]

    def _fill(
        self, seed: int, start: int, inputs: Tokens, targets: Tokens, floor_nats: Nats | None, threads: int | None
    ) -> None:
        self.family._share_out(self, seed, start, inputs, targets, floor_nats, threads)
