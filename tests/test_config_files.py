"""Configurations as YAML: what words mean, which line is at fault, and that what is written is what is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from configurations import configurations
from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot.config import default_config, from_mapping, read_config, resolve, to_mapping, write_config
from xenoglot.config.documents import read_document, scalar_text
from xenoglot.config.files import config_text
from xenoglot.errors import ConfigFileError, OutputError
from xenoglot.languages.markov import Markov
from xenoglot.languages.metalm_v1 import MetaLMv1

PRINTABLE = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn", "Co", "Zl", "Zp"])
PLAIN_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(PRINTABLE, max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(PRINTABLE, max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run.yaml"


def complaint(file: Path, content: str | bytes) -> str:
    """Read a file that cannot be used, and return what is said about it, without the folder."""
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigFileError) as raised:
        read_config(file)
    assert str(raised.value).startswith(f"{file}")
    return str(raised.value).removeprefix(f"{file.parent}/")


# --- what words mean -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("1e-4", 1e-4),
        ("1E-4", 1e-4),
        ("1e5", 1e5),
        ("-2.5e+3", -2500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("1_000", 1000),
        ("1_0.5", 10.5),
        ("010", 10),
        ("-7", -7),
        (".inf", float("inf")),
        ("true", True),
        ("False", False),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("null", None),
        ("none", None),
        ("None", None),
        ("~", None),
        ("", None),
        ("'none'", "none"),
        ('"1e-4"', "1e-4"),
        ("0x10", "0x10"),
        ("1:30", "1:30"),
        ("2026-11-22", "2026-11-22"),
        ("e5", "e5"),
        ("1e", "1e"),
        ("-", [None]),
        ("<<", "<<"),
        ("!!str 3", "3"),
        ("!!float 3", 3.0),
    ],
)
def test_a_word_is_what_people_mean(file: Path, word: str, value: Any) -> None:
    file.write_text(f"word: {word}" if word != "-" else "word:\n- ")
    [read] = read_document(file).values.values()
    assert (read, type(read)) == (value, type(value))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(PRINTABLE, max_size=5), PLAIN_VALUES, max_size=3))
def test_json_is_read_as_json(tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "values.yaml"
    path.write_text(json.dumps(values, ensure_ascii=False))
    assert read_document(path).values == values


@settings(max_examples=100, deadline=None)
@given(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9))
def test_what_is_written_means_the_same_to_every_reader(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "scalar.yaml"
    line = f"key: {scalar_text(value)}  # and a comment\nother: 1\n"
    path.write_bytes(line.encode())
    assert line.count("\n") == 2
    assert read_document(path).values == yaml.safe_load(line) == {"key": value, "other": 1}


def test_anchors_and_merges(file: Path) -> None:
    file.write_text("a: &a {x: 1, y: 2}\nb: &b {x: 3, z: 4}\nc:\n  <<: [*a, *b]\n  y: 5\nd: *a\n")
    values = read_document(file).values
    assert values == yaml.safe_load(file.read_text())
    assert values["c"] == {"x": 1, "y": 5, "z": 4}


def test_aliases_of_aliases_cost_nothing(file: Path) -> None:
    lines = ["a0: &a0 [1, 1]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 40))]
    file.write_text("\n".join(lines))
    assert read_document(file).values["a0"] == [1, 1]


# --- what is at fault ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "training:\n  max_step: 10\n",
            "line 2: unknown option 'training.max_step'. Did you mean 'training.max_steps'",
        ),
        ("a:\n", "line 1: unknown option 'a'. Known: checkpointing, curriculum, data"),
        (
            "training:\n\n  max_steps: '3'\n",
            "line 3: training.max_steps: got '3'; allowed: a whole number, at least 1.",
        ),
        ("training: {max_steps: 3.0}", "line 1: training.max_steps: got 3.0; allowed: a whole number"),
        ("training: {compile: on}", "line 1: training.compile: got 'on'; allowed: true or false."),
        ("model:\n  n_layers: 3\n  d_model: 65\n", "line 3: model.d_model: got 65; allowed: a multiple of twice"),
        ("model: 3", "line 1: model: got 3; allowed: a section of keys and values"),
        ("languages: markov", "line 1: languages: got 'markov'; allowed: a section"),
        ("languages:\n  family: markof", "line 2: unknown family 'markof'. Did you mean 'markov'?"),
        ("languages: {family: 3}", "line 1: languages.family: got 3; allowed: text"),
        ("languages: {family: markov, n_elements: 3}", "line 1: unknown option 'languages.n_elements'"),
        ("curriculum: 3", "line 1: curriculum: got 3; allowed: a list of stages"),
        ("curriculum:\n  - until_step: 0", "line 2: curriculum.0.until_step: got 0"),
        ("curriculum:\n  - until_step: 9\n  - 3", "line 3: curriculum.1: got 3; allowed: a section"),
        (
            "curriculum:\n  - until_step: 9\n    languages: {n_element: 1}",
            "line 3: unknown option 'curriculum.0.languages.n_element'. Did you mean 'curriculum.0.languages.n_el",
        ),
        ("data: {text: a.txt}\nlanguages: {n_elements: 1}", "line 1: data: got ['data.text', 'languages']"),
        ("data: {text: a.txt, n_languages: 3}", "line 1: data.n_languages: got 3; allowed: none where no languages"),
        ("data: {tokenizer: {name: bpe}}", "line 1: data.tokenizer.name: got 'bpe'; allowed: none where no text"),
        ("evaluation:\n  paloma: {max_length: 999}", "line 2: evaluation.paloma.max_length: got 999; allowed: at most"),
        ("checkpointing: {run_name: a/b}", "line 1: checkpointing.run_name: got 'a/b'; allowed: a plain folder name"),
        # the line of what is there, or none
        ("training: {optimization: {gradient_accumulation_steps: 3}}", "run.yaml: data.dataloader.batch_size: got 32"),
        # Pico's words
        ("model: {batch_size: 8}", "A step's rows are data.dataloader.batch_size."),
        (
            "training: {batch_size: 8}",
            "There is data.dataloader.batch_size and evaluation.paloma.batch_size and",
        ),
        ("languages: {family: metalm-v2, element_length: 3}", "metalm-v1 has it; this family does not."),
        ("training: {lr: 3}", "There is training.optimization.lr."),
        ("checkpointing: {training: {auto_resume: true}}", "Its auto_resume is checkpointing.auto_resume."),
        ("evaluation: {metrics: [paloma]}", "Paloma is measured whenever"),
        # YAML itself
        ("model: {n_layers: 1}\ndata:\nmodel: {}", "line 3: the key 'model' comes twice, here and on line 1."),
        ("model: [", "line 1: while parsing a flow node"),
        ("\tmodel: 1", "line 1: "),
        ("- 1", "line 1: got [1]; allowed: sections of keys and values."),
        ("just words", "line 1: got 'just words'"),
        ("a: 1\n---\nb: 2", "line 2: "),
        ("a: &a [*a]", "line 1: this contains itself."),
        ("a: !!python/object/apply:os.getcwd []", "line 1: the tag !!python/object/apply:os.getcwd is not understood"),
        ("a: !!int many", "line 1: 'many' is not of the kind !!int."),
        ("? [a]\n: 1", "line 1: a key is not a word."),
        ("<<: 3", "line 1: << takes a mapping"),
        (b"a: 1\nb: \xff", "line 2: this is not text in UTF-8."),
        (b"a: \x01", "special characters are not allowed"),
        ("a: " + "9" * 5000, "line 1: this number is too long"),
        ("[" * 20000, "sections within sections without end"),
        ("#" * (1 << 21), "more than 1,048,576 bytes"),
    ],
)
def test_a_complaint_names_the_line(file: Path, content: str | bytes, words: str) -> None:
    assert words in complaint(file, content)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match="No such file"):
        read_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigFileError, match="Is a directory"):
        read_config(tmp_path)


# --- what is not said ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", ["", "# nothing\n", "training:\n", "data:\nlanguages:\ncurriculum:\nmodel: {}\n", "---\n"]
)
def test_empty_sections_say_nothing(file: Path, content: str) -> None:
    file.write_text(content)
    assert read_config(file) == default_config()


def test_what_is_learned_decides_about_the_defaults(file: Path) -> None:
    file.write_text("data: {text: book.txt}\ntraining: {seed: 4}\n")
    text = to_mapping(default_config("book.txt"))
    text["training"]["seed"] = 4
    assert read_config(file) == from_mapping(text)

    file.write_text("data: {dataset: {name: some/dataset}}")
    assert read_config(file).model == default_config("book.txt").model
    assert read_config(file).languages is None

    file.write_text("data: {samples: some.npy}")
    assert read_config(file).model == default_config().model
    assert (read_config(file).languages, read_config(file).curriculum) == (None, ())

    file.write_text("languages: {n_elements: 7}")
    changed = MetaLMv1(vocab_size=16, n_elements=7, element_length=8, error_rate=0.05, separator=True)
    assert read_config(file).languages == changed
    assert read_config(file).curriculum == default_config().curriculum

    file.write_text("languages: {family: markov, order: 2}")
    assert (read_config(file).languages, read_config(file).curriculum) == (Markov(order=2), ())
    file.write_text("languages: {family: v1}\ncurriculum: [{until_step: 5, languages: {n_elements: 1}}]")
    assert read_config(file).languages == MetaLMv1()
    assert [stage.until_step for stage in read_config(file).curriculum] == [5]


def test_pico_s_words_are_understood(file: Path) -> None:
    """Every key of a pico-train or Pico-MAML file that means the same here; `smlmt` and what goes to the Hub do not."""
    file.write_text(
        """
data:
  dataset: {name: pico-lm/pretokenized-dolma}
  dataloader: {batch_size: 1024}
  tokenizer: {name: allenai/OLMo-7B-0724-hf, vocab_size: 50304}
model:
  {d_model: 96, n_layers: 12, vocab_size: 50304, max_seq_len: 2048, attention_n_heads: 12, attention_n_kv_heads: 4,
   activation_hidden_dim: 384, norm_eps: 1e-6, position_emb_theta: 10000.0}
training:
  max_steps: 200_000
  fabric: {num_nodes: 1, num_devices: 4, precision: bf16-mixed, accelerator: cuda}
  optimization:
    {optimizer: adamw, lr: 3e-4, lr_scheduler: linear_with_warmup, lr_warmup_steps: 2500,
     gradient_accumulation_steps: 128}
checkpointing: {run_name: pico-decoder-tiny-1, runs_dir: runs, save_every_n_steps: 1000}
evaluation:
  paloma: {dataset_name: pico-lm/pretokenized-paloma-tinsy, dataset_split: val, max_length: 2048, batch_size: 16}
monitoring:
  logging: {log_every_n_steps: 100}
  save_to_wandb: true
  wandb: {project: pico-decoder, entity: pico-lm}
"""
    )
    config = read_config(file)
    said, understood = yaml.safe_load(file.read_text()), to_mapping(config)
    assert config.training.optimization.lr == 3e-4
    for section, value in said.items():
        assert _is_part_of(value, understood[section])


def _is_part_of(part: Any, whole: Any) -> bool:
    if isinstance(part, dict):
        return all(_is_part_of(value, whole[key]) for key, value in part.items())
    return bool(part == whole or float(part) == whole)  # PyYAML reads 3e-4 as text


def test_later_layers_overrule_earlier_ones() -> None:
    first = {"training": {"max_steps": 5, "seed": 1}, "curriculum": []}
    config = resolve(first, {"training": {"max_steps": 6}})
    assert (config.training.max_steps, config.training.seed, config.curriculum) == (6, 1, ())
    config = resolve({"languages": {"n_elements": 9}}, {"languages": {"family": "metalm-v1"}})
    assert config.languages == MetaLMv1()
    config = resolve({"languages": {"family": "markov"}}, {"languages": {"order": 3}})
    assert config.languages == Markov(order=3)
    config = resolve({"training": {"max_steps": 5}}, {"data": {"text": "book.txt"}})
    assert (config.training.max_steps, config.model) == (5, default_config("book.txt").model)


def test_a_named_size_is_overruled_by_single_ones_beside_it_and_later(file: Path) -> None:
    file.write_text("model: {n_layers: 2, size: pico-tiny}")
    config = read_config(file)
    assert (config.model.d_model, config.model.n_layers, config.model.attention_n_kv_heads) == (96, 2, 4)
    later = resolve({"model": {"n_layers": 2, "size": "pico-tiny"}}, {"model": {"size": "pico-small"}})
    assert (later.model.d_model, later.model.n_layers) == (384, 12)
    assert "size" not in to_mapping(config)["model"]
    assert "line 1: unknown model size 'pico-tinny'" in complaint(file, "model: {size: pico-tinny}")
    assert "line 1: model.size: got 3; allowed: text, or none." in complaint(file, "model: {size: 3}")


# --- what is written -------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(configurations())
def test_a_configuration_survives_every_form(tmp_path_factory: pytest.TempPathFactory, config: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    write_config(path, config)
    assert read_config(path) == config
    assert from_mapping(yaml.safe_load(path.read_text())) == config  # as others read YAML
    assert from_mapping(json.loads(json.dumps(to_mapping(config)))) == config


def test_every_option_is_explained_where_it_stands() -> None:
    text = config_text(default_config())
    lines = {line.split(":")[0].strip(" -"): line for line in text.splitlines() if ":" in line and "{" not in line}
    assert lines["lr_warmup_steps"].endswith("# steps over which the rate rises from zero [steps]")
    assert lines["accelerator"].endswith("# kind of device [one of auto, cpu, cuda, gpu, mps]")
    assert lines["family"].split()[:2] == ["family:", "metalm-v1"]
    assert all("#" in line for name, line in lines.items())


def test_a_file_that_cannot_be_written_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        write_config(tmp_path / "absent" / "config.yaml", default_config())
    assert list(tmp_path.iterdir()) == []
