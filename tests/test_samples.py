"""Samples read again: what `generate` wrote, in every format, against the family's own rows."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xenoglot.batches import Part, SampleBatches
from xenoglot.errors import DataError, OptionError
from xenoglot.evaluations.held_out_samples import HeldOutSamples
from xenoglot.generate import write_samples
from xenoglot.languages import MetaLMv1
from xenoglot.rng import generator
from xenoglot.samples import StoredSamples

FAMILY = MetaLMv1(vocab_size=300, n_elements=3, element_length=4)
ROWS = FAMILY.batch(57, 12, seed=4)
N_HELD_OUT = 5


def write(path: Path, **options: int) -> Path:
    write_samples(FAMILY, path, samples=57, length=12, seed=4, **options)
    return path


def opened(path: Path, **options: int) -> StoredSamples:
    return StoredSamples(path, cache_dir=path.parent / ".tokens", **options)


@pytest.mark.parametrize("ending", ["txt", "npy", "parquet"])
@pytest.mark.parametrize("shards", [1, 4])
def test_rows_come_back_as_they_are_and_the_last_tenth_is_held_out(tmp_path: Path, ending: str, shards: int) -> None:
    folder = tmp_path / "written"
    folder.mkdir()
    write(folder / f"some.{ending}", shards=shards)
    (folder / "picture.png").write_bytes(b"no samples")
    (folder / ".hidden.npy").write_bytes(b"no samples")
    samples = opened(folder)
    assert (samples.length, samples.n_tokens) == (12, 1 + max(ROWS.inputs.max(), ROWS.targets.max()))
    [(inputs, targets)] = samples.held_out_windows()
    np.testing.assert_array_equal(inputs, ROWS.inputs[-N_HELD_OUT:])
    np.testing.assert_array_equal(targets, ROWS.targets[-N_HELD_OUT:])
    n_training = 57 - N_HELD_OUT
    expected = {(row.tobytes(), answer.tobytes()) for row, answer in zip(ROWS.inputs, ROWS.targets, strict=True)}
    for epoch in (0, 10**9):
        inputs, targets = samples.rows(range(epoch * n_training, (epoch + 1) * n_training), seed=2)
        got = {(row.tobytes(), answer.tobytes()) for row, answer in zip(inputs, targets, strict=True)}
        assert got < expected
        assert len(got) == n_training
    again = opened(folder)
    np.testing.assert_array_equal(again.rows(range(20), seed=2)[0], samples.rows(range(20), seed=2)[0])


def test_the_floor_of_the_held_out_rows_is_read_and_the_excess_is_measured(tmp_path: Path) -> None:
    family = MetaLMv1(vocab_size=6, n_elements=3, element_length=4)
    rows = family.batch(300, 12, seed=4, floor=True)
    folder = tmp_path / "written"
    folder.mkdir()
    write_samples(family, folder / "some.parquet", samples=300, length=12, seed=4, floor=True, shards=17)
    samples = opened(folder)
    np.testing.assert_array_equal(samples.held_out_floor_nats(), rows.floor_nats[-30:])
    uniform = Uniform(samples.n_tokens)
    measured = HeldOutSamples(text=samples)(uniform, generator(0))
    [whole] = [row.metrics for row in measured if row.slices == {"part": "whole"}]
    assert whole["loss_nats"] == pytest.approx(math.log(samples.n_tokens))
    assert whole["excess_nats"] == pytest.approx(math.log(samples.n_tokens) - rows.floor_nats[-30:].mean())
    write_samples(family, folder / "some.npy", samples=30, length=12, seed=4)
    without = opened(folder)
    assert without.held_out_floor_nats() is None
    [whole] = [
        row.metrics for row in HeldOutSamples(text=without)(uniform, generator(0)) if row.slices == {"part": "whole"}
    ]
    assert "excess_nats" not in whole


class Uniform(nn.Module):
    """Gives every id the same probability."""

    def __init__(self, n_tokens: int) -> None:
        super().__init__()
        self.n_tokens = n_tokens

    def forward(self, input_ids: Tensor) -> Tensor:
        return torch.zeros(*input_ids.shape, self.n_tokens)


def test_the_digest_is_that_of_the_rows_whatever_the_format(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"some.{ending}") for ending in ("txt", "npy", "parquet")]
    digests = {opened(path).sha256 for path in paths}
    assert len(digests) == 1
    rows = np.load(tmp_path / "some.npy")
    rows[3, 1, 5] += 1
    np.save(tmp_path / "other.npy", rows)
    np.save(tmp_path / "wide.npy", np.load(tmp_path / "some.npy").astype(np.int64))
    assert opened(tmp_path / "other.npy").sha256 not in digests
    assert opened(tmp_path / "wide.npy").sha256 in digests


def test_a_damaged_cache_is_named_and_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "some.txt")
    digest = opened(path).sha256
    [cached] = (tmp_path / ".tokens").iterdir()
    content = bytearray(cached.read_bytes())
    content[-1] ^= 1
    cached.write_bytes(content)
    assert opened(path).sha256 == digest
    assert f"{cached}: the token file is damaged" in capsys.readouterr().err
    opened(path)
    assert capsys.readouterr().err == ""


def test_batches_are_rows_of_the_samples(tmp_path: Path) -> None:
    samples = opened(write(tmp_path / "some.npy"))
    batches = SampleBatches(samples=samples, batch_size=6, seed=8)
    np.testing.assert_array_equal(batches(7, Part(index=1, count=3)).targets_BT, samples.rows(range(44, 46), 8)[1])
    assert batches.n_tokens == samples.n_tokens
    assert batches.tokenizer_files() == {}
    assert batches.identity(1) == f"rows 6 to 11 of seed 8 of {samples.source}"
    assert batches.fingerprint()["sha256"] == samples.sha256


def test_ids_beyond_the_vocabulary_are_named_with_file_and_row(tmp_path: Path) -> None:
    path = write(tmp_path / "some.npy")
    rows = np.load(path)
    most = int(rows.max())
    assert opened(path, n_tokens=most + 7).n_tokens == most + 7
    [row, side, place] = np.argwhere(rows == most)[0]
    named = rf"some\.npy, row {row}: {('input', 'target')[side]} {place} is {most}; allowed: ids from 0 to {most - 1}"
    with pytest.raises(DataError, match=named):
        opened(path, n_tokens=most)
    rows[50, 0, 3] = -2
    np.save(path, rows)
    with pytest.raises(DataError, match=r"row 50: input 3 is -2"):
        opened(path)


def test_rows_longer_than_the_model_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "some.npy")
    assert opened(path, max_length=12).length == 12
    with pytest.raises(OptionError, match=r"model\.max_seq_len: got 11; allowed: at least 12"):
        opened(path, max_length=11)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("empty.txt", b"", "got an empty file"),
        ("words.txt", b"3,4\t5,6\nthree,4\t5,6\n", r"words\.txt, line 2: got 'three,4"),
        ("gap.txt", b"3,4\t\t5,6\n", "line 1"),
        ("minus.txt", b"3,-4\n", "line 1"),
        ("large.txt", b"3,4294967296\n", "line 1: got id 4294967296"),
        ("uneven.txt", b"3,4\t5,6\n3,4\n", "rows of 2 and of 1 tokens"),
        ("few.txt", b"3,4\t5,6\n" * 19, "got 19 rows; allowed: at least 20"),
        ("no.npy", b"no array", "cannot be read as .npy"),
        ("empty.npy", b"", "cannot be read as .npy"),
        ("no.parquet", b"no table", "cannot be read as samples"),
    ],
)
def test_files_that_are_no_samples_are_named(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=complaint):
        opened(tmp_path / name)


def test_arrays_and_tables_of_other_kinds_are_named(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    np.save(tmp_path / "flat.npy", np.zeros((30, 8), np.int32))
    with pytest.raises(DataError, match=r"int32 of shape \(30, 8\)"):
        opened(tmp_path / "flat.npy")
    np.save(tmp_path / "real.npy", np.zeros((30, 2, 8)))
    with pytest.raises(DataError, match="float64"):
        opened(tmp_path / "real.npy")
    np.save(tmp_path / "objects.npy", np.array([["a", None]], object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        opened(tmp_path / "objects.npy")
    for name, table in {
        "columns": {"inputs": [[1, 2]] * 30},
        "uneven": {"inputs": [[1, 2]] * 30, "targets": [[1, 2]] * 29 + [[1]]},
        "missing": {"inputs": [[1, 2]] * 30, "targets": [[1, 2]] * 29 + [None]},
        "real": {"inputs": [[1.5, 2]] * 30, "targets": [[1, 2]] * 30},
        "large": {"inputs": [[1, 2**40]] * 30, "targets": [[1, 2]] * 30},
        "minus": {"inputs": [[1, -2]] * 30, "targets": [[1, 2]] * 30},
        "words": {"inputs": ["a"] * 30, "targets": ["b"] * 30},
    }.items():
        pq.write_table(pa.table(table), tmp_path / f"{name}.parquet")
        with pytest.raises(DataError, match=rf"{name}\.parquet"):
            opened(tmp_path / f"{name}.parquet")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="folder without samples"):
        opened(tmp_path / "folder")
    with pytest.raises(DataError, match="no such samples"):
        opened(tmp_path / "absent.npy")
