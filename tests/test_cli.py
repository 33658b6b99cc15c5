"""The program from outside: what it prints, what it refuses, how it ends."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from xenoglot import commands, languages
from xenoglot.cli import main
from xenoglot.commands.base import CommandParser, spelled_as_declared
from xenoglot.commands.describe import plain_mathematics, plain_text
from xenoglot.options import options_of

Run = Callable[[str], tuple[int, str, str]]
LONG_RUN = ["generate", "--version", "v2", "--samples", "100000", "--seed", "1"]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the program in this process and an empty folder; returns exit code, output and complaints."""
    monkeypatch.chdir(tmp_path)

    def run(line: str) -> tuple[int, str, str]:
        try:
            code = main(shlex.split(line))
        except SystemExit as ending:
            code = int(ending.code or 0)
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


def start(*words: str, **keywords: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "xenoglot", *words], stderr=subprocess.PIPE, **keywords)  # type: ignore[call-overload]


# --- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["", "--help"])
def test_help_lists_the_commands(run: Run, words: str) -> None:
    code, output, _ = run(words)
    assert code == 0
    assert all(f"    {name} " in output for name in ("describe", "generate", "train"))


def test_version(run: Run) -> None:
    code, output, _ = run("--version")
    assert code == 0
    assert re.fullmatch(r"xenoglot \d+\.\d+\.\d+\S*\n", output)


def test_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "xenoglot", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("xenoglot ")


@pytest.mark.parametrize("name", ["v1", "metalm-v2", "ngram-net", "markov"])
def test_help_shows_the_family_s_options_with_limits_and_defaults(run: Run, name: str) -> None:
    code, output, _ = run(f"generate --version {name} --help")
    text = " ".join(output.split())
    assert code == 0
    for declared in options_of(languages.get(name)):
        for flag in (declared.name, *declared.flags):
            assert f"--{flag}" in text
        assert declared.doc in text
        if declared.kind is not bool:
            assert f"[{declared.allowed}" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(run: Run, shell: str) -> None:
    code, output, _ = run(f"--print-completion {shell}")
    assert code == 0
    assert "generate" in output
    assert "sequence_length" in output


def test_a_command_is_one_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "HELP = 'say hello'\ndef add_arguments(parser):\n    parser.add_argument('--who')\n"
    source += "def run(arguments):\n    print('hello', arguments.who)\n    return 7\n"
    (tmp_path / "greet.py").write_text(source)
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "xenoglot.commands.greet", raising=False)
    assert run("greet --who world") == (7, "hello world\n", "")
    assert "say hello" in run("--help")[1]


# --- generate --------------------------------------------------------------------------------------------------------


def test_without_output_text_goes_to_standard_output_and_the_seed_to_complaints(run: Run) -> None:
    words = "generate --version v1 --samples 3 --sequence_length 5"
    code, output, complaints = run(words)
    assert code == 0
    [seed] = re.fullmatch(r"seed (\d+)\n", complaints).groups()  # type: ignore[union-attr]
    assert run(f"{words} --seed {seed}") == (0, output, "")
    assert [len(line.split("\t")) for line in output.splitlines()] == [5] * 3


def test_options_reach_the_family_under_every_name_and_spelling(run: Run) -> None:
    family = languages.MetaLMv1(vocab_size=9, n_elements=2, element_length=5, error_rate=0.0, separator=True)
    expected = family.batch(2, 30, seed=4)
    spellings = [
        "--version v1 --vocab_size 9 --elements_number 2 --elements_length 5 --error_rate 0 --separator",
        "--version=metalm-v1 --vocab-size=9 --n=2 --element-length=5.0 --error-rate=0.0 --separator true",
    ]
    for words in spellings:
        code, _, _ = run(f"generate {words} --sequence-length 30 --samples 2 --seed 4 --output a.npy")
        assert code == 0
        np.testing.assert_array_equal(np.load("a.npy"), np.stack([expected.inputs, expected.targets], axis=1))


def test_output_type_of_the_earlier_program(run: Run, tmp_path: Path) -> None:
    assert run("generate --samples 2 --sequence_length 3 --seed 0 --output_type npy --output a.txt")[0] == 0
    assert np.load(tmp_path / "a.txt").shape == (2, 2, 3)


def test_a_family_of_one_s_own(run: Run, tmp_path: Path) -> None:
    source = (
        "from xenoglot.languages.markov import Markov\nclass Mine(Markov):\n    '''All mine.'''\n    name = 'mine'\n"
    )
    (tmp_path / "my_family_module.py").write_text(source)
    words = "--order 0 --samples 2 --sequence_length 3 --seed 0"
    expected = run(f"generate --version markov {words}")
    assert run(f"generate --version my_family_module:Mine {words}") == expected
    assert expected[0] == 0
    assert "All mine." in run("describe my_family_module:Mine")[1]


@pytest.mark.parametrize("ending", ["png", "svg"])
@pytest.mark.parametrize("words", ["--version v1 --separator", "--sequence_length 1 --samples 1"])
def test_a_picture(run: Run, tmp_path: Path, ending: str, words: str) -> None:
    given = f"generate --samples 3 --sequence_length 40 --seed 0 --output a.txt --plot a.{ending} {words}"
    assert run(given) == (0, "", f"picture a.{ending}\n")
    picture = (tmp_path / f"a.{ending}").read_bytes()
    assert picture.startswith({"png": b"\x89PNG", "svg": b"<?xml"}[ending])
    assert len(picture) > 5000


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("genrate", "unknown command 'genrate'. Did you mean 'generate'?"),
        ("generate --version metalm-v3", "unknown family 'metalm-v3'. Did you mean 'metalm-v"),
        ("generate --smaples 3", "unknown option '--smaples'. Did you mean '--samples'?"),
        ("generate --version v2 --error_rate 0.1", "unknown option '--error_rate'. It is an option of metalm-v1"),
        ("generate --version v1 --hidden-size 3", "'--hidden-size'. It is an option of metalm-v2 and ngram-net"),
        ("generate --sampl 3", "unknown option '--sampl'. Did you mean '--samples'?"),
        ("generate extra", "unexpected argument 'extra'"),
        ("generate --samples", "argument --samples: expected one argument"),
        ("generate --version", "argument --version: expected one argument"),
        ("generate --samples many", "samples: got 'many'; allowed: a whole number, at least 1."),
        ("generate --samples 0", "samples: got 0; allowed: a whole number, at least 1."),
        ("generate --sequence_length 0", "sequence_length: got 0; allowed: a whole number from 1 to 2147483646."),
        ("generate --version v1 --vocab_size 1", "vocab_size: got 1; allowed: a whole number from 2 to"),
        ("generate --version v1 --n 0", "n_elements: got 0; allowed: a whole number from 1 to 1000000."),
        ("generate --version v1 --error_rate 1.5", "error_rate: got 1.5; allowed: a number from 0 to 1."),
        ("generate --version v1 --error_rate nan", "error_rate: got nan; allowed: a number from 0 to 1."),
        ("generate --version v1 --separator maybe", "separator: got 'maybe'; allowed: true or false."),
        ("generate --cell tree", "cell: got 'tree'; allowed: one of rnn, gru, lstm."),
        ("generate --seed -1", "seed: got -1; allowed: a whole number from 0 to 9223372036854775807, or none."),
        ("generate --seed 9223372036854775808", "seed: got 9223372036854775808; allowed: a whole number from 0 to"),
        ("generate --shards 2", "shards: got 2; allowed: 1 on standard output."),
        ("generate --samples 2 --shards 3 --output a.txt", "shards: got 3; allowed: a whole number from 1 to 2."),
        ("generate --floor", "floor: got True; allowed: false on standard output."),
        ("generate --floor --output a.npy", "floor: got True; allowed: false for npy."),
        ("generate --output_type npy", "output: got None; allowed: a path"),
        ("generate --plot a.gif", "plot: got 'a.gif'; allowed: a path that ends in .png, .svg, .pdf."),
        ("generate --output missing/a.txt", "cannot write 'missing/a.txt': the folder 'missing' does not exist"),
        ("generate --output .", "cannot write '.': it is a folder"),
        (f"verify {'x' * 300}", "File name too long. Give a path that this user may use."),
        (f"train --text {'x' * 300}", "File name too long. Give a path that this user may use."),
        ("describe markof", "unknown family 'markof'. Did you mean 'markov'?"),
        ("describe no_module:Mine", "There is no module 'no_module'"),
    ],
)
def test_what_is_refused_gets_one_line_and_leaves_nothing(run: Run, tmp_path: Path, words: str, message: str) -> None:
    code, output, complaints = run(words)
    lines = [line for line in complaints.splitlines() if not re.fullmatch(r"seed \d+", line)]
    assert code == 2
    assert output == ""
    assert len(lines) == 1
    assert lines[0].startswith("xenoglot: ")
    assert message in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_words_after_two_dashes_are_left_alone() -> None:
    parser = CommandParser(prog="demo")
    parser.add_argument("--a_b")
    parser.add_argument("--c-d")
    words = ["--a-b=x-y", "--c_d", "--e_f", "--", "--a-b"]
    assert spelled_as_declared(words, parser) == ["--a_b=x-y", "--c-d", "--e_f", "--", "--a-b"]


# --- how it ends -----------------------------------------------------------------------------------------------------


def test_a_reader_that_has_seen_enough_ends_it_quietly() -> None:
    process = start(*LONG_RUN, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert re.match(rb"\d+,\d+\t", process.stdout.read(20))
    process.stdout.close()
    _, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_standard_output_is_said() -> None:
    with open("/dev/full", "wb") as full:
        process = start("generate", "--samples", "1", "--seed", "1", stdout=full)
        _, complaints = process.communicate(timeout=60)
    assert process.returncode == 2
    assert complaints == b"xenoglot: cannot write to standard output: No space left on device.\n"


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, b"interrupted"), (signal.SIGTERM, 143, b"terminated")]
)
def test_a_stopped_run_leaves_nothing_and_says_so(
    tmp_path: Path, workers: str, number: signal.Signals, code: int, word: bytes
) -> None:
    (tmp_path / "a.txt").write_text("old")
    process = start(*LONG_RUN, "--workers", workers, "--output", "a.txt", cwd=tmp_path, start_new_session=True)
    deadline = time.monotonic() + 60
    while not any(path.name.endswith(".partial") and path.stat().st_size for path in tmp_path.iterdir()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # a terminal sends Ctrl-C to the whole group
    else:
        process.send_signal(number)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == code
    assert complaints == b"xenoglot: " + word + b"; nothing half-written is left\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


# --- describe --------------------------------------------------------------------------------------------------------


def test_describe_lists_every_family(run: Run) -> None:
    code, output, _ = run("describe")
    assert code == 0
    for name in languages.names():
        assert re.search(rf"^{name}\b.+", output, re.MULTILINE)


@pytest.mark.parametrize("name", ["metalm-v1", "v2", "ngram-net", "markov", "context-tree"])
def test_describe_says_what_options_floor_and_source_are_without_markup(run: Run, name: str) -> None:
    code, output, _ = run(f"describe {name}")
    prose = output.partition("Example:")[0]
    assert code == 0
    assert "Floor: " in output
    assert "Source: " in output
    assert not set("`\\{}$").intersection(prose)
    assert ".. math" not in output
    text = " ".join(output.split())
    for declared in options_of(languages.get(name)):
        assert f"--{declared.name}" in text
        assert declared.doc in text


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (r"a \, b \; c", "a b c"),
        (r"\frac{1}{n} \sum_{i=0}^{n-1} a_i", "1/n Σ_(i=0)^(n-1) a_i"),
        (r"\frac{a b}{c + d}", "(a b)/(c + d)"),
        (r"E_{x_{t-1}}", "E_(x_(t-1))"),
        (r"a, \qquad b", "a,\nb"),
        (r"a, \quad b", "a,  b"),
        (r"\text{if } x \in \mathrm{V}", "if x ∈ V"),
        ("x " * 40 + r"\quad y", "x " * 39 + "x\ny"),
    ],
)
def test_mathematics_becomes_ordinary_characters(formula: str, text: str) -> None:
    assert plain_mathematics(formula) == text


def test_lists_and_code_keep_their_lines() -> None:
    text = plain_text("Two:\n\n- one `a`\n  more\n- two\n\n```python\nx = *y\n```\n\nExample:\n    >>> 1 * 2\n    2")
    assert text == "Two:\n\n- one a more\n- two\n\nx = *y\n\nExample:\n    >>> 1 * 2\n    2"


@pytest.mark.parametrize(("given", "expected"), [({}, "10000"), ({"GOMP_SPINCOUNT": "77"}, "77")])
def test_threads_sleep_soon_unless_the_user_says_otherwise(given: dict[str, str], expected: str) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    program = "import os, sys; from xenoglot.cli import main; main([]); sys.stderr.write(os.environ['GOMP_SPINCOUNT'])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**kept, **given}
    )
    assert done.stderr.endswith(expected)
