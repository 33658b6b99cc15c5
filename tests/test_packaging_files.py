"""What stands around the package says what is so: extras, bounds, citation, keys, templates, workflow."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numba
import pytest
import yaml
from configurations import TINY_FLAGS

from xenoglot import credentials
from xenoglot.cli import main
from xenoglot.kernels import compiled

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
SOURCES = {path: ast.parse(path.read_text()) for path in sorted((ROOT / "xenoglot").rglob("*.py"))}
OF_LAUNCHERS = {"LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE"}
"""What torchrun tells each process; nobody sets these by hand."""

TEXT = {"type": "string", "minLength": 1}
PERSON = {
    "anyOf": [
        {"required": ["name"], "properties": {"name": TEXT}, "additionalProperties": False},
        {"required": ["family-names", "given-names"], "properties": {"family-names": TEXT, "given-names": TEXT}},
    ]
}
PEOPLE = {"type": "array", "minItems": 1, "items": PERSON}
CITATION = {
    # what the Citation File Format 1.2.0 says of the keys that are used here
    "required": ["cff-version", "message", "title", "authors"],
    "additionalProperties": False,
    "properties": {
        "cff-version": {"const": "1.2.0"},
        "type": {"enum": ["software", "dataset"]},
        "message": TEXT,
        "title": TEXT,
        "abstract": TEXT,
        "authors": PEOPLE,
        "version": TEXT,
        "license": TEXT,
        "references": {
            "type": "array",
            "items": {
                "required": ["type", "title", "authors"],
                "additionalProperties": False,
                "properties": {
                    "type": {"enum": ["article", "conference-paper", "report", "software"]},
                    "title": TEXT,
                    "authors": PEOPLE,
                    "year": {"type": "integer"},
                    "url": {"type": "string", "pattern": r"^https://\S+$"},
                    "notes": TEXT,
                },
            },
        },
    },
}
FORM = {
    # GitHub's syntax for issue forms, of the one kind of field that is used here
    "required": ["name", "description", "body"],
    "additionalProperties": False,
    "properties": {
        "name": TEXT,
        "description": TEXT,
        "body": {
            "type": "array",
            "minItems": 1,
            "items": {
                "required": ["type", "id", "attributes"],
                "additionalProperties": False,
                "properties": {
                    "type": {"const": "textarea"},
                    "id": {"type": "string", "pattern": r"^[\w-]+$"},
                    "attributes": {
                        "required": ["label"],
                        "additionalProperties": False,
                        "properties": {"label": TEXT, "description": TEXT, "render": TEXT},
                    },
                    "validations": {"properties": {"required": {"type": "boolean"}}, "additionalProperties": False},
                },
            },
        },
    },
}


def calls(name: str) -> Iterator[ast.Call]:
    for tree in SOURCES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                yield node


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def packages_of(extra: str) -> set[str]:
    return {re.split(r"[<>=]", line)[0] for line in EXTRAS[extra]}


def test_every_extra_that_an_error_names_installs_what_is_missing() -> None:
    said = set()
    for call in [*calls("MissingExtraError"), *calls("_package")]:
        extra = next(word.value for word in call.keywords if word.arg == "extra")
        if isinstance(call.args[0], ast.Constant) and isinstance(extra, ast.Constant):
            said.add((str(call.args[0].value), str(extra.value)))
    assert {extra for _, extra in said} == set(EXTRAS) - {"dev", "docs"}
    assert {(package, extra) for package, extra in said if package not in packages_of(extra)} == set()


@pytest.mark.parametrize(
    ("package", "extra", "words"),
    [
        ("pyarrow", "data", "generate --samples 2 --output samples.parquet"),
        ("pyarrow", "data", "train --data.samples samples.parquet"),
        ("pyarrow", "data", "train --data.dataset.name rows.parquet"),
        ("datasets", "hub", "train --data.dataset.name someone/stories"),
        ("huggingface_hub", "hub", "train --text book.txt --data.tokenizer.name someone/tokens"),
        ("huggingface_hub", "hub", "train --checkpointing.save_to_hf true --checkpointing.hf_checkpoint.repo_id a/b"),
        ("huggingface_hub", "hub", "adapt someone/model --language markov"),
        ("tensorboard", "tensorboard", "train --monitoring.save_to_tensorboard true"),
        ("wandb", "wandb", "train --monitoring.save_to_wandb true"),
        ("trackio", "trackio", "train --monitoring.save_to_trackio true"),
    ],
)
def test_a_missing_extra_is_one_line_that_says_which(
    package: str,
    extra: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text("It was the best of times. " * 40)
    for name in ("samples.parquet", "rows.parquet"):
        (tmp_path / name).write_bytes(b"PAR1")
    before = files_in(tmp_path)
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    tiny = TINY_FLAGS if words.startswith("train") else []
    assert main([*words.split(), *tiny]) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("xenoglot: ")
    assert last.endswith(f"needs {package}. Install it with: pip install 'xenoglot[{extra}]'")
    assert files_in(tmp_path) == before


def test_least_versions_are_constraints_for_pip() -> None:
    script = ROOT / ".ci" / "lower_bounds.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    bounds = dict(line.split("==") for line in done.stdout.splitlines())
    declared = {re.split(r"[<>=]", line)[0] for line in PROJECT["dependencies"]}
    extras = {name for extra in EXTRAS if extra not in ("dev", "docs") for name in packages_of(extra)}
    assert set(bounds) == declared | extras
    for line in EXTRAS["dev"]:
        package, bound = re.fullmatch(r"([\w.-]+)>=([\w.]+)(?:,<.*)?", line).groups()
        assert bounds.get(package, bound) == bound, f"{package}: another bound for those who develop it"


@pytest.mark.parametrize("requirement", ["numpy", "numpy==2.0", "numpy>=1.26,!=1.27"])
def test_a_requirement_without_a_lower_bound_is_refused(requirement: str, tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text(f'[project]\ndependencies = ["{requirement}"]\n[project.optional-dependencies]\n')
    lower_bounds = runpy.run_path(str(ROOT / ".ci" / "lower_bounds.py"))["lower_bounds"]
    with pytest.raises(ValueError, match=re.escape(requirement)):
        lower_bounds(project)


def test_the_citation_is_valid_and_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    jsonschema.validate(citation, CITATION)
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert citation["authors"] == PROJECT["authors"]


def test_the_example_of_keys_has_every_variable_that_people_set() -> None:
    read = set()
    for tree in SOURCES.values():
        for node in ast.walk(tree):
            place = node.value if isinstance(node, ast.Subscript) else node.func if isinstance(node, ast.Call) else None
            if place is None or ast.unparse(place) not in ("os.environ", "os.environ.get", "os.getenv"):
                continue
            name = node.slice if isinstance(node, ast.Subscript) else node.args[0]
            if isinstance(name, ast.Constant):
                read.add(str(name.value))
    shown = set(re.findall(r"^(\w+)=$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert shown == set(credentials.NAMES)
    assert read - OF_LAUNCHERS <= shown


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.name
)
def test_issue_forms_are_valid(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    if path.name == "config.yml":
        assert form == {"blank_issues_enabled": True}
        return
    jsonschema.validate(form, FORM)
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids)


def test_the_workflow_runs_what_everybody_runs() -> None:
    workflow = yaml.load((ROOT / ".github" / "workflows" / "test.yml").read_text(), yaml.BaseLoader)
    assert set(workflow["on"]) >= {"push", "pull_request"}
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    run = {target for step in steps for target in re.findall(r"make ([\w-]+)", step)}
    assert {"test", "docs", "test-lowest"} <= run
    assert run <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_what_has_nowhere_to_be_kept_is_compiled_anew() -> None:
    """As in an installation that nobody may write to, for somebody without a home."""
    names: dict[str, Any] = {"__name__": __name__}
    exec(compile("def doubled(number):\n    return 2 * number\n", "<no file>", "exec"), names)
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(names["doubled"])
    assert compiled(names["doubled"])(21) == 42
