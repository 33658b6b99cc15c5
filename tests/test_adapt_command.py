"""`xenoglot adapt`: tables, pictures and numbers of one's own input, and errors that say what to do."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from xenoglot.applying.adapting import open_model, own_sentences
from xenoglot.applying.adapting_curves import Way, measured_curves
from xenoglot.cli import main
from xenoglot.config import ModelConfig, default_config, with_overrides
from xenoglot.corpus.subwords import train_bpe
from xenoglot.corpus.text_files import TextFiles
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


def test_sixty_labelled_lines_will_do(text_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labelled = tmp_path / "intents.jsonl"
    lines = [{"text": f"{word} {number}", "label": word} for word in ("yes", "no", "why") for number in range(20)]
    labelled.write_text("\n".join(map(json.dumps, lines)))
    few = ["--n_way", "3", "--k_shot", "2", "--q_query", "2", "--n_tasks", "3", "--output", str(tmp_path)]
    assert main(["adapt", str(text_model), "--labelled", str(labelled), *few]) == 0
    assert "chance 0.333; 3 tasks" in capsys.readouterr().out
    few[3] = "40"
    assert main(["adapt", str(text_model), "--labelled", str(labelled), *few]) == 2
    assert "validation: got 0 labels with at least 42" in capsys.readouterr().err


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


def other_model(folder: Path, tokenizer: Path | None = None, vocab_size: int = 257) -> Path:
    """A model with other weights; with the tokenizer of a folder, if one is named."""
    decoder, rng = Decoder(ModelConfig(vocab_size=vocab_size, **SIZES)), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.normal_(0.0, 0.3, generator=rng)
    decoder.save_pretrained(folder)
    if tokenizer is not None:
        for path in tokenizer.glob("tokenizer*"):
            shutil.copy(path, folder)
    return folder


def cells(told: str, line: str, occurrence: int = 0) -> list[str]:
    """Return the cells of a line of a table, behind its name."""
    [*_, found] = [row for row in told.splitlines() if row.strip().startswith(line)][: occurrence + 1]
    return found.strip().removeprefix(line).split()


def test_models_are_compared_on_the_same_tasks(
    text_model: Path, sentences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The differences by a plain reading: of each task by itself, then the mean and the standard error."""
    other = other_model(tmp_path / "other", tokenizer=text_model)
    few = [*FEW[:-1], "30"]
    words = ["adapt", str(text_model), "--against", str(other), "--sentences", str(sentences), *few]
    assert main([*words, "--output", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    written = json.loads((tmp_path / "adaptation.json").read_text())
    assert written["against"] == "other"
    assert list(written["rows"]) == ["text", "other"]
    [(name, rows)] = written["differences"].items()
    assert name == "text"

    sizes = {"n_way": 2, "k_shot": 2, "q_query": 1, "seed": 0}
    opened = [open_model(path) for path in (text_model, other)]
    curves = [measured_curves(model, own_sentences(model, sentences, **sizes), n_episodes=30) for model in opened]
    for method in ("linear head", "ridge head", "prototype head"):
        first, second = (of_model[Way(method)] for of_model in curves)
        of_way = [row for row in rows if row["slices"]["method"] == method]
        assert [row["slices"]["adaptation_steps"] for row in of_way] == [0, 1, 2, 5, 10, 20, 50]
        for place, row in enumerate(of_way):
            for measure in ("accuracy", "loss_nats"):
                gains = [
                    getattr(first, f"{measure}_EK")[task, place] - getattr(second, f"{measure}_EK")[task, place]
                    for task in range(30)
                ]
                half_width = 1.96 * statistics.stdev(gains) / 30**0.5
                metrics = row["metrics"]
                assert metrics[f"{measure}_difference"] == pytest.approx(statistics.mean(gains), abs=1e-9)
                assert metrics[f"{measure}_difference_high"] == pytest.approx(
                    statistics.mean(gains) + half_width, abs=1e-9
                )
    last = next(row for row in rows if row["slices"] == {"method": "ridge head", "adaptation_steps": 50})["metrics"]
    is_sure = last["loss_nats_difference_low"] > 0 or last["loss_nats_difference_high"] < 0
    of_loss = told[told.index("loss in nats after gradient steps") :]
    of_ridge = of_loss[of_loss.index("ridge head") :]
    assert cells(of_ridge, "difference")[-2] == f"{last['loss_nats_difference']:+.3f}{'*' if is_sure else ''}"
    assert not any(row["slices"].get("control") or "untrained" in row["slices"]["method"] for row in rows)


def test_a_model_has_no_lead_over_itself(text_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labelled = tmp_path / "intents.jsonl"
    lines = [{"text": f"{word} {number}", "label": word} for word in ("yes", "no") for number in range(40)]
    labelled.write_text("\n".join(map(json.dumps, lines)))
    words = ["adapt", str(text_model), "--against", f"{text_model}/", "--labelled", str(labelled), *FEW]
    assert main([*words, "--output", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert list(json.loads((tmp_path / "adaptation.json").read_text())["differences"]) == [f"{text_model} (1)"]
    assert told.count("\n  difference ") == 6  # linear, ridge and prototype, in accuracy and in loss
    for line in told.splitlines():
        if line.startswith("  difference "):
            assert line.split()[-8:] == ["+0.000"] * 7 + ["0.000"]
    assert "*" not in told.replace("* the interval", "")


def test_accuracy_and_loss_are_told_for_every_number_of_steps(
    text_model: Path, sentences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["adapt", str(text_model), "--sentences", str(sentences), *FEW, "--output", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    rows = json.loads((tmp_path / "adaptation.json").read_text())["rows"]["text"]
    linear = [row["metrics"] for row in rows if row["slices"]["method"] == "linear head"][:7]
    assert cells(told, "accuracy after gradient steps")[:7] == ["0", "1", "2", "5", "10", "20", "50"]
    for occurrence, name in enumerate(("accuracy", "loss_nats")):
        expected = [f"{metrics[name]:.3f}" for metrics in linear]
        widest = max(metrics[f"{name}_high"] - metrics[name] for metrics in linear)
        [*_, found] = [line for line in told.splitlines() if line.startswith("linear head  ")][: occurrence + 1]
        assert found.split()[2:] == [*expected, f"{widest:.3f}"]


def test_models_are_compared_on_the_same_languages(
    language_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = other_model(tmp_path / "other", vocab_size=18)
    words = ["adapt", str(other), "--against", str(language_model), "--language", "metalm-v1", "--n_languages", "3"]
    assert main([*words, "--languages.vocab_size", "16", "--output", str(tmp_path)]) == 0
    assert "other less ids\n\nnats a token" in capsys.readouterr().out
    written = json.loads((tmp_path / "adaptation.json").read_text())
    losses = {
        name: {tuple(row["slices"].values()): row["metrics"]["loss_nats"] for row in rows}
        for name, rows in written["rows"].items()
    }
    assert len(written["differences"]["other"]) == len(losses["ids"]) > 3
    for row in written["differences"]["other"]:
        place, metrics = tuple(row["slices"].values()), row["metrics"]
        assert metrics["loss_nats_difference"] == pytest.approx(losses["other"][place] - losses["ids"][place])
        assert metrics["loss_nats_difference_low"] < metrics["loss_nats_difference"]


def test_a_run_is_opened_with_all_that_it_learned(
    sentences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    assert main(["adapt", str(folder), "--sentences", str(sentences), *FEW, "--output", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert "as it was trained" in told.out
    assert f"note: mine, step 2 was trained on {sentences}" in told.err
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
        (["{text}", "--against", "{bpe}", "--sentences", "{own}", *FEW], "Compare models of one tokenizer"),
        (["{text}", "--against", "{empty}", "--sentences", "{own}"], "got no model"),
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
    bpe = other_model(tmp_path / "bpe", vocab_size=300)
    for name, content in train_bpe(TextFiles(sentences).documents(), 300).files().items():
        (bpe / name).write_bytes(content)
    places = {"empty": tmp_path, "bpe": bpe, "text": text_model, "ids": language_model, "own": sentences}
    out = tmp_path / "out"
    assert main(["adapt", *(word.format(**places) for word in words), "--output", str(out)]) == 2
    told = capsys.readouterr()
    lines = [line for line in told.err.splitlines() if not line.startswith("adapting ")]
    assert len(lines) == 1
    assert complaint in lines[0]
    assert not out.exists()
