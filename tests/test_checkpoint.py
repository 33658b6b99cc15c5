"""A checkpoint is there whole or not at all, comes back bit for bit, and no damage to it goes unseen."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from xenoglot import checkpoint as checkpoint_module
from xenoglot.checkpoint import Checkpoint, Checkpoints, TrainingState
from xenoglot.checkpoint_folders import kept_steps
from xenoglot.config import CheckpointingConfig, ModelConfig
from xenoglot.decoder import Decoder
from xenoglot.errors import OutputError, ResumeError

CONFIG = ModelConfig(
    d_model=16, n_layers=1, attention_n_kv_heads=1, activation_hidden_dim=16, max_seq_len=8, vocab_size=7
)
STATE = TrainingState(
    tensors={"moment": torch.arange(6.0).reshape(2, 3), "steps": torch.tensor(4.0)},
    facts={"step": 3, "rate": 0.1, "data": {"sha256": "ab", "rows": [1, 2]}},
)
FOREGROUND = CheckpointingConfig(save_in_background=False)
DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.complex64),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
]


def weights_of(seed: int, config: ModelConfig = CONFIG) -> dict[str, Tensor]:
    return Decoder(config, torch.Generator().manual_seed(seed)).state_dict()


def save(run: Path, step: int, config: CheckpointingConfig = FOREGROUND, seed: int | None = None) -> Path:
    with Checkpoints(run, config) as checkpoints:
        weights = weights_of(step if seed is None else seed)
        return checkpoints.save(step, config=CONFIG, weights=weights, state=STATE)


def latest(run: Path) -> Checkpoint | None:
    return Checkpoints(run, FOREGROUND).latest()


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(bits(first[name]) == bits(second[name]) for name in first)


def bits(tensor: Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    """Everything about a tensor, without asking arithmetic, for which NaN is not NaN and 0 is -0."""
    return tensor.dtype, tensor.shape, tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def test_all_comes_back_bit_for_bit(tmp_path: Path) -> None:
    folder = save(tmp_path, 3)
    assert folder == tmp_path / "checkpoints" / "step_3"
    assert names(tmp_path) == ["step_3"]
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "config.json",
        "manifest.json",
        "model.safetensors",
        "state/training_state.json",
        "state/training_state.safetensors",
    ]
    found = latest(tmp_path)
    assert found == Checkpoint(folder=folder, step=3)
    weights, state = found.read()
    assert same(weights, weights_of(3))
    assert same(dict(state.tensors), dict(STATE.tensors))
    assert state.facts == found.facts() == STATE.facts
    assert same(Decoder.from_pretrained(folder).state_dict(), weights_of(3))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    shape=st.lists(st.integers(0, 4), max_size=3),
    content=st.binary(min_size=1, max_size=64),
    is_transposed=st.booleans(),
)
def test_a_tensor_of_any_kind_comes_back(
    tmp_path: Path, dtype: torch.dtype, shape: list[int], content: bytes, is_transposed: bool
) -> None:
    shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
    n_bytes = torch.Size(shape).numel() * dtype.itemsize
    raw = bytearray((content * (n_bytes // len(content) + 1))[: max(n_bytes, 1)])
    if dtype is torch.bool:
        raw = bytearray(byte & 1 for byte in raw)
    tensor = (torch.frombuffer(raw, dtype=dtype) if n_bytes else torch.empty(0, dtype=dtype)).reshape(shape)
    tensor = tensor.T if is_transposed and tensor.ndim == 2 else tensor
    state = TrainingState(tensors={"one": tensor, "twin": tensor, "other": torch.ones(2)}, facts={})
    with Checkpoints(tmp_path, FOREGROUND) as checkpoints:
        checkpoints.save(1, config=CONFIG, weights=weights_of(0), state=state)
        _, again = checkpoints.latest().read()
    assert same(dict(again.tensors), dict(state.tensors))


def test_tied_weights_are_stored_once_and_both_come_back(tmp_path: Path) -> None:
    config = ModelConfig(
        d_model=16, n_layers=1, activation_hidden_dim=16, max_seq_len=8, vocab_size=7, tie_word_embeddings=True
    )
    weights = weights_of(5, config)
    sizes = {}
    ways = {
        "shared": weights,
        "reversed": dict(reversed(weights.items())),
        "copies": {name: weight.clone() for name, weight in weights.items()},
    }
    for name, given_weights in ways.items():
        with Checkpoints(tmp_path / name, FOREGROUND) as checkpoints:
            folder = checkpoints.save(1, config=config, weights=given_weights, state=STATE)
            again, _ = checkpoints.latest().read()
        assert same(again, weights)
        sizes[name] = (folder / "model.safetensors").stat().st_size
    assert len(set(sizes.values())) == 1
    n_bytes = sum(weight.numel() * 4 for name, weight in weights.items() if name != "lm_head.weight")
    assert n_bytes < sizes["shared"] < n_bytes + 1500


def test_later_steps_cannot_touch_what_is_being_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_write = threading.Event()
    write = checkpoint_module.write_model_folder

    def write_later(*arguments: object) -> None:
        assert may_write.wait(60)
        write(*arguments)

    monkeypatch.setattr(checkpoint_module, "write_model_folder", write_later)
    weights, moment = weights_of(1), torch.zeros(3)
    facts = {"rows": [1]}
    with Checkpoints(tmp_path, CheckpointingConfig()) as checkpoints:
        state = TrainingState(tensors={"moment": moment}, facts=facts)
        checkpoints.save(1, config=CONFIG, weights=weights, state=state)
        for weight in weights.values():
            weight.add_(1)
        moment.add_(1)
        facts["rows"].append(2)
        assert not (tmp_path / "checkpoints" / "step_1").exists()
        may_write.set()
    again, state = latest(tmp_path).read()
    assert same(again, weights_of(1))
    assert state.tensors["moment"].tolist() == [0, 0, 0]
    assert state.facts == {"rows": [1]}


def test_one_is_saved_at_a_time_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running, most = [0], [0]
    write = checkpoint_module.write_model_folder

    def counted(*arguments: object) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        write(*arguments)
        running[0] -= 1

    monkeypatch.setattr(checkpoint_module, "write_model_folder", counted)
    with Checkpoints(tmp_path, CheckpointingConfig()) as checkpoints:
        for step in range(1, 6):
            assert all((tmp_path / "checkpoints" / f"step_{earlier}").exists() for earlier in range(1, step - 1))
            checkpoints.save(step, config=CONFIG, weights=weights_of(step), state=STATE)
    assert most == [1]
    assert names(tmp_path) == [f"step_{step}" for step in range(1, 6)]


def full_disk(*arguments: object) -> None:
    raise OutputError("cannot write") from OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("told", ["next save", "wait", "latest", "end"])
def test_a_failure_in_the_background_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    save(tmp_path, 1)
    checkpoints = Checkpoints(tmp_path, CheckpointingConfig())
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint_module, "write_manifest", full_disk)
        checkpoints.save(2, config=CONFIG, weights=weights_of(2), state=STATE)
        checkpoints._thread.join()
    tellers = {
        "next save": lambda: checkpoints.save(3, config=CONFIG, weights=weights_of(3), state=STATE),
        "wait": checkpoints.wait,
        "latest": checkpoints.latest,
        "end": lambda: checkpoints.__exit__(None, None, None),
    }
    with pytest.raises(OutputError, match=r"step_2: the checkpoint cannot be written: No space left on device\. "):
        tellers[told]()
    checkpoints.wait()  # told once
    assert names(tmp_path) == ["step_1"]
    assert same(latest(tmp_path).read()[0], weights_of(1))


def test_what_ended_a_run_is_not_hidden_by_a_failed_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkpoint_module, "write_manifest", full_disk)

    def interrupted_run() -> None:
        with Checkpoints(tmp_path, CheckpointingConfig()) as checkpoints:
            checkpoints.save(2, config=CONFIG, weights=weights_of(2), state=STATE)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted_run()
    assert "warning: " in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("place", ["write_model_folder", "write_manifest"])
def test_an_interrupted_save_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], place: str
) -> None:
    save(tmp_path, 1)
    monkeypatch.setattr(checkpoint_module, place, lambda *arguments: (_ for _ in ()).throw(error))
    for step in (1, 2):
        with pytest.raises(error):
            save(tmp_path, step, seed=9)
    assert names(tmp_path) == ["step_1"]
    assert same(latest(tmp_path).read()[0], weights_of(1))


def test_a_step_that_is_saved_again_replaces_the_first(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 1, seed=8)
    assert names(tmp_path) == ["step_1"]
    assert same(latest(tmp_path).read()[0], weights_of(8))


@pytest.mark.parametrize("is_replacing", [False, True])
def test_everything_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_replacing: bool
) -> None:
    """A power cut may lose all that was not brought to the disk, and keep a rename that came later."""
    if is_replacing:
        save(tmp_path, 1, seed=8)
    synced: dict[int, int] = {}
    fsync, rename = os.fsync, Path.rename
    published = []

    def noted_fsync(descriptor: int) -> None:
        fsync(descriptor)
        status = os.fstat(descriptor)
        synced[status.st_ino] = status.st_mtime_ns

    def checked_rename(path: Path, target: Path) -> Path:
        if path.name.endswith(".partial"):
            published.append(target.name)
            inside = [path, *path.rglob("*")]
            states = {str(each): each.stat() for each in inside}
            late = [each for each, state in states.items() if synced.get(state.st_ino) != state.st_mtime_ns]
            assert late == [], "changed after it was brought to the disk"
            synced.clear()
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", checked_rename)
    save(tmp_path, 1)
    assert published == ["step_1"]
    assert (tmp_path / "checkpoints").stat().st_ino in synced


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)


def test_a_run_without_checkpoints_begins(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    (tmp_path / "checkpoints").mkdir()
    assert latest(tmp_path) is None


def test_a_damaged_one_is_named_set_aside_and_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in (8, 9, 10):
        save(tmp_path, step)
    flip(tmp_path / "checkpoints" / "step_10" / "model.safetensors")
    (tmp_path / "checkpoints" / "step_9" / "manifest.json").unlink()
    assert latest(tmp_path).step == 8
    first, second = capsys.readouterr().err.splitlines()
    assert "step_10: the checkpoint is damaged: model.safetensors is changed" in first
    assert "set aside as step_10.corrupt-1" in first
    assert "step_9: the checkpoint is damaged: manifest.json is missing" in second
    assert names(tmp_path) == ["step_10.corrupt-1", "step_8", "step_9.corrupt-1"]
    save(tmp_path, 10)
    flip(tmp_path / "checkpoints" / "step_10" / "config.json")
    assert latest(tmp_path).step == 8
    assert names(tmp_path) == ["step_10.corrupt-1", "step_10.corrupt-2", "step_8", "step_9.corrupt-1"]


def test_what_a_dead_process_left_half_written_anywhere_in_the_run_is_removed(tmp_path: Path) -> None:
    save(tmp_path, 5)
    left = [".report.html.0123abcd.partial", "eval_results/.step_5.json.0123abcd.partial"]
    kept = [".hidden", "notes.partial", "eval_results/step_5.json"]
    (tmp_path / "eval_results").mkdir()
    for name in (*left, *kept):
        (tmp_path / name).touch()
    (tmp_path / "checkpoints" / ".step_6.0123abcd.partial" / "state").mkdir(parents=True)
    with Checkpoints(tmp_path, FOREGROUND):
        pass
    assert [name for name in left if (tmp_path / name).exists()] == []
    assert all((tmp_path / name).exists() for name in kept)
    assert names(tmp_path) == ["step_5"]


def test_names_that_only_look_like_steps_are_left_alone(tmp_path: Path) -> None:
    save(tmp_path, 5)
    for name in ("step_7x", "step_", "step_-9", "step_007", "step_1e3", ".step_9", "step_9.bak", "astep_9"):
        shutil.copytree(tmp_path / "checkpoints" / "step_5", tmp_path / "checkpoints" / name)
    (tmp_path / "checkpoints" / "step_99").write_text("a file")
    before = names(tmp_path)
    assert latest(tmp_path).step == 5
    save(tmp_path, 6, CheckpointingConfig(keep_last=1))
    assert set(names(tmp_path)) == {*before, "step_6"} - {"step_5"}


def test_a_checkpoint_under_another_steps_name_is_set_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, 5)
    shutil.copytree(tmp_path / "checkpoints" / "step_5", tmp_path / "checkpoints" / "step_6")
    assert latest(tmp_path).step == 5
    assert "step_6: the checkpoint is damaged: its manifest says that it is of step 5" in capsys.readouterr().err


@pytest.mark.parametrize("loss", ["damaged", "set aside before", "folder removed", "all removed"])
def test_a_run_whose_checkpoints_are_lost_does_not_begin_again_in_silence(tmp_path: Path, loss: str) -> None:
    folder = save(tmp_path, 5)
    if loss == "damaged":
        flip(folder / "config.json")
    elif loss == "set aside before":
        folder.rename(folder.with_name("step_5.corrupt-1"))
        (tmp_path / ".saved").unlink()
    else:
        shutil.rmtree(folder if loss == "folder removed" else folder.parent)
    for _ in range(2):
        with pytest.raises(ResumeError, match="no whole checkpoint, though the run saved some"):
            latest(tmp_path)


@settings(max_examples=60, deadline=None)
@given(
    saves=st.lists(st.integers(1, 60), min_size=1, max_size=12, unique=True).map(sorted),
    keep_last=st.none() | st.integers(1, 4),
    keep_every=st.none() | st.integers(1, 12),
    early=st.booleans(),
)
def test_what_is_kept_is_what_was_asked_for(
    saves: list[int], keep_last: int | None, keep_every: int | None, early: bool
) -> None:
    config = CheckpointingConfig(keep_last=keep_last, keep_every_n_steps=keep_every, save_early_steps=early)
    kept: set[int] = set()
    for step in saves:
        kept = kept_steps(config, {*kept, step})
        assert step in kept
    for position, step in enumerate(saves):
        is_kept = (
            keep_last is None
            or position >= len(saves) - keep_last
            or (keep_every is not None and step % keep_every == 0)
            or (early and step in (1, 2, 4, 8, 16, 32))
        )
        assert (step in kept) == is_kept


def test_older_ones_go_only_when_the_new_one_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = CheckpointingConfig(keep_last=1, save_in_background=False)
    save(tmp_path, 1, config)
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint_module, "write_manifest", full_disk)
        with pytest.raises(OutputError):
            save(tmp_path, 2, config)
    assert names(tmp_path) == ["step_1"]
    save(tmp_path, 3, config)
    assert names(tmp_path) == ["step_3"]


@pytest.mark.parametrize("tied", [False, True])
def test_transformers_reads_a_checkpoint_as_a_native_llama(tmp_path: Path, tied: bool) -> None:
    transformers = pytest.importorskip("transformers")
    config = ModelConfig(
        d_model=32,
        n_layers=2,
        attention_n_heads=4,
        attention_n_kv_heads=2,
        activation_hidden_dim=48,
        max_seq_len=32,
        vocab_size=11,
        position_emb_theta=500.0,
        tie_word_embeddings=tied,
    )
    decoder = Decoder(config, torch.Generator().manual_seed(2))
    with torch.no_grad():  # the output matrix starts at zero, which would hide what comes before it
        decoder.lm_head.weight.normal_(generator=torch.Generator().manual_seed(3))
    with Checkpoints(tmp_path, FOREGROUND) as checkpoints:
        folder = checkpoints.save(1, config=config, weights=decoder.state_dict(), state=STATE)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    assert type(theirs).__name__ == "LlamaForCausalLM"
    tokens = torch.randint(0, 11, (3, 32), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        ours, got = decoder(tokens), theirs(tokens).logits
    assert (ours - got).abs().max() < 1e-5 * max(1.0, float(ours.abs().max()))
