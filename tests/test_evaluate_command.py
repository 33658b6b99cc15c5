"""`xenoglot evaluate`: runs are measured as while training, models on data that is named; errors leave nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from configurations import TINY
from rich.console import Console

from xenoglot.applying.tables import print_tables
from xenoglot.cli import main
from xenoglot.config import ModelConfig, default_config, with_overrides
from xenoglot.corpus.tokenizer import ByteTokenizer
from xenoglot.decoder import Decoder
from xenoglot.evaluations.base import Row
from xenoglot.run import start

SIZES = {"d_model": 16, "n_layers": 1, "activation_hidden_dim": 16, "max_seq_len": 48}
IOB2 = "".join(
    f"1\tin\tO\n2\t{town}{number}\tB-LOC\n3\tmet\tO\n4\t{name}{number}\tB-PER\n\n"
    for number in range(6)
    for town, name in (("Rome", "Ada"), ("Oslo", "Bo"))
)
OWN_EVALUATION = '''
from dataclasses import dataclass
from xenoglot.evaluations.base import Evaluation, Row
from xenoglot.options import option

@dataclass(frozen=True, kw_only=True)
class Size(Evaluation):
    """Numbers of a model."""
    name = "size"
    unit: int = option(1, "numbers counted as one", minimum=1)
    def __call__(self, model, rng):
        n = sum(each.numel() for each in model.parameters()) // self.unit
        return [Row(slices={"summary": "size"}, metrics={"n_numbers": n})]

@dataclass(frozen=True, kw_only=True)
class Lacking(Size):
    name = "lacking"
    data: str
'''


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on languages."""
    options = {**TINY, "checkpointing.runs_dir": str(tmp_path_factory.mktemp("runs")), "checkpointing.run_name": "r"}
    return start(with_overrides(default_config(), options)).folder


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder that no run made, with a tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "text"
    model = Decoder(ModelConfig(vocab_size=257, **SIZES))
    torch.nn.init.normal_(model.lm_head.weight, std=0.1, generator=torch.Generator().manual_seed(1))
    model.save_pretrained(folder)
    for name, content in ByteTokenizer(marks_ends=False).files().items():
        (folder / name).write_bytes(content)
    return folder


def rows_of(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["rows"]


def test_a_run_is_measured_as_while_training(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run_folder), "--evaluation", "in_context"]) == 0
    results = run_folder / "eval_results"
    assert rows_of(results / "fresh-languages_step_4.json") == rows_of(results / "step_4.json")
    told = capsys.readouterr().out
    assert "last quarter" in told
    assert f"rows: {results / 'fresh-languages_step_4.json'}" in told
    facts = json.loads((results / "fresh-languages_step_4.json").read_text())
    assert (facts["evaluation"], facts["step"], facts["model"]) == ("fresh-languages", 4, "r, step 4")
    assert main(["verify", str(run_folder)]) == 0
    assert main(["report", str(run_folder)]) == 0


def test_options_and_seeds_are_those_that_are_said(run_folder: Path, tmp_path: Path) -> None:
    words = ["evaluate", str(run_folder), "--evaluation", "fresh-languages", "--n_languages", "3", "--output"]
    first, second, other = (tmp_path / f"{name}.json" for name in "abc")
    assert main([*words, str(first), "--seed", "7"]) == 0
    assert main([*words, str(second), "--seed", "7"]) == 0
    assert main([*words, str(other), "--seed", "8"]) == 0
    assert rows_of(first) == rows_of(second) != rows_of(other)
    assert json.loads(first.read_text())["options"] == {"n_languages": 3}


def test_another_family_for_the_same_model(run_folder: Path, tmp_path: Path) -> None:
    words = ["evaluate", str(run_folder), "--evaluation", "in-context", "--language", "markov", "--n_languages", "2"]
    out = tmp_path / "out.json"
    assert main([*words, "--languages.vocab_size", "5", "--length", "9", "--output", str(out)]) == 0
    whole = next(row for row in rows_of(out) if row["slices"].get("part") == "whole")
    assert whole["metrics"]["uniform_nats"] == pytest.approx(math.log(5))
    assert sum("tokens_read" in row["slices"] for row in rows_of(out)) == 9


def plain_loss(folder: Path, text: bytes) -> float:
    """The mean loss of a short text's bytes, MASK before it."""
    ids = torch.tensor([[0, *(byte + 1 for byte in text)]])
    with torch.no_grad():
        log_probs = Decoder.from_pretrained(folder)(ids[:, :-1])[0].log_softmax(1)
    return -float(log_probs[torch.arange(len(text)), ids[0, 1:]].mean())


def test_perplexity_by_domain(text_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    domains, out = tmp_path / "domains", tmp_path / "out.json"
    (domains / "letters").mkdir(parents=True)
    (domains / "letters" / "one.txt").write_text("dear all")
    (domains / "plays.txt").write_text("enter a fool")
    pq.write_table(pa.table({"text": ["once upon"]}), domains / "tales.parquet")
    words = ["evaluate", str(text_model), "--evaluation", "perplexity", "--output", str(out), "--text"]
    assert main([*words, str(domains)]) == 0
    told = capsys.readouterr().out
    measured = {row["slices"]["domain"]: row["metrics"] for row in rows_of(out) if "domain" in row["slices"]}
    for name, text in (("letters", b"dear all"), ("plays", b"enter a fool"), ("tales", b"once upon")):
        loss = plain_loss(text_model, text)
        assert measured[name]["loss_nats"] == pytest.approx(loss, rel=1e-5)
        assert measured[name]["bits_per_byte"] == pytest.approx(loss / math.log(2), rel=1e-5)
        assert f"{name} " in told
    assert main([*words, str(domains / "plays.txt")]) == 0
    [plays, *_] = rows_of(out)
    assert plays["metrics"]["loss_nats"] == pytest.approx(measured["plays"]["loss_nats"])


def test_without_a_run_nothing_is_written_unless_asked_for(
    text_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plays.txt").write_text("enter a fool " * 99)
    before = sorted(path.name for path in text_model.iterdir())
    assert main(["evaluate", str(text_model), "--evaluation", "held-out-text", "--text", "plays.txt"]) == 0
    assert "bits_per_byte" in capsys.readouterr().out
    assert sorted(path.name for path in text_model.iterdir()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plays.txt"]


def test_tagging_of_a_model_of_bare_ids(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dev.iob2").write_text(IOB2)
    words = ["evaluate", str(run_folder), "--evaluation", "tagging", "--iob2", str(tmp_path / "dev.iob2")]
    assert main([*words, "--n_seeds", "2", "--max_epochs", "1", "--lr", "0.01"]) == 0
    told = capsys.readouterr().out
    for line in ("this one   LOC", "untrained  all types", "only O     all types"):
        assert line in told
    rows = rows_of(run_folder / "eval_results" / "tagging_step_4.json")
    assert [row["metrics"]["f1"] for row in rows if row["slices"].get("model") == "only O"] == [0.0]


def test_tagging_from_three_files_by_a_model_of_text(text_model: Path, tmp_path: Path) -> None:
    flags = []
    for name in ("train", "dev", "test"):
        (tmp_path / name).write_text(IOB2)
        flags += [f"--{name}", str(tmp_path / name)]
    out = tmp_path / "out.json"
    words = ["evaluate", str(text_model), "--evaluation", "tagging", *flags, "--output", str(out)]
    assert main([*words, "--compare_untrained", "false", "--n_seeds", "1", "--max_epochs", "1"]) == 0
    assert {row["slices"].get("model") for row in rows_of(out)} == {"this one", "only O", None}
    assert rows_of(out)[0]["metrics"]["n_spans"] == 12


def test_few_shot_and_language_learning(run_folder: Path, text_model: Path, tmp_path: Path) -> None:
    sentences, out = tmp_path / "animals.txt", tmp_path / "out.json"
    animals = ("cat", "dog", "owl", "bee", "fox", "hen", "ant", "elk", "cow", "pig", "rat", "ape")
    sentences.write_text("".join(f"look at {number} {animal} run\n" for number in range(90) for animal in animals))
    words = ["--n_way", "2", "--k_shot", "2", "--q_query", "1", "--n_episodes", "3", "--output", str(out)]
    assert main(["evaluate", str(text_model), "--evaluation", "few-shot", "--sentences", str(sentences), *words]) == 0
    assert {row["slices"].get("method") for row in rows_of(out)} >= {"linear head", "ridge head", "prototype head"}
    words = ["--language", "markov", "--languages.vocab_size", "9", "--length", "40", "--output", str(out)]
    words += ["--n_languages", "2", "--n_rows", "1", "--n_tuning", "1"]
    assert main(["evaluate", str(text_model), "--evaluation", "language_learning", *words]) == 0
    assert {row["slices"]["learning"] for row in rows_of(out)} >= {"in context", "by gradient"}


def test_samples_of_a_file(run_folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.full((20, 2, 8), 3, np.int32))
    out = tmp_path / "out.json"
    words = ["evaluate", str(run_folder), "--evaluation", "held-out-samples", "--output", str(out), "--samples"]
    assert main([*words, str(tmp_path / "rows.npy")]) == 0
    model = Decoder.from_pretrained(run_folder / "checkpoints" / "step_4")
    ids = torch.full((1, 8), 3)
    [whole] = [row for row in rows_of(out) if row["slices"].get("part") == "whole"]
    assert whole["metrics"]["loss_nats"] == pytest.approx(model(ids, targets=ids).item(), rel=1e-5)


def test_an_evaluation_of_ones_own(
    text_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_measuring.py").write_text(OWN_EVALUATION)
    n_numbers = sum(each.numel() for each in Decoder.from_pretrained(text_model).parameters())
    assert main(["evaluate", str(text_model), "--evaluation", "my_measuring:Size", "--unit", "2"]) == 0
    assert f"{n_numbers // 2:,}" in capsys.readouterr().out
    assert main(["evaluate", str(text_model), "--evaluation", "my_measuring:Lacking"]) == 2
    assert "one whose fields are all declared with option(...)" in capsys.readouterr().err


def test_help_lists_evaluations_and_the_options_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    listed = capsys.readouterr().out
    for name in ("domain-perplexity (perplexity)", "few-shot", "fresh-languages (in-context)", "tagging"):
        assert name in listed
    with pytest.raises(SystemExit):
        main(["evaluate", "--evaluation", "tagging", "--help"])
    assert "--max_epochs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["{text}"], "got nothing to measure; allowed: --evaluation NAME, one of domain-perplexity"),
        (["{text}", "--evaluation", "taging"], "Did you mean 'tagging'?"),
        (["{text}", "--evaluation", "tagging"], "got no data; allowed: what is named by --iob2 or --train"),
        (["{text}", "--evaluation", "tagging", "--iob2", "{own}", "--dev", "{own}"], "got --iob2, --dev; allowed"),
        (["{text}", "--evaluation", "tagging", "--train", "{own}"], "got --train; allowed: --iob2 FILE alone"),
        (["{text}", "--evaluation", "tagging", "--iob2", "{own}"], "own.iob2, line 2: got I-LOC after O"),
        (["{text}", "--evaluation", "tagging", "--iob2", "{own}", "--epochs", "3"], "Did you mean '--max_epochs'?"),
        (
            ["{text}", "--evaluation", "tagging", "--n_seeds", "0"],
            "n_seeds: got 0; allowed: a whole number, at least 1",
        ),
        (["{text}", "--evaluation", "in-context"], "got no data; allowed: what is named by --language"),
        (["{text}", "--evaluation", "in-context", "--language", "markov", "--length", "99"], "length: got 99"),
        (["{ids}", "--evaluation", "in-context", "--language", "markov"], "got 18 ids; allowed: at least the"),
        (["{ids}", "--evaluation", "perplexity", "--text", "{plain}"], "got text for a model of bare ids"),
        (
            ["{mixed}", "--evaluation", "held-out-text", "--text", "{own}"],
            "got a tokenizer of 257 ids; allowed: at most",
        ),
        (["{ids}", "--evaluation", "held-out-samples", "--samples", "{rows}"], "rows.npy"),
        (["{empty}", "--evaluation", "tagging", "--iob2", "{own}"], "got no model"),
        (["{text}", "--evaluation", "perplexity", "--text", "{empty}/none"], "none"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_and_leaves_nothing(
    words: list[str], complaint: str, text_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {name: tmp_path / name for name in ("ids", "mixed", "empty")} | {"text": text_model}
    places |= {"own": tmp_path / "own.iob2", "plain": tmp_path / "plain.txt", "rows": tmp_path / "rows.npy"}
    Decoder(ModelConfig(vocab_size=18, **SIZES)).save_pretrained(places["ids"])
    Decoder(ModelConfig(vocab_size=18, **SIZES)).save_pretrained(places["mixed"])
    for name, content in ByteTokenizer(marks_ends=False).files().items():
        (places["mixed"] / name).write_bytes(content)
    places["empty"].mkdir()
    places["plain"].write_text("enter a fool")
    places["own"].write_text("1\tin\tO\n2\tRome\tI-LOC\n")
    np.save(places["rows"], np.full((20, 2, 8), 50, np.int32))
    out = tmp_path / "out.json"
    assert main(["evaluate", *(word.format(**places) for word in words), "--output", str(out)]) == 2
    told = capsys.readouterr()
    assert complaint in told.err
    assert len(told.err.splitlines()) == 1
    assert told.out == ""
    assert not out.exists()


def test_a_place_that_is_not_there_is_said_before_anything_is_measured(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(run_folder), "--evaluation", "in-context", "--output", str(tmp_path / "no" / "a.json")]
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("xenoglot: ")


def test_tables_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    ends = {"loss_nats": 2.0, "loss_nats_low": 1.5, "loss_nats_high": 2.5}
    skewed = {"loss_nats": 1.0, "loss_nats_low": 0.5, "loss_nats_high": 4.0, "n_tokens": 1234.0}
    rows = [Row(slices={"tokens_read": place}, metrics={"loss_nats": 1.0}) for place in range(300)]
    rows += [Row(slices={"part": "[whole]"}, metrics=ends), Row(slices={"part": "end"}, metrics=skewed)]
    rows += [Row(slices={"summary": "all"}, metrics={"f1": math.nan})]
    print_tables(rows, Console(highlight=False, width=20))
    assert capsys.readouterr().out.splitlines() == [
        "300 rows by tokens_read: in the file",
        "",
        "part     loss_nats               n_tokens",
        "[whole]  2.000 ± 0.500                  –",
        "end      1.000 (0.500 to 4.000)     1,234",
        "",
        "summary  f1",
        "all       –",
    ]
