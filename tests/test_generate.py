"""Samples in files: the right ones, the same whatever the shards and processes, whole or not there."""

from __future__ import annotations

import gc
import importlib.util
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot.errors import MissingExtraError, OptionError, OutputError, UnknownNameError
from xenoglot.generate import CHUNK_TOKENS, write_samples
from xenoglot.languages import Batch, Family
from xenoglot.languages.markov import Markov
from xenoglot.languages.metalm_v1 import MetaLMv1
from xenoglot.sample_files import text_of

FAMILY = MetaLMv1(vocab_size=300, n_elements=3, element_length=5, separator=True)
ENDINGS = (".txt", ".npy", ".parquet")


def twin_of_text(inputs: Any, targets: Any) -> bytes:
    """The earlier systems' writer, in plain Python."""
    lines = ("\t".join(f"{x},{y}" for x, y in zip(*row, strict=True)) for row in zip(inputs, targets, strict=True))
    return "".join(line + "\n" for line in lines).encode()


# --- what is inside --------------------------------------------------------------------------------------------------

IDS = (
    st.integers(0, 12)
    | st.integers(0, 2**31 - 1)
    | st.sampled_from([10**power - less for power in range(10) for less in (0, 1)])
)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 3).flatmap(
        lambda n: st.lists(st.lists(IDS, min_size=2 * n, max_size=2 * n), min_size=1, max_size=4)
    )
)
def test_text_is_the_plain_twin_s(rows: list[list[int]]) -> None:
    tokens = np.array(rows, np.int32).reshape(len(rows), 2, -1)
    inputs, targets = np.ascontiguousarray(tokens[:, 0]), np.ascontiguousarray(tokens[:, 1])
    assert b"".join(piece.tobytes() for piece in text_of(inputs, targets)) == twin_of_text(inputs, targets)


def test_text_of_several_threads_is_in_order() -> None:
    batch = FAMILY.batch(64, 1024, seed=0)
    pieces = text_of(batch.inputs, batch.targets, threads=3)
    assert len(pieces) == 3
    assert b"".join(piece.tobytes() for piece in pieces) == twin_of_text(batch.inputs, batch.targets)


def test_every_format_holds_the_rows_of_the_seed(tmp_path: Path) -> None:
    batch = FAMILY.batch(7, 40, seed=3, floor=True)
    for ending in ENDINGS:
        write_samples(FAMILY, tmp_path / f"a{ending}", samples=7, length=40, seed=3, floor=ending == ".parquet")
    assert (tmp_path / "a.txt").read_bytes() == twin_of_text(batch.inputs, batch.targets)
    array = np.load(tmp_path / "a.npy")
    assert (array.dtype, array.shape) == (np.dtype("<i4"), (7, 2, 40))
    np.testing.assert_array_equal(array, np.stack([batch.inputs, batch.targets], axis=1))
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column_names == ["inputs", "targets", "floor_nats"]
    for name in table.column_names:
        np.testing.assert_array_equal(table[name].to_pylist(), getattr(batch, name))


def test_hugging_face_datasets_reads_parquet(tmp_path: Path) -> None:
    [path] = write_samples(FAMILY, tmp_path / "a.parquet", samples=5, length=9, seed=0)
    rows = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    assert rows.column_names == ["inputs", "targets"]
    np.testing.assert_array_equal(rows["inputs"][:], FAMILY.batch(5, 9, seed=0).inputs)


def test_the_format_can_be_named_against_the_ending(tmp_path: Path) -> None:
    write_samples(FAMILY, tmp_path / "a.txt", samples=2, length=5, seed=0, file_format="npy")
    assert np.load(tmp_path / "a.txt").shape == (2, 2, 5)


# --- the same, however it is made ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
def test_processes_do_not_change_a_bit(tmp_path: Path, ending: str) -> None:
    paths = {
        workers: write_samples(
            FAMILY, tmp_path / f"{workers}{ending}", samples=300, length=2048, seed=1, shards=3, workers=workers
        )
        for workers in (1, 2)
    }
    assert [path.read_bytes() for path in paths[1]] == [path.read_bytes() for path in paths[2]]


@settings(max_examples=15, deadline=None)
@given(samples=st.integers(1, 20), shards=st.integers(1, 20), length=st.integers(1, 9))
def test_shards_together_are_the_whole(
    tmp_path_factory: pytest.TempPathFactory, samples: int, shards: int, length: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    shards = min(shards, samples)
    [whole] = write_samples(FAMILY, folder / "whole.txt", samples=samples, length=length, seed=2)
    parts = write_samples(FAMILY, folder / "part.txt", samples=samples, length=length, seed=2, shards=shards)
    if shards > 1:
        assert [path.name for path in parts] == [f"part-{k:05d}-of-{shards:05d}.txt" for k in range(shards)]
    assert b"".join(path.read_bytes() for path in parts) == whole.read_bytes()
    sizes = [len(path.read_bytes().splitlines()) for path in parts]
    assert max(sizes) - min(sizes) <= 1


def test_memory_holds_one_chunk_at_a_time(tmp_path: Path) -> None:
    alive: list[weakref.ref[Batch]] = []

    class Watched(Markov):
        def batch(self, batch_size: int, length: int, seed: int, *arguments: Any, **options: Any) -> Batch:
            assert batch_size * length <= CHUNK_TOKENS
            gc.collect()
            assert sum(reference() is not None for reference in alive) <= 1
            made = super().batch(batch_size, length, seed, *arguments, **options)
            alive.append(weakref.ref(made))
            return made

    tokens: list[int] = []
    family = Watched(vocab_size=2, order=0)
    write_samples(family, tmp_path / "a.npy", samples=100, length=20_000, seed=0, report=tokens.append)
    assert len(alive) == len(tokens) == -(-100 // (CHUNK_TOKENS // 20_000))
    assert sum(tokens) == 100 * 20_000


# --- whole or not there ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError, OSError])
def test_whatever_stops_it_leaves_what_was_there(tmp_path: Path, ending: str, stop: type[BaseException]) -> None:
    old = tmp_path / f"a-00000-of-00002{ending}"
    old.write_text("old")

    def stop_in_the_second_shard(tokens: int) -> None:
        if len(list(tmp_path.iterdir())) == 3:
            raise stop(5, "stopped")

    with pytest.raises((stop, OutputError)):
        write_samples(
            FAMILY,
            tmp_path / f"a{ending}",
            samples=10,
            length=50,
            seed=0,
            shards=2,
            report=stop_in_the_second_shard,
        )
    assert [path.name for path in tmp_path.iterdir()] == [old.name]
    assert old.read_text() == "old"


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_full_disk_leaves_nothing(tmp_path: Path, ending: str) -> None:
    """The system itself refuses to write past a size, as a full disk does."""
    code = f"""
import resource
from xenoglot.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
raise SystemExit(main(["generate", "--samples", "100", "--seed", "1", "--output", {str(tmp_path / ("a" + ending))!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("xenoglot: cannot write")
    assert line.endswith("File too large. Nothing half-written is left.")
    assert list(tmp_path.iterdir()) == []


# --- bad arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("samples", 0),
        ("length", 0),
        ("length", 2**31 - 1),
        ("seed", -1),
        ("seed", 2**63),
        ("shards", 0),
        ("shards", 4),
        ("workers", 0),
        ("floor", True),
    ],
)
def test_bad_arguments_are_refused_by_name_and_leave_nothing(tmp_path: Path, name: str, value: Any) -> None:
    arguments: dict[str, Any] = {"samples": 3, "length": 5, "seed": 0} | {name: value}
    with pytest.raises(OptionError) as caught:
        write_samples(FAMILY, tmp_path / "a.txt", **arguments)
    assert caught.value.option == name
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown format 'parket'. Did you mean 'parquet'"):
        write_samples(FAMILY, tmp_path / "a", samples=1, length=1, seed=0, file_format="parket")


def test_parquet_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'xenoglot\[data\]'"):
        write_samples(FAMILY, tmp_path / "a.parquet", samples=1, length=1, seed=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "family",
    [
        MetaLMv1(vocab_size=2, n_elements=1, element_length=1, error_rate=0.0),
        MetaLMv1(vocab_size=2, n_elements=1, error_rate=1.0),
        Markov(vocab_size=2, order=1),
    ],
)
def test_the_smallest_of_everything_works(tmp_path: Path, family: Family) -> None:
    for ending in ENDINGS:
        [path] = write_samples(family, tmp_path / f"a{ending}", samples=1, length=1, seed=2**63 - 1)
        assert path.stat().st_size > 0
