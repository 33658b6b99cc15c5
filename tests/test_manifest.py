"""No damage to a folder with a manifest goes unseen: a flipped bit, a torn, missing, exchanged or added file."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xenoglot.checkpoint import Checkpoint, Checkpoints, TrainingState, verify_checkpoint
from xenoglot.config import CheckpointingConfig, ModelConfig
from xenoglot.decoder import Decoder
from xenoglot.errors import DataError
from xenoglot.storage.manifest import inspect_folder, write_manifest

CONFIG = ModelConfig(d_model=16, n_layers=1, activation_hidden_dim=16, max_seq_len=8, vocab_size=7)


def save(run: Path, seed: int) -> Path:
    weights = Decoder(CONFIG, torch.Generator().manual_seed(seed)).state_dict()
    state = TrainingState(tensors={"moment": torch.ones(3)}, facts={"seed": seed})
    files = {"tokenizer.json": b"{}", "empty.txt": b""}
    with Checkpoints(run, CheckpointingConfig(save_in_background=False)) as checkpoints:
        return checkpoints.save(5, config=CONFIG, weights=weights, state=state, files=files)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("whole"), 0)


FILES = [
    *("config.json", "model.safetensors", "tokenizer.json", "manifest.json"),
    *("state/training_state.json", "state/training_state.safetensors"),
]


@pytest.fixture
def damaged(whole: Path, tmp_path: Path) -> Iterator[Path]:
    copy = tmp_path / "checkpoints" / "step_5"
    shutil.copytree(whole, copy)
    assert verify_checkpoint(copy) == []
    return copy


def check_that_it_shows(folder: Path, name: str) -> None:
    faults = verify_checkpoint(folder)
    assert any(name in fault for fault in faults), faults
    with pytest.raises(DataError, match="damaged"):
        Checkpoint(folder=folder, step=5).read()


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_one_flipped_bit_shows(damaged: Path, name: str, data: st.DataObject) -> None:
    path = damaged / name
    raw = path.read_bytes()
    place, bit = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 7))
    changed = bytearray(raw)
    changed[place] ^= 1 << bit
    path.write_bytes(changed)
    check_that_it_shows(damaged, name)
    path.write_bytes(raw)


def test_every_single_bit_of_a_manifest_shows(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    write_manifest(tmp_path, {"step": 5, "name": "ä"})
    assert inspect_folder(tmp_path).faults == []
    path = tmp_path / "manifest.json"
    raw = path.read_bytes()
    unseen = []
    for place in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        unseen += [] if inspect_folder(tmp_path).damage else [place]
    assert unseen == []


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_or_longer_file_shows(damaged: Path, name: str) -> None:
    path = damaged / name
    raw = path.read_bytes()
    lengths = sorted({0, 1, len(raw) - 1, *range(0, len(raw), max(1, len(raw) // 20))} - {len(raw)})
    for changed in (*(raw[:length] for length in lengths), raw + b"\0", raw + b"\n", b"\0" * len(raw)):
        path.write_bytes(changed)
        check_that_it_shows(damaged, name)


@pytest.mark.parametrize("name", [*FILES, "empty.txt"])
def test_a_missing_file_shows(damaged: Path, name: str) -> None:
    (damaged / name).unlink()
    check_that_it_shows(damaged, name)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_something_else_under_the_name_shows(damaged: Path, kind: str) -> None:
    (damaged / "config.json").unlink()
    os.mkfifo(damaged / "config.json") if kind == "pipe" else (damaged / "config.json").mkdir()
    check_that_it_shows(damaged, "config.json")


@pytest.mark.parametrize("name", ["stray", ".hidden", "state/stray", "new/stray"])
def test_an_added_file_shows_but_is_no_damage(damaged: Path, name: str) -> None:
    (damaged / name).parent.mkdir(exist_ok=True)
    (damaged / name).touch()
    assert verify_checkpoint(damaged) == [f"{name} was added after the folder was finished"]
    assert Checkpoint(folder=damaged, step=5).read()[1].facts == {"seed": 0}


def test_exchanged_files_show(damaged: Path, tmp_path: Path) -> None:
    """Each file is whole, and the manifest too: but they are not of one checkpoint."""
    other = save(tmp_path / "other", 1)
    shutil.copy(other / "model.safetensors", damaged / "model.safetensors")
    check_that_it_shows(damaged, "model.safetensors")


def test_a_manifest_of_another_format_is_not_read(damaged: Path) -> None:
    content = json.loads((damaged / "manifest.json").read_text()) | {"files": {}}
    (damaged / "manifest.json").write_text(json.dumps(content))
    check_that_it_shows(damaged, "manifest.json")
