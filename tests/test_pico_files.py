"""Configuration files of Pico-MAML, as its authors write them: what they say, leave out, and cannot have here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xenoglot import cli
from xenoglot.config import RunConfig, read_config, resolve
from xenoglot.config.pico import PicoWarning, translated
from xenoglot.errors import ConfigFileError

PARTS = {
    "checkpointing": """
  run_name: "of-picos-shape"
  save_to_hf: true
  auto_resume: true
  save_every_n_steps: 100
  hf_checkpoint: {repo_id: "somebody/a-model", collection_slug: "somebody/models"}
  learning_dynamics:
    batch_size: 256""",
    "model": """
  d_model: 96
  activation_hidden_dim: 384
  max_seq_len: 512""",
    "monitoring": """
  save_to_wandb: false
  logging: {log_every_n_steps: 10}""",
    "training": """
  max_steps: 100000
  optimization: {gradient_accumulation_steps: 8, gradient_checkpointing: true}
  fabric: {precision: "bf16-mixed", devices: 4, num_nodes: 4}""",
    "smlmt": """
  enabled: true
  hybrid_ratio: 0.5
  inner_steps: 10
  inner_lr: 0.01
  min_token_freq: 10
  max_token_freq: 10000
  classifier_head: {num_layers: 4, hidden_dim: 128, dropout: 0.1, init_method: "xavier"}
  support_size: 10""",
    "data": """
  dataset: {name: "sentences.parquet", split: "train"}
  dataloader: {batch_size: 256}""",
    "evaluation": """
  paloma: {batch_size: 32}""",
}
IGNORED = (
    "checkpointing.hf_checkpoint.collection_slug, "
    "training.optimization.gradient_checkpointing, training.fabric.devices, training.fabric.num_nodes"
)


def written(path: Path, **changed: str) -> Path:
    path.write_text("\n".join(f"{name}:{content}" for name, content in (PARTS | changed).items()))
    return path


def read(path: Path) -> RunConfig:
    with pytest.warns(PicoWarning, match=f"without effect here: {IGNORED}"):
        return read_config(path)


def test_a_file_means_what_it_says_and_what_it_leaves_out_is_pico_s(tmp_path: Path) -> None:
    config = read(written(tmp_path / "tiny.yaml"))
    model, tasks = config.model, config.smlmt
    assert (model.d_model, model.activation_hidden_dim, model.max_seq_len) == (96, 384, 512)
    assert (model.n_layers, model.attention_n_heads, model.attention_n_kv_heads) == (12, 12, 4)
    assert (tasks.enabled, tasks.hybrid_ratio, tasks.n_way, tasks.k_shot, tasks.q_query) == (True, 0.5, 32, 10, 1)
    assert (tasks.inner_steps, tasks.inner_lr, tasks.min_token_freq, tasks.max_token_freq) == (10, 0.01, 10, 10000)
    head = tasks.classifier_head
    assert (head.kind, head.num_layers, head.hidden_dim, head.dropout) == ("mlp", 4, 128, 0.1)
    assert tasks.tasks_per_step == config.training.optimization.gradient_accumulation_steps == 8
    optimization = config.training.optimization
    assert (optimization.lr, optimization.lr_scheduler, optimization.lr_warmup_steps) == (
        3e-4,
        "linear_with_warmup",
        2500,
    )
    assert (config.training.fabric.num_devices, config.training.fabric.num_nodes) == (1, 1)
    assert config.data.dataset.name == "sentences.parquet"
    assert config.checkpointing.run_name == "of-picos-shape"
    assert config.checkpointing.save_to_hf
    assert config.checkpointing.hf_checkpoint.repo_id == "somebody/a-model"


def test_its_later_names_of_the_shots_and_its_own_data_set(tmp_path: Path) -> None:
    path = written(tmp_path / "small.yaml", smlmt=" {enabled: true, k_shot: 4, n_way: 16}", data="")
    config = read(path)
    assert (config.smlmt.k_shot, config.smlmt.n_way, config.smlmt.inner_lr) == (4, 16, 0.001)
    assert config.data.dataset.name == "pico-lm/pretokenized-dolma"
    assert config.data.dataloader.batch_size == 1024
    layer, _ = translated({"training": {"fabric": {"devices": 1}}})
    named = resolve(layer, {"data": {"text": "book.txt"}})  # as by --text
    assert (named.data.text, named.data.dataset.name, named.model.n_layers) == ("book.txt", None, 12)
    assert not named.smlmt.enabled


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (
            {"smlmt": "\n  enabled: true\n  k_shot: 4\n  support_size: 4"},
            r"smlmt.support_size: got 4; .*beside.*k_shot",
        ),
        ({"smlmt": "\n  enabled: true\n  inner_step: 4"}, "Did you mean 'smlmt.inner_steps'"),
        ({"checkpointing": "\n  save_to_hf: true\n  learning_dynamics: {batch_sizes: 4}"}, "learning_dynamics"),
        ({"model": "\n  d_model: 97"}, "d_model: got 97"),
    ],
)
def test_other_unknown_keys_still_fail(tmp_path: Path, changed: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigFileError, match=complaint):
        read_config(written(tmp_path / "wrong.yaml", **changed))


def test_what_it_says_of_learning_dynamics(tmp_path: Path) -> None:
    dynamics = read(written(tmp_path / "tiny.yaml")).checkpointing.learning_dynamics
    assert (dynamics.enabled, dynamics.batch_size, dynamics.sequence_idx) == (True, 256, -1)
    assert dynamics.layer_suffixes == ("attention.v_proj", "attention.o_proj", "swiglu.w_2")
    assert (dynamics.every_n_steps, dynamics.n_log_spaced, dynamics.steps) == (None, None, ())
    for section, wanted in ((None, True), ({"layer_suffixes": []}, False), ({"layer_suffixes": None}, False)):
        layer, warning = translated({"checkpointing": {"learning_dynamics": section}})
        assert layer["checkpointing"]["learning_dynamics"] == {"enabled": wanted}
        assert layer["model"]["n_layers"] == 12
        assert warning is not None
    own = {"checkpointing": {"learning_dynamics": {"enabled": True}}}
    assert translated(own) == (own, None)


@pytest.mark.parametrize("said", [{}, {"training": {"max_steps": 3}}, {"smlmt": {"enabled": True, "k_shot": 2}}])
def test_other_files_are_left_alone(said: dict[str, Any]) -> None:
    assert translated(said) == (said, None)


def test_a_file_runs_after_its_data_set_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [f"{first}{vowel}{last}" for first in "bdfglmn" for vowel in "aeiou" for last in "kx"]
    drawn = np.random.default_rng(0).choice(words, size=(3000, 4))
    pq.write_table(pa.table({"text": [f"It was {' '.join(row)}." for row in drawn]}), "sentences.parquet")
    path = written(tmp_path / "tiny.yaml")
    smaller = ["--training.max_steps", "4", "--data.dataloader.batch_size", "8", "--model.max_seq_len", "32"]
    smaller += [
        "--model.n_layers",
        "2",
        "--smlmt.n_way",
        "4",
        "--smlmt.k_shot",
        "2",
        "--data.tokenizer.vocab_size",
        "400",
    ]
    smaller += ["--checkpointing.save_to_hf", "false"]
    smaller += ["--training.seed", "7", "--monitoring.logging.log_every_n_steps", "1"]
    assert cli.main(["train", "--config_path", str(path), *smaller]) == 0
    said = capsys.readouterr().err
    assert f"tiny.yaml: read as a file of Pico's, with Pico's defaults; without effect here: {IGNORED}" in said
    lines = [json.loads(line) for line in (tmp_path / "runs/of-picos-shape/metrics.jsonl").read_text().splitlines()]
    assert {"loss_nats" in line for line in lines} == {True, False}
    assert cli.main(["train", "--resume", "runs/of-picos-shape"]) == 0  # what is kept is a configuration as any other
