"""The live line of a run: where it is, how well it does, and when it will be done."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

__all__ = ["Progress"]

REFRESHES_PER_SECOND = 4
"""Enough to look alive; drawing runs in a thread of its own and takes its time from training."""


class Progress:
    """A line on stderr with step, loss, excess, speed and time to go; nothing where stderr is no terminal.

    Used as a context manager around the loop; `show` is called after every step and costs microseconds.

    Args:
        max_steps: Steps of the whole run.
        start_step: Steps that were made before, of a run that goes on.
        is_quiet: Whether to show nothing anyhow, as processes other than the first do.
        console: Where to; stderr if None.

    Example:
        >>> with Progress(1000, start_step=400) as progress:
        ...     progress.show(401, loss_nats=1.25, tokens_per_second=80_000)
        ...     progress.show(402, loss_nats=1.24, tokens_per_second=80_000, excess_nats=0.31)   # stays from here on
    """

    def __init__(
        self, max_steps: int, *, start_step: int = 0, is_quiet: bool = False, console: Console | None = None
    ) -> None:
        console = Console(stderr=True) if console is None else console
        self._bar = RichProgress(
            TextColumn("step {task.completed:,.0f}/{task.total:,.0f}"),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            disable=is_quiet or not console.is_terminal,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
        )
        self._task = self._bar.add_task("", total=max_steps, completed=start_step)
        self._loss = self._query = self._excess = ""

    def show(
        self,
        step: int,
        *,
        tokens_per_second: float,
        loss_nats: float | None = None,
        query_loss_nats: float | None = None,
        excess_nats: float | None = None,
    ) -> None:
        """Show where the run is; a number that is None stays what it was.

        Args:
            step: Steps made so far.
            tokens_per_second: The last step's speed.
            loss_nats: Of the last step that predicted tokens.
            query_loss_nats: Of the last step of tasks, after adapting.
            excess_nats: What the last evaluation lost above the floor.
        """
        if loss_nats is not None:
            self._loss = f"loss {loss_nats:.3f}"
        if query_loss_nats is not None:
            self._query = f"query loss {query_loss_nats:.3f}"
        if excess_nats is not None:
            self._excess = f"excess {excess_nats:.3f}"
        losses = "  ".join(filter(None, (self._loss, self._query, self._excess)))
        description = f"{losses} nats  {tokens_per_second:,.0f} tokens/s "
        self._bar.update(self._task, completed=step, description=description)

    def __enter__(self) -> Self:
        if not self._bar.disable:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._bar.disable:  # to stop what never started is a blank line with rich before 14.3
            self._bar.stop()
