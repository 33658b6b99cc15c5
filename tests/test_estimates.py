"""What a run would take, against what a run takes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import torch
from configurations import TINY

from xenoglot import cli
from xenoglot.assembly.data import open_data
from xenoglot.config import ModelConfig, RunConfig, default_config, read_config, recipes, resolve, with_overrides
from xenoglot.decoder import Decoder
from xenoglot.estimates import Phase, _small_enough, estimate, phases
from xenoglot.throughput import flops_per_token


def tiny(**changes: object) -> RunConfig:
    overrides = {path.replace("__", "."): value for path, value in changes.items()}
    return with_overrides(default_config(), TINY | {"training.max_steps": 250} | overrides)


def test_tokens_are_those_that_are_read() -> None:
    stages = [{"until_step": 3, "length": 5, "batch_size": 6}, {"until_step": 7, "length": 99, "languages": {}}]
    mapping = {"curriculum": stages, "training": {"max_steps": 9}, "model": {"max_seq_len": 16}}
    for easy_start in (True, False):
        config = resolve(mapping, {"data": {"easy_start": easy_start, "dataloader": {"batch_size": 4}}})
        batches = open_data(config).batches
        read = [tuple(batches(step).inputs_BT.shape) for step in range(9)]
        assert [(phase.n_rows, phase.length) for phase in phases(config) for _ in range(phase.n_steps)] == read
        assert sum(phase.tokens for phase in phases(config)) == sum(rows * length for rows, length in read)


def test_a_curriculum_beyond_the_last_step_is_cut_off() -> None:
    config = with_overrides(default_config(), {"training.max_steps": 150})
    assert phases(config) == [Phase(n_steps=100, n_rows=32, length=64), Phase(n_steps=50, n_rows=32, length=128)]
    config = with_overrides(default_config(), {"training.max_steps": 100})
    assert [phase.n_steps for phase in phases(config)] == [100]


def test_an_estimate_is_what_its_parts_are() -> None:
    config = tiny(training__optimization__gradient_accumulation_steps=2)
    found = estimate(config)
    model_config = dataclasses.replace(config.model, vocab_size=18)
    model = Decoder(model_config, torch.Generator().manual_seed(0))
    assert found.n_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (found.n_ids, found.ids_are_known) == (18, True)
    per_token = flops_per_token(model_config, 16)
    assert found.flops == sum(phase.tokens for phase in found.phases) * per_token
    assert found.evaluation_flops == pytest.approx(3 * 4 * 16 * per_token / 3)  # before, at step 250, after
    assert 0 < found.seconds < 600
    assert "an update on 1 x 16 tokens" in found.probe


def test_devices_share_the_rows() -> None:
    one, two = (estimate(tiny(training__fabric__num_devices=n)) for n in (1, 2))
    assert one.flops == two.flops
    assert "an update on 2 x 16 tokens" in one.probe
    assert "an update on 1 x 16 tokens" in two.probe
    assert one.memory_bytes > two.memory_bytes


@pytest.mark.parametrize(
    ("settings", "last", "n_checkpoints"),
    [
        ({"save_every_n_steps": 100}, 250, 3),  # 100, 200, 250
        ({"save_every_n_steps": 100}, 200, 2),
        ({"save_every_n_steps": 10, "keep_last": 2}, 250, 3),  # one more while it is written
        ({"save_every_n_steps": 10, "keep_last": 2, "keep_every_n_steps": 100}, 250, 5),
        ({"save_every_n_steps": 1000, "save_early_steps": True}, 9, 5),  # 1, 2, 4, 8, 9
    ],
)
def test_checkpoints_are_counted(settings: dict[str, object], last: int, n_checkpoints: int) -> None:
    changes = {f"checkpointing__{name}": value for name, value in settings.items()}
    assert estimate(tiny(training__max_steps=last, **changes)).n_checkpoints == n_checkpoints


def test_a_checkpoint_has_the_size_that_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = tiny(model__d_model=64, model__activation_hidden_dim=256, training__max_steps=2)
    said = estimate(config)
    words = [f"--{path}={value}" for path, value in TINY.items()]
    words += ["--model.d_model=64", "--model.activation_hidden_dim=256", "--training.max_steps=2"]
    assert cli.main(["train", *words, "--checkpointing.run_name", "a"]) == 0
    [folder] = (tmp_path / "runs" / "a" / "checkpoints").iterdir()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert size == pytest.approx(said.checkpoint_bytes, rel=0.05)


@pytest.mark.parametrize(
    ("data", "n_ids", "known"),
    [
        ({"text": "book.txt"}, 257, True),
        ({"text": "book.txt", "tokenizer": {"name": "bpe", "vocab_size": 300}}, 300, False),
        ({"dataset": {"name": "some/dataset"}, "tokenizer": {"vocab_size": 400}}, 400, False),
    ],
)
def test_a_text_is_not_read(data: dict[str, object], n_ids: int, known: bool) -> None:
    config = with_overrides(resolve({"data": data}), {**TINY, "training.max_steps": 3})
    found = estimate(config)
    assert (found.n_ids, found.ids_are_known, found.evaluation_flops) == (n_ids, known, 0)
    assert ("which the data may not have" in str(found)) != known


def test_what_is_measured_is_small_enough_and_no_smaller() -> None:
    config = ModelConfig(d_model=64, n_layers=8, max_seq_len=512, vocab_size=100)
    phase = Phase(n_steps=1, n_rows=32, length=512)
    row_flops = 512 * flops_per_token(config, 512)
    assert _small_enough(config, phase, 32, 1e15) == (config, phase)
    assert _small_enough(config, phase, 32, 5.5 * row_flops)[1].n_rows == 5
    fewer, cut = _small_enough(config, phase, 32, 0.3 * row_flops)
    assert (fewer.n_layers, cut.n_rows, cut.length) == (2, 1, 512)
    fewest, shortest = _small_enough(config, phase, 32, 1.0)
    assert (fewest.n_layers, shortest.n_rows, shortest.length) == (1, 1, 64)


@pytest.mark.parametrize("more", [["--dry-run"], []])
def test_a_head_that_is_not_there_is_told_before_anything_is_done(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "--smlmt.enabled", "true", "--smlmt.classifier_head.kind", "ridg", *more]) == 2
    assert "unknown head 'ridg'. Did you mean 'ridge'?" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(recipes.summaries()))
def test_the_command_says_it_and_writes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sizes = {"d_model": 16, "n_layers": 1, "attention_n_heads": 2, "attention_n_kv_heads": 2, "max_seq_len": 64}
    words = [f"--model.{name}={size}" for name, size in sizes.items()]
    assert cli.main(["train", "--dry-run", "--recipe", name, *words]) == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    assert max(map(len, printed.out.splitlines())) <= 100
    names = re.findall(r"^(\w+) ", printed.out, re.MULTILINE)
    assert names == ["parameters", "steps", "tokens", "operations", "memory", "disk", "time"]
    n_steps = read_config(recipes.path(name)).training.max_steps
    assert f"steps       {n_steps:,}" in printed.out
    assert list(tmp_path.iterdir()) == []
