"""What README and the pages name is there: commands, flags, keys, files; each picture has its command beside it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.pages import DOCS, EVERY_PAGE, ROOT, blocks, commands, prose, spans, text_of
from xenoglot import evaluations, languages
from xenoglot.analysis.config import read_analysis_config
from xenoglot.cli import _parsers
from xenoglot.commands.base import CommandParser, command_modules, spelled_as_declared
from xenoglot.config import RunConfig, default_config, options_by_path, recipes
from xenoglot.config.layers import resolve
from xenoglot.options import options_of

NOT_OURS = {"pip", "jupyter"}
ELSEWHERE = {"docs/coming-from-l3c.md", "docs/coming-from-pico.md"}
"""Pages that name flags and keys of other systems; their tables have tests of their own."""
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)]+\.png)\)")
NEAR = 700
"""Within how many characters after a picture, or before it, its command stands."""
OWN_PICTURES = {"in_context.png": r"xenoglot train|make demo", "language_learning.png": "xenoglot adapt"}
"""Pictures that a command of the program draws, not a script."""

PICO_KEYS = """
checkpointing.training.auto_resume checkpointing.evaluation.eval_results_dir
checkpointing.learning_dynamics.layer_suffixes checkpointing.learning_dynamics.sequence_idx
checkpointing.learning_dynamics.batch_size
checkpointing.learning_dynamics.eval_data checkpointing.hf_checkpoint.repo_id
checkpointing.hf_checkpoint.collection_slug checkpointing.run_name checkpointing.runs_dir
checkpointing.checkpoints_dir checkpointing.logs_dir checkpointing.fabric_checkpoint_dir
checkpointing.fabric_checkpoint_filename checkpointing.learning_dynamics_dir checkpointing.save_every_n_steps
checkpointing.save_to_hf data.dataset.name data.dataloader.batch_size data.tokenizer.name data.tokenizer.vocab_size
evaluation.metrics evaluation.paloma.dataset_name evaluation.paloma.dataset_split evaluation.paloma.max_length
evaluation.paloma.batch_size model.model_type model.d_model model.n_layers model.vocab_size model.batch_size
model.max_seq_len model.attention_n_heads model.attention_n_kv_heads model.activation_hidden_dim model.norm_eps
model.position_emb_theta monitoring.logging.log_level monitoring.logging.log_every_n_steps monitoring.save_to_wandb
monitoring.wandb.project monitoring.wandb.entity smlmt.enabled smlmt.hybrid_ratio smlmt.min_token_freq
smlmt.max_token_freq smlmt.inner_steps smlmt.inner_lr smlmt.k_shot smlmt.n_way smlmt.classifier_head.hidden_dim
smlmt.classifier_head.dropout smlmt.classifier_head.num_layers smlmt.classifier_head.init_method
training.fabric.num_nodes training.fabric.num_devices training.fabric.precision training.fabric.accelerator
training.optimization.optimizer training.optimization.lr training.optimization.lr_scheduler
training.optimization.lr_warmup_steps training.optimization.gradient_accumulation_steps training.max_steps
"""
"""Every key of the released configuration: the fields in src/config of pico-maml-train at revision 9cfd29a."""
L3C_FLAGS = """
version sample_type task_file vocab_size embedding_size hidden_size patterns_number error_rate n_gram lambda_weight
batch_size sequence_length samples output_type output elements_length elements_number
"""
"""Every flag of the two generators: l3c 0.2.2.0's l3c/metalang/generator.py, MetaGym's metagym/metalm."""


def refused(words: list[str]) -> str:
    """Return what the program's own parser says against a command line, without running it."""
    _, parsers = _parsers(command_modules(), words)
    if words[0] not in parsers or len(words) == 1:
        return "" if words[0] in parsers else f"{words[0]} is no command"
    chosen = parsers[words[0]]
    if {"--help", "-h"} & set(words):
        words = [word for word in words if word not in ("--help", "-h")]
        return unknown_flags(words, chosen)
    _, unknown = chosen.parse_known_args(spelled_as_declared(words[1:], chosen))
    return shlex.join(unknown)


def unknown_flags(words: list[str], parser: CommandParser) -> str:
    given = [word for word in spelled_as_declared(words[1:], parser) if word.startswith("--")]
    return " ".join(flag for flag in given if flag not in parser.flags())


def complaint(words: list[str]) -> str:
    """Return what is wrong with one command of a page; nothing if it is as it should be."""
    program, *rest = words[: words.index(">")] if ">" in words else words
    if program == "torchrun":
        return refused(rest[rest.index("xenoglot") + 1 :])
    if program == "make":
        targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
        return " ".join(set(rest) - targets)
    if program == "python":
        return "" if (ROOT / rest[0]).is_file() or rest[0] == "-m" else f"{rest[0]} is not there"
    if program == "xenoglot":
        return "" if rest[0].startswith("--print-completion") else refused(rest)
    return "" if program in NOT_OURS else f"{program}: what is it?"


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put what pages name where a command looks for it: the plug-ins of docs/extending.md, and files of others."""
    for name, body in re.findall(r"```python\n# (\w+)\.py\n(.*?)```", text_of("docs/extending.md"), re.DOTALL):
        (tmp_path / f"{name}.py").write_text(body)
    for name in ("pico-maml-decoder-tiny.yaml", "FILE"):
        (tmp_path / name).write_text("smlmt: {enabled: true}\n")
    (tmp_path / "mine.yaml").write_text("training: {max_steps: 3000}\n")
    for run in ("NAME", "first", "long", "BOOK"):
        (tmp_path / "runs" / run).mkdir(parents=True)
        (tmp_path / "runs" / run / "config.yaml").write_text("training: {max_steps: 3000}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_every_command_is_one_that_the_program_takes(page: str) -> None:
    given = [words for _, language, block in blocks(text_of(page)) if language == "sh" for words in commands(block)]
    given += [shlex.split(span) for span in spans(text_of(page)) if re.match(r"(xenoglot|python|make) \S", span)]
    wrong = [f"{shlex.join(words)}: {found}" for words in given if (found := complaint(words))]
    assert wrong == []


@pytest.fixture(scope="module")
def known_flags() -> set[str]:
    """Return every flag of every command, with the options of every family and every evaluation."""
    names = list(languages.registry.members())
    lines = [[command] for command in command_modules()]
    lines += [["generate", "--version", name] for name in names]
    lines += [["train", "--languages.family", name] for name in names]
    lines += [["adapt", "--language", name] for name in names]
    lines += [["evaluate", "--evaluation", name] for name in evaluations.registry.members()]
    found = {"--print-completion", "--version", "--help"}
    for words in lines:
        found |= set(_parsers(command_modules(), words)[1][words[0]].flags())
    return found | {flag.replace("-", "_") for flag in found if flag.startswith("--")}


@pytest.mark.parametrize("page", sorted(set(EVERY_PAGE) - ELSEWHERE))
def test_every_flag_in_the_text_is_one(page: str, known_flags: set[str]) -> None:
    named = [span.split()[0].partition("=")[0] for span in spans(text_of(page)) if span.startswith("--")]
    assert [flag for flag in named if flag not in known_flags] == []


@pytest.mark.parametrize("page", sorted(set(EVERY_PAGE) - ELSEWHERE))
def test_every_key_in_the_text_is_one(page: str) -> None:
    """A key is a path that begins with a section of a run's configuration."""
    sections = set(vars(default_config()))
    paths = set(options_by_path(default_config())) | {"model.size", "curriculum"}
    paths |= {f"languages.{known.name}" for kind in languages.registry.members().values() for known in options_of(kind)}
    named = {span.partition(":")[0] for span in spans(text_of(page)) if re.fullmatch(r"\w+(\.\w+)+(: .+)?", span)}
    keys = {name for name in named if name.split(".")[0] in sections and not (ROOT / "docs" / name).exists()}
    unknown = {key for key in keys if not any(path == key or path.startswith(f"{key}.") for path in paths)}
    assert {key for key in unknown if not key.endswith((".yaml", ".json", ".md"))} == set()


@pytest.mark.parametrize("page", [page for page in EVERY_PAGE if PICTURE.search(text_of(page))])
def test_every_picture_has_its_command_beside_it(page: str) -> None:
    """It names a script that writes a file of that name, or the command of the program that draws it."""
    text = text_of(page)
    for picture in PICTURE.finditer(text):
        name = Path(picture[1]).name
        is_result = page.startswith(("docs/results/", "docs/notebooks/"))  # a page of one command, at its top or end
        beside = text if is_result else text[max(0, picture.start() - NEAR) : picture.end() + NEAR]
        assert (ROOT / page).parent.joinpath(picture[1]).is_file(), f"{page}: {name} is not there"
        if name in OWN_PICTURES:
            assert re.search(OWN_PICTURES[name], beside), f"{page}: say which command draws {name}"
            continue
        scripts = re.findall(r"python (docs/\S+\.py)", beside)
        assert scripts, f"{page}: say which command draws {name}"
        assert any(draws(ROOT / script, name) for script in scripts), f"{page}: {scripts} do not draw {name}"


def draws(script: Path, name: str) -> bool:
    """Whether a script names the picture that it writes, or the picture is named after the script or a notebook."""
    if script.stem == "notebook_pages":
        return (DOCS / "notebooks" / f"{name.rpartition('-')[0]}.ipynb").is_file()
    return script.is_file() and (f'"{name}"' in script.read_text() or name.startswith(script.stem))


def test_every_picture_is_shown() -> None:
    shown = {Path(name).name for page in EVERY_PAGE for name in PICTURE.findall(text_of(page))}
    assert {path.name for path in DOCS.rglob("*.png")} == shown


def test_every_result_is_in_the_table_of_results() -> None:
    """With a command that its own page names too, or the page of a run that anybody can make."""
    table = re.sub(r"<!--.*?-->", "", text_of("docs/results/index.md"), flags=re.DOTALL)
    rows = {Path(page).name: row for row in table.splitlines() for page in re.findall(r"^\| \[[^]]+\]\(([^)]+)\)", row)}
    pages = {path.name for path in (DOCS / "results").glob("*.md")} - {"index.md"}
    assert pages <= set(rows)
    for name in pages:
        [command] = re.findall(r"`((?:python|xenoglot) [^`]+)`", rows[name])
        program = " ".join(command.split()[:2])
        assert program in text_of(f"docs/results/{name}"), f"{name} does not say {program}"


def test_every_recipe_is_in_the_table_of_recipes() -> None:
    named = {name for row in text_of("docs/training.md").splitlines() for name in re.findall(r"`([\w-]+)`", row)}
    assert set(recipes.summaries()) <= named


def test_yaml_blocks_are_configurations(tmp_path: Path) -> None:
    """Of a run, or of an analysis, which names its metrics."""
    import yaml

    found = [block for page in EVERY_PAGE for _, language, block in blocks(text_of(page)) if language == "yaml"]
    of_runs = [said for block in found if "metrics" not in (said := yaml.safe_load(block))]
    assert 0 < len(of_runs) < len(found)
    for said in of_runs:
        assert isinstance(resolve(said), RunConfig)
    file = tmp_path / "analysis.yaml"
    for block in found:
        if "metrics" in yaml.safe_load(block):
            file.write_text(block)
            assert read_analysis_config(file).metrics


def test_no_command_has_a_place_to_be_filled_by_nobody() -> None:
    """Every placeholder is one that a reader can fill: a run, a model, a host of theirs."""
    assert [page for page in EVERY_PAGE if "REPOSITORY" in text_of(page)] == []
    assert [page for page in EVERY_PAGE if re.search(r"\b(TODO|FIXME|XXX|TBD)\b", prose(text_of(page)))] == []


def test_every_key_of_pico_maml_is_in_the_tables() -> None:
    page = text_of("docs/coming-from-pico.md")
    named = {key for row in page.splitlines() if row.startswith("|") for key in re.findall(r"`([\w.]+)`", row)}
    assert set(PICO_KEYS.split()) - named == set()


def test_every_flag_of_the_earlier_generators_is_in_the_table() -> None:
    page = text_of("docs/coming-from-l3c.md")
    cells = [row.split("|")[1] for row in page.splitlines() if row.startswith("| `--")]
    assert set(L3C_FLAGS.split()) - {flag for cell in cells for flag in re.findall(r"--(\w+)", cell)} == set()
