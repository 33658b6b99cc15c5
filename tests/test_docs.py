"""The documentation is true: its blocks run, its tables name what there is, and it builds without a warning."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import xenoglot
from tests.configurations import TINY_FLAGS
from tests.pages import DOCS, ROOT, blocks, commands, text_of
from xenoglot import languages, predictors
from xenoglot.cli import main
from xenoglot.commands.generate import GenerateOptions
from xenoglot.config import default_config, options_by_path
from xenoglot.options import options_of

OTHERS = ("results/", "notebooks/", "house.md", "extending.md", "measures.md")
"""Pages whose blocks have tests of their own, or say with which command a result was made."""
PAGES = sorted(
    path.relative_to(DOCS).as_posix()
    for path in DOCS.rglob("*.md")
    if not path.relative_to(DOCS).as_posix().startswith(OTHERS)
)
LANGUAGES_OF_BLOCKS = {"sh", "python", "text", "yaml", "options", "command"}
TINY_RUN = [*TINY_FLAGS, "--evaluation.eval_every_n_steps", "4"]
TINY_LONGER_RUN = [*TINY_RUN, "--model.max_seq_len", "32"]
TINY_TASKS = ["--smlmt.n_way", "2", "--smlmt.k_shot", "1", "--smlmt.q_query", "1", "--smlmt.tasks_per_step", "1"]
TINY_WORDS = ["--smlmt.min_token_freq", "1", "--smlmt.max_token_freq", "none"]
TINY_ADAPT = ["--n_tasks", "4", "--n_languages", "2", "--n_way", "2", "--k_shot", "1", "--q_query", "1"]
WORDS = ("amber", "basil", "cedar", "dahlia", "ember", "fennel", "garnet", "hazel", "indigo", "jasper", "kelp", "lilac")


def in_a_tiny_version(words: list[str]) -> list[str]:
    """Return what is run instead of a command that would take long."""
    if "--resume" in words:
        return words
    if words[:1] == ["adapt"]:
        return [*words, *TINY_ADAPT]
    if words[:1] != ["train"] or {"--print_config", "--dry-run"} & set(words):
        return words
    reads_text = "--text" in words
    sizes = TINY_LONGER_RUN if reads_text or "--smlmt.enabled" in words else TINY_RUN
    if "--data.samples" in words:
        sizes = [*sizes, "--model.max_seq_len", "64"]
    if "hybrid" in words or "--smlmt.enabled" in words:
        sizes = [*sizes, *TINY_TASKS, *(TINY_WORDS if reads_text else [])]
    if "--data.tokenizer.vocab_size" not in words and "hybrid" in words:
        sizes = [*sizes, "--data.tokenizer.vocab_size", "300"]
    return [*words, *sizes]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in which a page's commands find what they name."""
    sentences = [f"The {first} stood by the {second} near a {first} wall." for first in WORDS for second in WORDS]
    (tmp_path / "book.txt").write_text("\n".join(sentences) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_blocks_run(page: str, workplace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In the order in which they stand on the page, so that a later one may use what an earlier one made."""
    names: dict[str, object] = {}
    for reason, language, block in blocks(text_of(f"docs/{page}")):
        assert language in LANGUAGES_OF_BLOCKS, f"a block of {language!r}: say what it is"
        if reason:
            continue
        if language == "python":
            exec(block, names)
        for words in commands(block) if language == "sh" else []:
            run_command(words, capfd)


def run_command(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert words[0] == "xenoglot", f"{shlex.join(words)}: give a reason why it is not run, or run it"
    target = words[words.index(">") + 1] if ">" in words else None
    given = words[1 : words.index(">")] if target else words[1:]
    capfd.readouterr()
    status = main(in_a_tiny_version(given))
    printed = capfd.readouterr()
    assert status == 0, f"{shlex.join(words)}\n{printed.err}"
    if target:
        Path(target).write_text(printed.out)


def test_every_family_and_predictor_has_its_options_on_a_page() -> None:
    shown = [
        block.strip()
        for page in PAGES
        for _, language, block in blocks(text_of(f"docs/{page}"))
        if language == "options"
    ]
    declared = {f"languages.{name}" for name in languages.registry.members()}
    declared |= {
        f"predictors.{name}"
        for name, kind in predictors.registry.members().items()
        if dataclasses.is_dataclass(kind) and options_of(kind)
    }
    assert declared <= set(shown)


def test_keys_of_tables_are_options() -> None:
    """What a table that translates keys gives as ours is an option, by its path."""
    known = set(options_by_path(default_config())) | {"model.size", "data.text"}
    known |= {
        f"languages.{option.name}" for family in languages.registry.members().values() for option in options_of(family)
    }
    same, others = (DOCS / "coming-from-pico.md").read_text().split("Keys with another name")
    ours = re.findall(r"^\| (`[^|]+) \| [^|]+\|$", same, re.MULTILINE)
    ours += re.findall(r"^\| `[^|]+ \| ([^|]+) \| [^|]+\|$", others, re.MULTILINE)
    named = {key for cell in ours for key in re.findall(r"`([a-z_]+\.[a-z_.]+)`", cell)}
    assert len(named) > 30
    assert {key for key in named if not any(path == key or path.startswith(f"{key}.") for path in known)} == set()


def test_flags_of_the_earlier_systems_are_understood() -> None:
    """What a table of the page about them gives as ours is one, of a family or of the command."""
    rows = re.findall(r"^\| `--\w+[^|]*\| ([^|]+) \|", (DOCS / "coming-from-l3c.md").read_text(), re.MULTILINE)
    given = {flag for row in rows for flag in re.findall(r"--(\w+)", row)}
    owners = [GenerateOptions, *languages.registry.members().values()]
    known = {name for owner in owners for option in options_of(owner) for name in (option.name, *option.flags)}
    assert len(given) > 8
    assert given <= known | {"version"}


def test_examples_of_the_building_parts() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "doctest", "mathematics.py", "docstrings.py"],
        cwd=DOCS / "building",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the pages, built strictly: a link or an anchor that leads nowhere is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1", "HOME": str(folder.parent)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_it_builds_and_asks_nothing_of_a_network(site: Path) -> None:
    pages = [path.read_text() for path in site.rglob("*.html")]
    loaded = re.compile(
        r'(?:<script[^>]* src|<link[^>]* rel="?(?:stylesheet|preconnect)"?[^>]* href|<img[^>]* src)="?https?:'
    )
    assert [loaded.search(page) for page in pages if loaded.search(page)] == []
    assert not any('class="arithmatex"' in page for page in pages)
    assert sum("<math" in page for page in pages) >= 10
    assert json.loads((site / "search" / "search_index.json").read_text())["docs"]


@pytest.mark.parametrize("part", [name for name in xenoglot.__all__ if name != "__version__"])
def test_every_public_class_and_function_is_explained(part: str, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the page of the part that it is of, where links lead to it."""
    monkeypatch.syspath_prepend(str(DOCS / "building"))
    home_of = importlib.import_module("api_pages").home_of
    module = importlib.import_module(f"xenoglot.{part}")
    homes = [home for name in getattr(module, "__all__", ()) if (home := home_of(module.__name__, name))]
    anchors = {home: set(re.findall(r'id="?([\w.]+)', (site / "api" / page_of(home)).read_text())) for home in homes}
    assert [home for home in homes if home not in anchors[home]] == []


def page_of(home: str) -> str:
    """Return the page on which something of the package is explained.

    Example:
        >>> page_of("xenoglot.languages.markov.Markov")
        'languages.html'
    """
    return f"{home.split('.')[1]}.html"
