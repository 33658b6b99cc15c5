"""Learning dynamics of whole runs: they change nothing, are the updates' own, and outlive crashes and damage."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from dying import dying_after
from torch import Tensor, nn

from xenoglot import cli
from xenoglot.applying.pico_analyze import write_pico_analyze
from xenoglot.checkpoint import verify_checkpoint
from xenoglot.config import RunConfig, default_config, with_overrides
from xenoglot.decoder import Decoder
from xenoglot.dynamics_files import dynamics_steps, read_dynamics
from xenoglot.errors import DataError, OptionError
from xenoglot.estimates import estimate
from xenoglot.run import start
from xenoglot.training.devices import Devices

TINY = {
    "model.d_model": 16,
    "model.n_layers": 2,
    "model.attention_n_heads": 2,
    "model.attention_n_kv_heads": 1,
    "model.activation_hidden_dim": 16,
    "model.max_seq_len": 16,
    "data.dataloader.batch_size": 4,
    "training.max_steps": 6,
    "training.seed": 7,
    "training.optimization.lr_warmup_steps": 2,
    "training.optimization.gradient_accumulation_steps": 2,
    "evaluation.n_languages": 4,
    "evaluation.eval_every_n_steps": 3,
    "evaluation.reference_predictors": False,
    "checkpointing.save_every_n_steps": 3,
    "monitoring.logging.log_every_n_steps": 1,
}
TASKS = {
    "smlmt.enabled": True,
    "smlmt.tasks_per_step": 4,
    "smlmt.n_way": 3,
    "smlmt.k_shot": 2,
    "smlmt.q_query": 2,
    "smlmt.inner_steps": 2,
    "smlmt.adapts": "all",
}
DYNAMICS = "checkpointing.learning_dynamics."
ON = {f"{DYNAMICS}enabled": True, f"{DYNAMICS}every_n_steps": 1}
OURS = ("self_attn.v_proj", "self_attn.o_proj", "mlp.down_proj")
PICOS = ("attention.v_proj", "attention.o_proj", "swiglu.w_2")
LAYERS = [f"model.layers.{i}.{name}" for i in range(2) for name in OURS]


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "book.txt"
    words = [f"{first}{vowel}{last}" for first in "bdfglmn" for vowel in "aeiou" for last in "kx"]
    drawn = np.random.Generator(np.random.Philox(0)).choice(words, size=(1500, 4))
    path.write_text("".join(f"{' '.join(row).capitalize()}.\n" for row in drawn))
    return path


def configured(folder: Path, options: dict[str, Any], book: Path | None = None) -> RunConfig:
    where = {"checkpointing.runs_dir": str(folder.parent), "checkpointing.run_name": folder.name}
    if book is not None:
        where["data.cache_dir"] = str(book.parent)
    config = default_config() if book is None else default_config(str(book))
    return with_overrides(config, TINY | options | where)


def train(folder: Path, options: dict[str, Any], book: Path | None = None) -> Path:
    return start(configured(folder, options, book)).folder


def numbers_of(run: Path) -> dict[str, Any]:
    """Return all that training led to, but for speeds."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    results = sorted((run / "eval_results").iterdir())
    checkpoints = [run / "checkpoints" / f"step_{step}" for step in (3, 6)]
    states = ("model.safetensors", "state/training_state.safetensors", "state/training_state.json")
    return {
        "metrics": [{name: line[name] for name in line.keys() - {"tokens_per_second", "mfu"}} for line in lines],
        "results": {path.name: path.read_text() for path in results},
        "states": [(folder / path).read_bytes() for folder in checkpoints for path in states],
    }


def manifests_of(run: Path) -> dict[str, str]:
    folders = sorted((run / "checkpoints").iterdir())
    assert [verify_checkpoint(folder) for folder in folders] == [[]] * len(folders)
    return {folder.name: (folder / "manifest.json").read_text() for folder in folders}


KINDS = {
    "languages": {},
    "languages, by their law": {"data.targets": "law"},
    "languages, in bfloat16": {"training.fabric.precision": "bf16-true"},
    "languages and tasks of them": TASKS,
    "text": {},
    "text and tasks of its sentences": {**TASKS, "model.max_seq_len": 24, "smlmt.learn_inner_lr": "per-step"},
}
"""What runs learn; those of text are given a book."""


@pytest.mark.parametrize("kind", KINDS)
def test_switching_them_on_changes_no_training_number(tmp_path: Path, book: Path, kind: str) -> None:
    text = book if kind.startswith("text") else None
    more = {f"{DYNAMICS}attention_patterns": True, f"{DYNAMICS}optimizer_state": True, f"{DYNAMICS}sequence_idx": None}
    without = train(tmp_path / "without" / "run", KINDS[kind], text)
    recorded = train(tmp_path / "with" / "run", {**KINDS[kind], **ON, **more}, text)
    assert numbers_of(recorded) == numbers_of(without)
    assert dynamics_steps(recorded) == list(range(7))
    assert dynamics_steps(without) == []


def watch_gradients(monkeypatch: pytest.MonkeyPatch) -> list[list[Tensor]]:
    """Note every update's gradients, before they are clipped."""
    seen: list[list[Tensor]] = []
    clip = Devices.clip_gradients

    def noting(self: Devices, parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
        given = list(parameters)
        seen.append([torch.zeros_like(each) if each.grad is None else each.grad.clone() for each in given])
        return clip(self, given, max_norm)

    monkeypatch.setattr(Devices, "clip_gradients", noting)
    return seen


@pytest.mark.parametrize(
    "kind", ["languages", "languages, by their law", "text and tasks of its sentences", "languages and tasks of them"]
)
def test_the_training_batch_s_gradient_is_the_next_update_s(
    tmp_path: Path, book: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    seen = watch_gradients(monkeypatch)
    run = train(tmp_path / "run", {**KINDS[kind], **ON}, book if kind.startswith("text") else None)
    kinds = set()
    for step, gradients in enumerate(seen):
        checkpoint = run / "checkpoints" / f"step_{step}"
        dynamics = read_dynamics(checkpoint)
        names = [name for name, _ in Decoder.from_pretrained(checkpoint).named_parameters()]
        own = dict(zip(names, gradients, strict=False))
        kinds.add(dynamics.batches["train"]["kind"])
        assert list(dynamics.layers) == dynamics.names("train", "gradients") == LAYERS
        for layer in LAYERS:
            recorded = dynamics.tensor("train", "gradients", layer)
            torch.testing.assert_close(recorded, own[f"{layer}.weight"], atol=1e-6, rtol=1e-4)
            assert step < 2 or recorded.abs().max() > 1e-5
    assert kinds == ({"rows", "tasks"} if "tasks" in kind else {"rows"})


@pytest.mark.parametrize("n_steps", [0, 1, 4])
def test_a_run_that_died_has_the_same_dynamics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_steps: int) -> None:
    options = {f"{DYNAMICS}enabled": True, f"{DYNAMICS}steps": [0, 1, 4, 5, 6]}
    whole = train(tmp_path / "whole" / "run", options)
    with dying_after(monkeypatch, n_steps):
        train(tmp_path / "died" / "run", options)
    died = train(tmp_path / "died" / "run", options)
    assert manifests_of(died) == manifests_of(whole)
    assert numbers_of(died) == numbers_of(whole)


def test_their_checkpoints_are_kept_whatever_else_is_not(tmp_path: Path) -> None:
    options = {"checkpointing.keep_last": 1, "checkpointing.save_every_n_steps": 1, f"{DYNAMICS}enabled": True}
    run = train(tmp_path / "run", {**options, f"{DYNAMICS}steps": [0, 2]})
    assert sorted(manifests_of(run)) == ["step_0", "step_2", "step_6"]
    assert dynamics_steps(run) == [0, 2]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_record_what_one_does(tmp_path: Path, strategy: str) -> None:
    """Bit for bit where the weights are the same, which they are before the first step; and no number changes."""
    options = {**TINY, **ON, "training.optimization.gradient_accumulation_steps": 1, "training.max_steps": 3}
    one = train(tmp_path / "one", options)
    runs = {"with": options, "without": {**options, f"{DYNAMICS}enabled": False}}
    for name, own in runs.items() if strategy == "ddp" else [("with", options)]:
        more = {"checkpointing.runs_dir": tmp_path, "checkpointing.run_name": name, "training.fabric.num_devices": 2}
        words = [f"--{path}={value}" for path, value in {**own, **more, "training.fabric.strategy": strategy}.items()]
        command = [sys.executable, "-m", "xenoglot", "train", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
    two = tmp_path / "with"
    assert dynamics_steps(two) == dynamics_steps(one) == [0, 1, 2, 3]
    last = "checkpoints/step_3/model.safetensors"
    assert strategy == "fsdp" or (two / last).read_bytes() == (tmp_path / "without" / last).read_bytes()
    manifests_of(two)
    for step in range(4):
        here, there = (read_dynamics(run / "checkpoints" / f"step_{step}") for run in (one, two))
        for file in ("validation", "train"):
            for kind in ("activations", "gradients", "batch"):
                assert here.names(file, kind) == there.names(file, kind) != []
                for name in here.names(file, kind):
                    ours, theirs = here.tensor(file, kind, name), there.tensor(file, kind, name)
                    assert torch.equal(ours, theirs) or step
                    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


# Damage, and steps that have none


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that no test changes."""
    return train(tmp_path_factory.mktemp("runs") / "run", {f"{DYNAMICS}enabled": True, f"{DYNAMICS}steps": [0, 4, 6]})


def test_a_step_without_dynamics_is_refused_and_the_others_named(recorded: Path) -> None:
    with pytest.raises(DataError, match=r"step_3: got no learning dynamics; steps that have some: 0, 4, 6\."):
        read_dynamics(recorded / "checkpoints" / "step_3")
    dynamics = read_dynamics(recorded / "checkpoints" / "step_4")
    with pytest.raises(DataError, match=r"got no activations/lm_head; there are activations/model\.layers\.0\.mlp"):
        dynamics.tensor("validation", "activations", "lm_head")
    with pytest.raises(DataError, match="optimizer\\.safetensors"):
        dynamics.tensor("optimizer", "exp_avg", LAYERS[0])


@pytest.mark.parametrize("name", ["validation.safetensors", "dynamics.json"])
@pytest.mark.parametrize("is_flipped", [True, False])
def test_damage_is_told_by_the_file_s_name(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, is_flipped: bool
) -> None:
    checkpoint = tmp_path / "run" / "checkpoints" / "step_4"
    subprocess.run(["cp", "-r", str(recorded), str(tmp_path / "run")], check=True)
    path = checkpoint / "learning_dynamics" / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw if is_flipped else raw[:-7])
    with pytest.raises(DataError, match=f"step_4: the checkpoint's learning dynamics are damaged: .*{name}"):
        read_dynamics(checkpoint).tensor("validation", "activations", LAYERS[0])
    assert cli.main(["verify", str(tmp_path / "run")]) != 0
    assert f"learning_dynamics/{name}" in "".join(capsys.readouterr())


def test_a_suffix_that_matches_nothing_ends_the_run_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"learning_dynamics.layer_suffixes: got 'swiglu.w2'; .*mean 'swiglu.w_2'"):
        train(tmp_path / "run", {**ON, f"{DYNAMICS}layer_suffixes": ["swiglu.w2"]})
    assert not list(tmp_path.rglob("step_*"))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"layer_suffixes": ["embed_tokens", "norm", "lm_head", "down_proj"], "sequence_idx": None},
        {"attention_patterns": True, "optimizer_state": True},
    ],
)
def test_they_take_the_disk_that_was_said(tmp_path: Path, more: dict[str, Any]) -> None:
    own = {f"{DYNAMICS}{name}": value for name, value in more.items()}
    options = {"data.easy_start": False, "checkpointing.keep_last": 1, f"{DYNAMICS}steps": [1, 4], **own}
    config = configured(tmp_path / "run", {f"{DYNAMICS}enabled": True, **options, "model.max_seq_len": 64})
    said = estimate(config)
    assert (said.n_checkpoints, said.n_dynamics) == (4, 2)  # 1, 4, 6, and 3 while it is written
    folder = start(config).folder / "checkpoints" / "step_4" / "learning_dynamics"
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert size == pytest.approx(said.dynamics_bytes, rel=0.1, abs=6_000)  # names and shapes take some
    assert "2 times learning dynamics of" in str(said)


# pico-analyze


def test_pico_analyze_is_given_what_it_reads(recorded: Path, tmp_path: Path) -> None:
    assert write_pico_analyze(recorded, tmp_path / "out") == [0, 4, 6]
    config = yaml.safe_load((tmp_path / "out" / "training_config.yaml").read_text())
    assert [config["model"][name] for name in ("d_model", "attention_n_heads", "attention_n_kv_heads")] == [16, 2, 1]
    dynamics = read_dynamics(recorded / "checkpoints" / "step_4")
    folder = tmp_path / "out" / "checkpoints" / "step_4" / "learning_dynamics"
    for split, batch in (("val", "validation"), ("train", "train")):
        stored = {
            kind: torch.load(folder / f"{split}_{kind}.pt", weights_only=True)
            for kind in ("activations", "weights", "gradients")
        }
        for kind, tensors in stored.items():
            assert set(tensors) == {f"layers.{i}.{name}" for i in range(2) for name in PICOS}
            ours = dynamics.weights(LAYERS[5]) if kind == "weights" else dynamics.tensor(batch, kind, LAYERS[5])
            assert torch.equal(tensors["layers.1.swiglu.w_2"], ours)
    with pytest.raises(OSError, match="it is there already"):
        write_pico_analyze(recorded, tmp_path / "out")


def test_pico_analyze_has_rows_only_and_no_tasks(tmp_path: Path) -> None:
    run = train(tmp_path / "run", {**TASKS, **ON, f"{DYNAMICS}sequence_idx": None})
    steps = write_pico_analyze(run, tmp_path / "out")
    for step in steps:
        folder = tmp_path / "out" / "checkpoints" / f"step_{step}" / "learning_dynamics"
        facts = read_dynamics(run / "checkpoints" / f"step_{step}").batches
        assert (folder / "train_activations.pt").exists() == (facts["train"]["kind"] == "rows")
        activations = torch.load(folder / "val_activations.pt", weights_only=True)["layers.0.attention.o_proj"]
        assert activations.shape == (facts["validation"]["n_tokens"], 16)
    with pytest.raises(DataError, match="got no step with learning dynamics"):
        write_pico_analyze(tmp_path, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
