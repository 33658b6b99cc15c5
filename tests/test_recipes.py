"""Ready configurations: each is what an editor's schema and the program accept, and trains."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from configurations import TINY_FLAGS, configurations
from hypothesis import given, settings

from xenoglot import cli, languages
from xenoglot.config import default_config, read_config, recipes, to_mapping, with_overrides
from xenoglot.config.documents import read_document
from xenoglot.config.schema import json_schema
from xenoglot.errors import ConfigFileError, UnknownNameError
from xenoglot.model_sizes import PICO_VOCAB_SIZE, parameters_of

NAMES = sorted(recipes.summaries())
PUBLISHED = {
    "metalm-v1-n5-l32": (5, 32, 0.05),
    "metalm-v1-n10-l32": (10, 32, 0.10),
    "metalm-v1-n10-l64": (10, 64, 0.10),
}


SYLLABLES = [first + middle + last for first in "bdfglm" for middle in "aeiou" for last in "kx"]
TINY_TASKS = [
    *("--smlmt.n_way", "2", "--smlmt.k_shot", "2", "--smlmt.q_query", "1", "--smlmt.tasks_per_step", "2"),
    *("--smlmt.min_token_freq", "1", "--training.optimization.gradient_accumulation_steps", "1"),
    *("--training.max_steps", "3", "--model.max_seq_len", "32"),
]
SCHEMA = jsonschema.Draft202012Validator(json_schema())


# --- recipes ---------------------------------------------------------------------------------------------------------


def test_there_is_a_recipe_for_everything_that_can_be_learned() -> None:
    assert {*PUBLISHED, "metalm-v2", "ngram-net", "markov"} <= set(NAMES)
    assert {"text-bytes", "text-bpe", "smlmt-maml", "hybrid"} <= set(NAMES)
    assert {f"pico-maml-{size}" for size in ("tiny", "small", "medium", "large")} <= set(NAMES)


@pytest.mark.parametrize(("size", "millions"), {"tiny": 11, "small": 65, "medium": 181, "large": 570}.items())
def test_pico_s_sizes_have_the_parameters_that_are_published(size: str, millions: int) -> None:
    model = read_config(recipes.path(f"pico-maml-{size}")).model
    n_parameters = parameters_of(dataclasses.replace(model, vocab_size=PICO_VOCAB_SIZE))
    assert n_parameters / 1e6 == pytest.approx(millions, abs=1)
    assert f"{millions} million parameters" in recipes.summaries()[f"pico-maml-{size}"]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_read_by_name_and_says_what_it_is(name: str) -> None:
    config = read_config(recipes.path(name))
    assert config != default_config()
    lines = recipes.path(name).read_text().splitlines()
    summary = recipes.summaries()[name]
    assert lines[0] == f"# {summary}"
    assert summary.endswith((".", "`."))
    head = " ".join(line.removeprefix("#") for line in lines if line.startswith("#"))
    assert "Needs: " in head
    assert "Two CPU cores: " in head
    assert "TIME" not in head


@pytest.mark.parametrize(("name", "sizes"), PUBLISHED.items())
def test_the_published_sizes_are_those(name: str, sizes: tuple[int, float, float]) -> None:
    config = read_config(recipes.path(name))
    family = languages.get("metalm-v1")(
        vocab_size=64, n_elements=sizes[0], element_length=sizes[1], error_rate=sizes[2], separator=True
    )  # type: ignore[call-arg]
    assert (config.languages, config.model.max_seq_len) == (family, 4096)
    first = config.family_of(config.curriculum[0])
    assert (first.n_elements, first.element_length, first.error_rate) == (1, 8, 0.0)  # type: ignore[attr-defined]
    lengths = [stage.length for stage in config.curriculum]
    assert lengths == sorted(lengths)  # type: ignore[type-var]
    assert config.curriculum[-1].until_step < config.training.max_steps


def test_an_unknown_recipe_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'metalm-v1-n5-l32'"):
        recipes.path("metalm-v1-n5")


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains_in_a_tiny_version(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sentences = np.random.default_rng(0).choice(SYLLABLES, size=(900, 4))
    (tmp_path / "book.txt").write_text("".join(f"It was {' '.join(words)}.\n" for words in sentences))
    wanted = read_config(recipes.path(name))
    words = ["train", "--recipe", name, *TINY_FLAGS, "--checkpointing.run_name", "a"]
    assert cli.main([*words, *(TINY_TASKS if wanted.smlmt.enabled else [])]) == 0, capfd.readouterr().err
    stored = read_config(tmp_path / "runs" / "a" / "config.yaml")
    assert stored.smlmt.classifier_head == wanted.smlmt.classifier_head
    assert (stored.languages, stored.curriculum) == (wanted.languages, wanted.curriculum)
    assert stored.training.optimization.lr == wanted.training.optimization.lr


def test_recipes_are_listed_in_the_readme_and_by_help(readme: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    printed = capsys.readouterr().out
    assert [name for name in NAMES if f"\n  {name}: " not in printed] == []
    assert [name for name in NAMES if f"`{name}`" not in readme] == []


# --- the schema ------------------------------------------------------------------------------------------------------


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_accepts_recipes(name: str) -> None:
    SCHEMA.validate(read_document(recipes.path(name)).values)


@settings(max_examples=30, deadline=None)
@given(configurations())
def test_the_schema_accepts_every_configuration(config: Any) -> None:
    SCHEMA.validate(to_mapping(config))


@pytest.mark.parametrize(
    "content",
    [
        "training: {max_step: 10}",
        "training: {max_steps: 0}",
        "training: {max_steps: '10'}",
        "training: {max_steps: 10.5}",
        "training: {max_steps: null}",
        "training: {compile: 1}",
        "training: {optimization: {lr: -1}}",
        "training: {optimization: {lr_scheduler: sawtooth}}",
        "model: {norm_eps: 0}",
        "model: {tie_word_embeddings: maybe}",
        "languages: {family: markov, n_elements: 3}",
        "languages: {family: markof}",
        "languages: {error_rate: 2}",
        "curriculum: [{until: 3}]",
        "curriculum: [{until_step: 0}]",
        "curriculum: {until_step: 5}",
        "smlmt: {enable: true}",
        "smlmt: {hybrid_ratio: 1.5}",
        "smlmt: {classifier_head: {layers: 3}}",
        "- 1",
    ],
)
def test_the_schema_refuses_what_the_program_refuses(tmp_path: Path, content: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(content)
    assert not SCHEMA.is_valid(yaml.safe_load(content))
    with pytest.raises(ConfigFileError):
        read_config(path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "training:",
        "languages: {n_elements: 3}",
        "languages: {family: v1}",
        "curriculum: []",
        "model: {norm_eps: 1}",
    ],
)
def test_the_schema_accepts_what_the_program_accepts(tmp_path: Path, content: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(content)
    assert SCHEMA.is_valid(yaml.safe_load(content) or {})
    read_config(path)


def test_the_schema_knows_families_of_one_s_own() -> None:
    assert SCHEMA.is_valid({"languages": {"family": "my_module:Mine", "any": 3}})


def options(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}{name}", inner
        yield from options(inner, f"{path}{name}.")


def test_every_option_of_the_schema_is_explained() -> None:
    described = dict(options(json_schema()))
    assert len(described) > 80
    assert [path for path, inner in described.items() if not inner.get("description")] == []
    assert described["training.optimization.lr_warmup_steps"] == {
        "description": "steps over which the rate rises from zero [steps]",
        "type": "integer",
        "default": 100,
        "minimum": 0,
    }
    assert described["checkpointing.keep_last"]["type"] == ["integer", "null"]
    assert "default" not in described["model.d_model"]  # it depends on what is learned
    assert all(inner["additionalProperties"] is False for inner in described.values() if "properties" in inner)


def test_defaults_of_the_schema_are_those_of_the_program() -> None:
    for path, inner in options(json_schema()):
        if "default" in inner:
            for config in (default_config(), default_config("book.txt")):
                assert with_overrides(config, {path: inner["default"]}) == config, path


def test_printing_the_schema_is_the_schema() -> None:
    words = [sys.executable, "-m", "xenoglot", "train", "--print_schema"]
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == json_schema()
