"""The README is true: its tree and that of docs/house.md are the folder's, and its blocks run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from xenoglot.cli import main

ROOT = Path(__file__).parents[1]
NOT_RUN = "<!-- not run by the tests: minutes of training -->\n"
ON_RUNS = "<!-- on runs that are there: of languages, and of a text -->\n"
TINY_TASKS = {
    "adapt": "--n_tasks 4 --n_languages 2 --n_way 2 --k_shot 1 --q_query 1",
    "evaluate": "--n_languages 2",
}
TINY_TRAINING = (
    "--training.max_steps 2 --evaluation.n_languages 2 --data.dataloader.batch_size 2 --model.max_seq_len 16"
)

WORDS = [first + last for first in ("bar", "kel", "mon", "tir", "sov") for last in ("dak", "pol", "ruk", "gust", "hem")]


def blocks(readme: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", readme, re.DOTALL)


def commands(block: str) -> list[list[str]]:
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    return [words[1:] for words in lines if words[:1] == ["xenoglot"]]


def test_the_tree_is_the_folder(house: dict[str, str]) -> None:
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "xenoglot").rglob("*.py")}
    assert set(house) == files
    assert [path for path, explanation in house.items() if not explanation] == []


def test_its_tree_is_an_extract_of_the_house(readme: str) -> None:
    """README draws every folder and the main files, with the words of docs/house.md, which has them all."""
    whole, extract = (
        re.findall(r"```\n(xenoglot/\n.*?)```", text, re.DOTALL)[0].splitlines()
        for text in ((ROOT / "docs" / "house.md").read_text(), readme)
    )
    assert extract == [line for line in whole if line in extract]
    assert {line for line in whole if re.match(r"  \w+/", line)} <= set(extract)


def test_it_is_short_and_in_order(readme: str) -> None:
    assert len(readme.splitlines()) < 200
    places = [readme.index(part) for part in ("# Xenoglot", ".png)", "make demo", "import xenoglot", "## What")]
    assert places == sorted(places)


def test_the_first_commands_exist(readme: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    wanted = re.findall(r"make ([a-z-]+)", blocks(readme, "sh")[0])
    assert wanted == ["demo", "test"]
    assert set(wanted) <= set(targets)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_python_blocks_run(readme: str, capsys: pytest.CaptureFixture[str]) -> None:
    python = blocks(readme, "python")
    assert len(python) == 2
    for block in python:
        exec(block, {})
    first_nats, last_nats, floor_nats = re.findall(
        r"(\d\.\d+) nats", re.sub(r"(\d\.\d+)", r"\1", capsys.readouterr().out)
    )
    assert float(first_nats) > float(last_nats) > float(floor_nats)


def test_generate_commands_run(
    readme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [words for block in blocks(readme, "sh") for words in commands(block) if words[0] == "generate"]
    assert len(given) == 3
    for words in given:
        assert main(words) == 0, capfd.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {
        "demo.v1.txt",
        "demo.v2.txt",
        "samples.png",
        *(f"samples-{shard:05d}-of-00004.parquet" for shard in range(4)),
    }


def test_training_commands_run_in_a_tiny_version(
    readme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_bytes(b"It was the best of times, it was the worst of times. " * 40)
    [block] = re.findall(re.escape(NOT_RUN) + r"```sh\n(.*?)```", readme, re.DOTALL)
    given = commands(block)
    assert len(given) == 3
    for run, words in enumerate(given):
        tiny = [*words, *shlex.split(TINY_TRAINING), "--checkpointing.run_name", str(run)]
        assert main(tiny) == 0, capfd.readouterr().err


def test_commands_on_runs_do_what_they_say_in_a_tiny_version(
    readme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sentences = (f"The {one} saw the {other}." for one in WORDS for other in WORDS if one != other)
    text = "\n".join(sentences)
    for name in ("book.txt", "other.txt"):
        (tmp_path / name).write_text(text)
    for given in (["NAME"], ["BOOK", "--text", "book.txt"]):
        assert (
            main(
                ["train", *shlex.split(TINY_TRAINING), "--model.max_seq_len", "64", "--checkpointing.run_name", *given]
            )
            == 0
        ), capfd.readouterr().err
    [block] = re.findall(re.escape(ON_RUNS) + r"```sh\n(.*?)```", readme, re.DOTALL)
    given = commands(block)
    assert len(given) == 5
    for words in given:
        assert main([*words, *shlex.split(TINY_TASKS.get(words[0], ""))]) == 0, capfd.readouterr().err
    assert {"adaptation.png", "adaptation.json", "my-model"} <= {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "runs" / "NAME" / "analysis" / "results.csv").exists()
