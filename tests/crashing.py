"""Saves checkpoints in forked processes that die, and tells what is left; run by `test_crashes.py`.

torch is imported once, so that a process costs milliseconds. Each line of output is a JSON mapping.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from xenoglot.checkpoint import Checkpoints, RunLock, TrainingState, verify_checkpoint
from xenoglot.config import CheckpointingConfig, ModelConfig
from xenoglot.decoder import Decoder

CONFIG = ModelConfig(d_model=16, n_layers=1, activation_hidden_dim=16, max_seq_len=8, vocab_size=7)
FILE_EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}


def save(run: Path, step: int, content: int, *, keep_last: int | None = None, n_numbers: int = 3) -> None:
    config = CheckpointingConfig(save_in_background=False, keep_last=keep_last)
    state = TrainingState(tensors={"content": torch.full((n_numbers,), content)}, facts={"content": content})
    weights = {name: torch.full_like(weight, content) for name, weight in Decoder(CONFIG).state_dict().items()}
    with RunLock(run), Checkpoints(run, config) as checkpoints:
        checkpoints.save(step, config=CONFIG, weights=weights, state=state)


def found(run: Path) -> dict[str, object]:
    """Do what a resumed run does, and tell what it goes on from."""
    with RunLock(run), Checkpoints(run, CheckpointingConfig()) as checkpoints:
        newest = checkpoints.latest()
        names = sorted(path.name for path in (run / "checkpoints").iterdir())
        if newest is None:
            return {"step": None, "names": names}
        weights, state = newest.read()
        contents = {
            state.facts["content"],
            *(tensor.unique().item() for tensor in (*weights.values(), state.tensors["content"])),
        }
        assert len(contents) == 1, f"parts of different checkpoints: {contents}"
        assert verify_checkpoint(newest.folder) == []
        return {"step": newest.step, "content": contents.pop(), "names": names}


def dies_at(point: int, act: Callable[[], None]) -> bool:
    """Do something in a process that dies at the n-th thing it does to files; say whether it came that far."""
    child = os.fork()
    if child == 0:
        countdown = [point]
        fsync = os.fsync

        def count(event: str) -> None:
            if event in FILE_EVENTS:
                countdown[0] -= 1
                if countdown[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        def counted_fsync(descriptor: int) -> None:
            count("open")
            fsync(descriptor)

        os.fsync = counted_fsync
        sys.addaudithook(lambda event, arguments: count(event))
        act()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
    return status != 0


def every_point(base: Path, act: Callable[[Path], None]) -> Iterator[tuple[int, Path]]:
    """Yield a copy of a run for every point at which a process that acted on it died, and one where it did not."""
    died, point = True, 0
    while died:
        run = base.with_name(f"{base.name}-{point}")
        shutil.copytree(base, run)
        died = dies_at(point, lambda run=run: act(run))
        yield point, run
        shutil.rmtree(run)
        point += 1


def scenario(base: Path, name: str) -> None:
    """Die at every point of a save, and again at every point of putting right what that left."""
    base.mkdir()
    save(base, 1, 1)
    if name == "replace":
        save(base, 2, 8)
    for point, run in every_point(base, lambda run: save(run, 2, 9, keep_last=1 if name == "retention" else None)):
        is_between = any(path.name.endswith(".earlier") for path in (run / "checkpoints").iterdir())
        for second_point, resumed in every_point(run, found) if is_between else ():
            print(json.dumps({"points": [point, second_point], **found(resumed)}))
        print(json.dumps({"points": [point], **found(run)}))


def random_kills(run: Path, n_kills: int) -> None:
    """Save in the background again and again, and be killed at random moments."""
    run.mkdir()
    rng = random.Random(0)
    for _ in range(n_kills):
        child = os.fork()
        if child == 0:
            keep_saving(run)
        time.sleep(rng.uniform(0.02, 0.15))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        folder = run / "checkpoints"
        was_saving = any(path.name.startswith(".") for path in folder.iterdir()) if folder.exists() else False
        print(json.dumps({"was_saving": was_saving, **found(run)}))


def keep_saving(run: Path) -> None:
    config = CheckpointingConfig(keep_last=2)
    with RunLock(run), Checkpoints(run, config) as checkpoints:
        newest = checkpoints.latest()
        step = 0 if newest is None else newest.step
        while True:
            step += 1
            state = TrainingState(tensors={"content": torch.full((300_000,), step)}, facts={"content": step})
            weights = {name: torch.full_like(weight, step) for name, weight in Decoder(CONFIG).state_dict().items()}
            checkpoints.save(step, config=CONFIG, weights=weights, state=state)
            time.sleep(0.01)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=sys.argv[1]) as parent:
        if sys.argv[2] == "random":
            random_kills(Path(parent) / "run", int(sys.argv[3]))
        else:
            scenario(Path(parent) / "run", sys.argv[2])
