"""Trains in forked processes that are killed at random moments, and goes on; run by `test_fault_injection.py`.

The program is imported once: a start costs a tenth of a second instead of four. What runs in a process is the command
line, `xenoglot train`. Each line of output is a JSON mapping about one kill, and the last one about the end.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # an optimizer's first step would import it

import xenoglot.run as imported_once
from xenoglot.cli import main
from xenoglot.run_lock import LOCK_FILE

__all__ = ["imported_once"]

GRACE_SECONDS = 20.0
"""How long a process may take to notice that another one, with which it trains, is dead."""


def start(words: list[str], n_processes: int, log: Path) -> list[int]:
    """Start the command in as many processes, joined as by `torchrun`; return their ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(n_processes),
        "LOCAL_WORLD_SIZE": str(n_processes),
        "TORCHELASTIC_RUN_ID": "killing",
    }
    children = []
    for rank in range(n_processes):
        child = os.fork()
        if child == 0:
            if n_processes > 1:
                os.environ.update({**together, "RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"})
            run_and_exit(words, log)
        children.append(child)
    return children


def run_and_exit(words: list[str], log: Path) -> None:
    exit_code = 70
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        exit_code = main(words)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)


def wait(children: list[int], seconds: float) -> dict[int, int]:
    """Wait for the end of all, at most so long; return how those ended that did."""
    ended: dict[int, int] = {}
    deadline = time.monotonic() + seconds
    while len(ended) < len(children) and time.monotonic() < deadline:
        for child in set(children) - ended.keys():
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                ended[child] = os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    return ended


def kill(children: list[int]) -> None:
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def finish(words: list[str], n_processes: int, log: Path) -> None:
    """Run the command to its end."""
    children = start(words, n_processes, log)
    ended = wait(children, 200)
    kill([child for child in children if child not in ended])
    assert list(ended.values()) == [0] * n_processes, f"{ended}:\n{log.read_text()[-4000:]}"


def state_of(run: Path) -> dict[str, Any]:
    """Tell what a killed run left, before anything is put right."""
    checkpoints = run / "checkpoints"
    names = [path.name for path in checkpoints.iterdir()] if checkpoints.is_dir() else []
    steps = [int(name.removeprefix("step_")) for name in names if name.startswith("step_")]
    return {
        "newest": max(steps, default=0),
        "was_saving": is_saving(run),
        "logged_steps": logged_steps(run),
        "was_running": (run / LOCK_FILE).exists(),
    }


def is_saving(run: Path) -> bool:
    checkpoints = run / "checkpoints"
    return checkpoints.is_dir() and any(name.startswith(".") for name in os.listdir(checkpoints))


def logged_steps(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def killed(words: list[str], n_processes: int, run: Path, after_steps: list[int], rng: random.Random) -> None:
    """Kill the run after it has logged so many steps, each time a random moment later; a step of 0 is its beginning.

    Every second kill waits for a save to begin. Of two processes it is in turn both that are killed, the first (which
    writes), and the second; but both at the beginning, where one would wait long for the other to come.
    """
    log = run.with_suffix(".log")
    for number, target in enumerate(after_steps):
        children, ended = start(words, n_processes, log), {}
        while logged_steps(run) < target and not ended:
            ended = wait(children, 0.002)
        while target and number % 2 and not is_saving(run) and not ended:
            ended = wait(children, 0.001)
        longest_seconds = 0.6 if target == 0 else 0.02 if number % 2 else 0.1
        ended |= wait([child for child in children if child not in ended], rng.uniform(0.0, longest_seconds))
        chosen = [children, children[:1], children[-1:]][number % 3] if target else children
        victims = [child for child in chosen if child not in ended]
        if not victims:
            break
        kill(victims)
        others = [child for child in children if child not in victims and child not in ended]
        alone = wait(others, GRACE_SECONDS)
        kill([child for child in others if child not in alone])
        print(json.dumps({**state_of(run), "outlived": len(others) - len(alone)}), flush=True)
    finish(words, n_processes, log)


def together(folder: Path, words: list[str], n_processes: int, after_steps: list[int]) -> None:
    torch.set_num_threads(1)
    common = ["train", *words, "--checkpointing.runs_dir", str(folder)]
    finish([*common, "--checkpointing.run_name", "whole"], n_processes, folder / "whole.log")
    mended = [*common, "--checkpointing.run_name", "mended"]
    killed(mended, n_processes, folder / "mended", after_steps, random.Random(0))


if __name__ == "__main__":
    together(Path(sys.argv[1]), **json.loads(sys.argv[2]))
