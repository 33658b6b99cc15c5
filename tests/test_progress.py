"""The live line: what it shows on a terminal, and that a pipe gets nothing."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from xenoglot.training.progress import Progress


def shown(*, is_terminal: bool = True, is_quiet: bool = False) -> str:
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=120, color_system=None)
    with Progress(2000, start_step=400, is_quiet=is_quiet, console=console) as progress:
        progress.show(1401, loss_nats=1.25, tokens_per_second=80_000.4, excess_nats=0.3125)
        progress.show(1402, loss_nats=1.125, tokens_per_second=81_000)
    return console.file.getvalue()


def test_a_terminal_shows_step_loss_excess_and_speed():
    line = shown()
    for part in ("step 1,402/2,000", "loss 1.125  excess 0.312 nats", "81,000 tokens/s", "left"):
        assert part in line


@pytest.mark.parametrize("setting", [{"is_terminal": False}, {"is_quiet": True}])
def test_a_pipe_and_another_process_get_nothing(setting):
    assert shown(**setting).strip() == ""


def test_a_time_to_go_is_measured_from_where_the_run_goes_on():
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with Progress(1000, start_step=900, console=console) as progress:
        progress.show(900, loss_nats=2.0, tokens_per_second=1.0)
        [task] = progress._bar.tasks
        assert (task.completed, task.remaining) == (900, 100)
