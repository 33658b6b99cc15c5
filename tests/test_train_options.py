"""The options of `xenoglot train`: where a configuration comes from, what is refused, what is never written down."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from configurations import FLAG_WORDS, TINY_FLAGS, configurations, flags_of
from hypothesis import given, settings

from xenoglot import cli, credentials
from xenoglot.commands.base import CommandParser, given_options, spelled_as_declared
from xenoglot.commands.train import add_arguments, add_more_arguments
from xenoglot.config import RunConfig, default_config, from_mapping, read_config, resolve, with_overrides, write_config
from xenoglot.config.layers import nested
from xenoglot.errors import ConfigFileError

Train = Callable[..., tuple[int, str, str]]
SECRET = "secret-0123456789abcdef"


@pytest.fixture
def train(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Run `xenoglot train` in this process and an empty folder; returns exit code, output and complaints."""
    monkeypatch.chdir(tmp_path)

    def train(*words: str) -> tuple[int, str, str]:
        code = cli.main(["train", *words])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return train


def printed_config(train: Train, *words: str) -> RunConfig:
    code, output, complaints = train(*words, "--print_config")
    assert (code, complaints) == (0, "")
    return from_mapping(yaml.safe_load(output))


# --- where a configuration comes from --------------------------------------------------------------------------------


def test_without_options_it_is_the_default(train: Train, tmp_path: Path) -> None:
    assert printed_config(train) == default_config()
    assert printed_config(train, "--text", "book.txt") == default_config("book.txt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--config", "--config_path", "--config-path"])
def test_options_overrule_a_file_and_a_file_the_defaults(train: Train, tmp_path: Path, flag: str) -> None:
    (tmp_path / "run.yaml").write_text("training: {max_steps: 5, optimization: {lr: 1e-4}}\nmodel: {n_layers: 3}")
    config = printed_config(train, flag, "run.yaml", "--model.n_layers", "4", "--training.seed=7")
    expected = {"training.max_steps": 5, "training.optimization.lr": 1e-4, "model.n_layers": 4, "training.seed": 7}
    assert config == with_overrides(default_config(), expected)


def test_options_decide_what_is_learned_where_a_file_does_not(train: Train, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("training: {max_steps: 5}")
    text = printed_config(train, "--config", "run.yaml", "--text", "book.txt")
    assert text == with_overrides(default_config("book.txt"), {"training.max_steps": 5})
    markov = printed_config(train, "--config", "run.yaml", "--languages.family", "markov", "--languages.order", "3")
    assert markov == resolve({"languages": {"family": "markov", "order": 3}, "training": {"max_steps": 5}})


def test_a_recipe_with_another_text(train: Train) -> None:
    config = printed_config(train, "--recipe", "text-bpe", "--text", "other.txt")
    assert (config.data.text, config.data.tokenizer.name) == ("other.txt", "bpe")


def test_a_run_goes_on_under_its_name_wherever_it_is(train: Train, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere" / "mine"
    folder.mkdir(parents=True)
    early = {"checkpointing.run_name": "old", "checkpointing.auto_resume": False, "training.max_steps": 9}
    write_config(folder / "config.yaml", with_overrides(default_config(), early))
    config = printed_config(train, "--resume", "elsewhere/mine/", "--training.max_steps", "20")
    where = {"runs_dir": "elsewhere", "run_name": "mine", "auto_resume": True}
    assert config == with_overrides(
        default_config(), {"training.max_steps": 20} | {f"checkpointing.{key}": value for key, value in where.items()}
    )
    os.chdir(folder)
    config = printed_config(train, "--resume", ".")
    assert (Path(config.checkpointing.runs_dir).resolve(), config.checkpointing.run_name) == (folder.parent, "mine")


def test_a_run_goes_on_where_it_was(train: Train, tmp_path: Path) -> None:
    lasting = ["--training.optimization.lr_scheduler", "constant", "--training.optimization.lr_decay_ratio", "0"]
    assert train(*TINY_FLAGS, *lasting, "--checkpointing.run_name", "a")[0] == 0
    stored = read_config(tmp_path / "runs" / "a" / "config.yaml")
    assert train("--resume", "runs/a", "--training.max_steps", "6")[0] == 0
    later = read_config(tmp_path / "runs" / "a" / "config.yaml")
    assert later == with_overrides(stored, {"training.max_steps": 6})
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["a"]
    assert {path.name for path in (tmp_path / "runs" / "a" / "checkpoints").iterdir()} == {"step_4", "step_6"}


@settings(max_examples=25, deadline=None)
@given(configurations(FLAG_WORDS))
def test_whatever_can_be_said_is_said_by_options(config: Any) -> None:
    words = flags_of(config)
    parser = CommandParser(prog="xenoglot train")
    add_arguments(parser)
    add_more_arguments(parser, words)
    arguments = parser.parse_args(spelled_as_declared(words, parser))
    read = resolve(arguments.layer, nested(given_options(arguments, arguments.options.values())))
    assert dataclasses.replace(read, curriculum=()) == dataclasses.replace(config, curriculum=())


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--config", "absent.yaml"], "absent.yaml: the file cannot be read: No such file or directory."),
        (
            ["--config", "bad.yaml"],
            "bad.yaml, line 2: unknown option 'training.max_step'. Did you mean 'training.max_s",
        ),
        (["--config", "bad.yaml", "--print_config"], "bad.yaml, line 2"),
        (["--config", "a.yaml", "--config", "b.yaml"], "config_path: got 'b.yaml'; allowed: nothing beside 'a.yaml'"),
        (["--config", "a.yaml", "--recipe", "markov"], "allowed: nothing beside 'markov'"),
        (["--recipe", "markof"], "unknown recipe 'markof'. Did you mean 'markov'?"),
        (["--resume", "absent"], "resume: got"),
        (
            ["--resume", "run", "--checkpointing.run_name", "b"],
            "checkpointing.run_name: got 'b'; allowed: nothing beside",
        ),
        (["--config"], "argument --config_path/--config: expected one argument"),
        (["--text", "a.txt", "--languages.family", "v1"], "data: got ['data.text', 'languages']; allowed: one thing"),
        (["--recipe", "markov", "--text", "a.txt"], "allowed: one thing to learn"),
        (["--recipe", "markov", "--languages.n_elements", "3"], "unknown option '--languages.n_elements'"),
        (
            ["--model.d_model", "66", "--model.attention_n_heads", "4"],
            "model.d_model: got 66; allowed: a multiple of tw",
        ),
        (
            ["--model.attention_n_kv_heads", "3"],
            "model.attention_n_kv_heads: got 3; allowed: a divisor of attention_n_h",
        ),
        (["--model.size", "pico-tinny"], "Did you mean 'pico-tiny'?"),
        (["--evaluation.paloma.max_length", "9999"], "evaluation.paloma.max_length: got 9999; allowed: at most"),
        (
            ["--training.optimization.gradient_accumulation_steps", "3"],
            "data.dataloader.batch_size: got 32; allowed: a m",
        ),
        (["--checkpointing.run_name", "up/a"], "checkpointing.run_name: got 'up/a'; allowed: a plain folder name."),
        (["--checkpointing.run_name", ".."], "checkpointing.run_name: got '..'"),
        (["--training.max_steps", "1.5"], "training.max_steps: got '1.5'; allowed: a whole number, at least 1."),
        (
            ["--training.optimization.lr", "fast"],
            "training.optimization.lr: got 'fast'; allowed: a number, at least 0.",
        ),
        (["--training.compile", "perhaps"], "training.compile: got 'perhaps'; allowed: true or false."),
        (["--data.dataset", "x"], "unknown option '--data.dataset'"),
        (["--curriculum", "x"], "unknown option '--curriculum'"),
        (["book.txt"], "unexpected argument 'book.txt'"),
    ],
)
def test_what_is_refused_gets_one_line_and_leaves_nothing(
    train: Train, tmp_path: Path, words: list[str], complaint: str
) -> None:
    (tmp_path / "bad.yaml").write_text("training:\n  max_step: 3\n")
    (tmp_path / "a.yaml").write_text("")
    (tmp_path / "run").mkdir()
    write_config(tmp_path / "run" / "config.yaml", default_config())
    before = sorted(tmp_path.rglob("*"))
    code, output, complaints = train(*words)
    assert (code, output) == (2, "")
    assert complaints.count("\n") == 1
    assert complaint in complaints
    assert sorted(tmp_path.rglob("*")) == before


def test_help_is_quick_and_imports_nothing_heavy(tmp_path: Path) -> None:
    report = "import sys; from xenoglot.cli import main\ntry: main(['train', *sys.argv[1:], '--help'])\n"
    report += (
        "except SystemExit: print([name for name in ('torch', 'matplotlib', 'tokenizers') if name in sys.modules])"
    )
    for words in ([], ["--recipe", "markov"], ["--model.size", "pico-tiny"]):
        done = subprocess.run([sys.executable, "-c", report, *words], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"


# --- keys from .env --------------------------------------------------------------------------------------------------


def test_only_the_two_keys_are_read_and_what_is_set_already_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "set before")
    monkeypatch.setenv("WANDB_API_KEY", "x")
    monkeypatch.delenv("WANDB_API_KEY")
    (tmp_path / ".env").write_text(f"HF_TOKEN=other\nWANDB_API_KEY='{SECRET}'\nPATH_OF_ANOTHER=3\n")
    assert credentials.read_credentials(tmp_path) == ("HF_TOKEN", "WANDB_API_KEY")
    assert os.environ["HF_TOKEN"] == "set before"
    assert os.environ["WANDB_API_KEY"] == SECRET
    assert "PATH_OF_ANOTHER" not in os.environ


def test_no_file_or_an_empty_key_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert credentials.read_credentials(tmp_path) == ()
    example = Path(__file__).parents[1] / ".env.example"
    (tmp_path / ".env").write_text(example.read_text())
    assert credentials.read_credentials(tmp_path) == ()
    assert "HF_TOKEN" not in os.environ
    assert all(f"{name}=\n" in example.read_text() for name in credentials.NAMES)


def test_a_file_that_is_no_text_is_said_without_its_content(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"HF_TOKEN=" + SECRET.encode() + b"\xff")
    with pytest.raises(ConfigFileError, match="cannot be read as text") as raised:
        credentials.read_credentials(tmp_path)
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None


def test_no_byte_of_a_key_is_printed_or_written(tmp_path: Path) -> None:
    secrets = {name: f"{SECRET}-{name}" for name in credentials.NAMES}
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in secrets.items()))
    environment = {name: value for name, value in os.environ.items() if name not in secrets}
    extras = ["--monitoring.save_to_tensorboard", "--monitoring.save_to_wandb", "--checkpointing.run_name", "a"]
    done = subprocess.run(
        [sys.executable, "-m", "xenoglot", "train", *TINY_FLAGS, *extras],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        check=True,
    )
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".env"]
    assert any(path.suffix == ".wandb" for path in files)
    written = [done.stdout, done.stderr, *(path.read_bytes() for path in files)]
    assert len(written) > 10
    assert not [content for content in written if SECRET.encode() in content]
