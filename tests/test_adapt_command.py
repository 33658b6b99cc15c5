"""`xenoglot adapt`: tables, pictures and numbers of one's own input, and errors that say what to do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from xenoglot.adapting import open_model
from xenoglot.cli import main
from xenoglot.config import ModelConfig, default_config, with_overrides
from xenoglot.corpus.tokenizer import ByteTokenizer
from xenoglot.decoder import Decoder
from xenoglot.errors import DataError
from xenoglot.run import start

ANIMALS = ("cat", "dog", "owl", "bee", "fox", "hen", "ant", "elk", "cow", "pig", "rat", "ape")
SIZES = {"d_model": 16, "n_layers": 1, "activation_hidden_dim": 16, "max_seq_len": 48}
FEW = ["--n_way", "2", "--k_shot", "2", "--q_query", "1", "--n_tasks", "3"]


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "animals.txt"
    path.write_text("".join(f"look at {number} {animal} run\n" for number in range(90) for animal in ANIMALS))
    return path


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder that no run made, with a tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "text"
    Decoder(ModelConfig(vocab_size=257, **SIZES)).save_pretrained(folder)
    for name, content in ByteTokenizer(marks_ends=False).files().items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "ids"
    Decoder(ModelConfig(vocab_size=18, **SIZES)).save_pretrained(folder)
    return folder


def test_own_sentences(text_model: Path, sentences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "folder"
    assert main(["adapt", str(text_model), "--sentences", str(sentences), *FEW, "--output", str(out)]) == 0
    told = capsys.readouterr().out
    for line in ("linear head ", "ridge head, untrained model", "linear head, permuted support labels", "chance 0.500"):
        assert line in told
    assert (out / "adaptation.png").read_bytes().startswith(b"\x89PNG")
    [(name, rows)] = json.loads((out / "adaptation.json").read_text())["rows"].items()
    assert name == "text"
    steps = [row["slices"]["adaptation_steps"] for row in rows if row["slices"]["method"] == "ridge head"]
    assert steps == [0, 1, 2, 5, 10, 20, 50]


def test_own_labels(text_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labelled = tmp_path / "intents.jsonl"
    lines = [{"text": f"{word} {number}", "label": word} for word in ("yes", "no") for number in range(40)]
    labelled.write_text("\n".join(map(json.dumps, lines)))
    words = ["adapt", str(text_model), "--labelled", str(labelled), *FEW, "--all_weights", "--output", str(tmp_path)]
    assert main(words) == 0
    assert "all weights" in capsys.readouterr().out


def test_new_languages_by_several_models(
    language_model: Path, text_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["adapt", str(language_model), str(text_model), "--language", "metalm-v1", "--n_languages", "2"]
    words += ["--languages.vocab_size", "16"]
    assert main([*words, "--output", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert told.count("by gradient, then in context") == 2
    assert "best possible 0." in told
    assert list(json.loads((tmp_path / "adaptation.json").read_text())["rows"]) == ["ids", "text"]


def test_a_run_is_opened_with_all_that_it_learned(sentences: Path, tmp_path: Path) -> None:
    options = {f"model.{name}": value for name, value in SIZES.items()} | {
        "checkpointing.runs_dir": str(tmp_path),
        "checkpointing.run_name": "mine",
        "training.max_steps": 2,
        "data.dataloader.batch_size": 2,
        "smlmt.enabled": True,
        "smlmt.hybrid_ratio": 1.0,
        "smlmt.n_way": 2,
        "smlmt.k_shot": 2,
        "smlmt.q_query": 1,
        "smlmt.classifier_head.kind": "ridge",
    }
    folder = start(with_overrides(default_config(str(sentences)), options)).folder
    opened = open_model(folder)
    assert opened.name == "mine, step 2"
    assert opened.learner is not None
    state = safetensors.torch.load_file(next((folder / "checkpoints" / "step_2" / "state").glob("*.safetensors")))
    learned = opened.learner.state_dict()
    assert set(learned) >= {"head.log_penalty", "head.log_scale"}
    for name, value in learned.items():
        assert torch.equal(value, state[f"objective:{name}"])
    assert float(learned["head.log_scale"]) != pytest.approx(float(np.log(10)), abs=1e-9)
    assert open_model(folder / "checkpoints" / "step_2").name == "mine, step 2"
    (folder / "checkpoints" / "step_2" / "model.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match="none of them whole"):
        open_model(folder)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["{empty}", "--language", "metalm-v1"], "got no model; allowed: a run, one of its checkpoints"),
        (["{ids}", "--sentences", "{own}"], "a model of bare ids, without a tokenizer"),
        (["{text}", "--sentences", "{own}", "--n_way", "40"], "40"),
        (["{text}", "--sentences", "{empty}/no.txt"], "no.txt"),
        (["{text}", "--language", "metalm-v7"], "metalm-v1"),
        (["{ids}", "--language", "markov"], "allowed: at least the"),
        (["{text}"], "got nothing to adapt to; allowed: --sentences FILE"),
        (["{text}", "--language", "markov", "--sentences", "x"], "not allowed with"),
        (["{text}", "--sentences", "{own}", "--n_tasks", "1"], "n_episodes: got 1"),
        (["{text}", "--sentence", "{own}"], "Did you mean '--sentences'?"),
        (["{text}", "--language", "markov", "--languages.order", "-1"], "languages.order: got -1"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_and_leaves_nothing(
    words: list[str],
    complaint: str,
    text_model: Path,
    language_model: Path,
    sentences: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"empty": tmp_path, "text": text_model, "ids": language_model, "own": sentences}
    out = tmp_path / "out"
    assert main(["adapt", *(word.format(**places) for word in words), "--output", str(out)]) == 2
    told = capsys.readouterr()
    lines = [line for line in told.err.splitlines() if not line.startswith("adapting ")]
    assert len(lines) == 1
    assert complaint in lines[0]
    assert not out.exists()
