"""A disk that is full while a checkpoint is saved: the run says so, and what was there before stays whole."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from xenoglot.checkpoint import Checkpoints, TrainingState, verify_checkpoint
from xenoglot.config import CheckpointingConfig, ModelConfig
from xenoglot.decoder import Decoder
from xenoglot.errors import OutputError

CONFIG = ModelConfig(d_model=16, n_layers=1, activation_hidden_dim=16, max_seq_len=8, vocab_size=7)
SMALL = TrainingState(tensors={"moment": torch.ones(3)}, facts={})
BIG = TrainingState(tensors={"moment": torch.ones(300_000)}, facts={})


def save(run: Path, step: int, state: TrainingState = SMALL, config: CheckpointingConfig | None = None) -> None:
    with Checkpoints(run, config or CheckpointingConfig()) as checkpoints:
        checkpoints.save(step, config=CONFIG, weights=Decoder(CONFIG).state_dict(), state=state)


def check_that_a_full_disk_is_said(run: Path, config: CheckpointingConfig, reason: str) -> None:
    """Save what does not fit after something that did."""
    message = f"step_2: the checkpoint cannot be written: {reason}. Nothing half-written"
    with pytest.raises(OutputError, match=message):
        save(run, 2, BIG, config)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step_1"]
    assert verify_checkpoint(run / "checkpoints" / "step_1") == []


@pytest.mark.parametrize("in_background", [False, True])
def test_a_file_that_may_not_grow_is_said_and_leaves_the_earlier_one(tmp_path: Path, in_background: bool) -> None:
    """The system refuses writes beyond a limit for a process's files, wherever the test may run."""
    save(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        config = CheckpointingConfig(save_in_background=in_background)
        check_that_a_full_disk_is_said(tmp_path, config, "File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    save(tmp_path, 2)
    assert verify_checkpoint(tmp_path / "checkpoints" / "step_2") == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("in_background", [False, True])
def test_a_full_disk_is_said_and_leaves_the_earlier_one(small_disk: Path, in_background: bool) -> None:
    save(small_disk, 1)
    config = CheckpointingConfig(save_in_background=in_background)
    check_that_a_full_disk_is_said(small_disk, config, "No space left on device")
    save(small_disk, 2)  # what did not fit took no room away
    assert verify_checkpoint(small_disk / "checkpoints" / "step_2") == []
