"""A checkpoint is there whole or not at all."""

from __future__ import annotations

import json

import pytest
import torch

from xenoglot.checkpoint import save_checkpoint, staged_folder
from xenoglot.config import ModelConfig
from xenoglot.decoder import Decoder
from xenoglot.errors import OutputError

CONFIG = ModelConfig(d_model=16, n_layers=1, activation_hidden_dim=16, max_seq_len=8, vocab_size=7)


def test_a_checkpoint_is_a_model_folder_that_knows_its_step(tmp_path):
    decoder = Decoder(CONFIG, torch.Generator().manual_seed(1))
    folder = save_checkpoint(tmp_path, 7, decoder)
    assert folder == tmp_path / "checkpoints" / "step_7"
    assert json.loads((folder / "state" / "progress.json").read_text()) == {"step": 7}
    again = Decoder.from_pretrained(folder).state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in decoder.state_dict().items())
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_7"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupted_save_leaves_no_folder(tmp_path, monkeypatch, error):
    save_checkpoint(tmp_path, 1, Decoder(CONFIG))
    monkeypatch.setattr("xenoglot.checkpoint.write_json", lambda path, content: (_ for _ in ()).throw(error))
    with pytest.raises(error):
        save_checkpoint(tmp_path, 2, Decoder(CONFIG))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_1"]
    Decoder.from_pretrained(tmp_path / "checkpoints" / "step_1")


def test_a_full_disk_is_an_output_error_and_leaves_no_folder(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("xenoglot.checkpoint.write_json", full)
    with pytest.raises(OutputError, match="No space left"):
        save_checkpoint(tmp_path, 2, Decoder(CONFIG))
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_an_earlier_checkpoint_is_never_overwritten(tmp_path):
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "file").write_text("kept")
    with pytest.raises(OutputError, match="there already"), staged_folder(tmp_path / "done"):
        pytest.fail("the block must not begin")
    assert (tmp_path / "done" / "file").read_text() == "kept"
