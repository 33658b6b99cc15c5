"""The user's text: split, windows and errors, against slices of the tokens themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot.corpus.text_files import TextFiles
from xenoglot.errors import DataError
from xenoglot.text import ByteText, Text, read_text


def some_text(tokens: np.ndarray, length: int) -> Text:
    return Text(tokens, n_tokens=int(tokens.max()) + 1, length=length, source="made", sha256="", tokenizer=None)


@settings(max_examples=25, deadline=None)
@given(size=st.integers(160, 400), length=st.integers(1, 8))
def test_every_held_out_byte_is_a_target_once_after_the_byte_before_it(size, length):
    content = bytes(np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8))
    windows = list(ByteText(content, length=length).held_out_windows())
    n_held_out = size // 10
    targets = np.concatenate([rows.ravel() for _, rows in windows])
    inputs = np.concatenate([rows.ravel() for rows, _ in windows])
    assert bytes((targets - 1).astype(np.uint8)) == content[-n_held_out:]
    assert bytes((inputs - 1).astype(np.uint8)) == content[-n_held_out - 1 : -1]
    assert windows[0][0].shape[1] == length
    assert all(rows.shape[1] < length for rows, _ in windows[1:])


def test_of_a_large_held_out_part_rows_at_equal_distances_are_read():
    length, size = 64, 25 * 2**20
    [(inputs, targets)] = some_text(np.arange(size, dtype=np.uint32), length).held_out_windows()
    assert inputs.size == 2**20
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
    starts = inputs[:, 0]
    assert starts[0] == size - size // 10 - 1
    assert starts[-1] > size - size // 20
    assert set(np.diff(starts).tolist()) <= {2 * length, 3 * length}


@settings(max_examples=25, deadline=None)
@given(size=st.integers(160, 1000), length=st.integers(1, 8), seed=st.integers(0, 2**62), epoch=st.integers(0, 10**9))
def test_an_epoch_reads_disjoint_windows_that_cover_the_training_part_but_for_its_edges(size, length, seed, epoch):
    text = some_text(np.arange(size), length)
    n_training = size - size // 10
    n_windows = (n_training - length) // length
    inputs, targets = text.rows(np.arange(n_windows) + epoch * n_windows, seed)
    np.testing.assert_array_equal(targets, inputs + 1)
    ids = np.sort(inputs.ravel())
    np.testing.assert_array_equal(ids, np.arange(n_windows * length) + ids[0])
    assert targets.max() < n_training
    assert n_training - len(ids) <= 2 * length


def test_epochs_have_orders_and_cuts_of_their_own_and_together_reach_everything():
    text = some_text(np.arange(300), 7)
    n_windows = (270 - 7) // 7
    inputs, targets = text.rows(range(60 * n_windows), 5)
    epochs = inputs[:, 0].reshape(60, n_windows)
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 60
    assert len(set(epochs.min(axis=1).tolist())) > 7
    assert set(inputs.ravel().tolist()) == set(range(269))
    assert set(targets.ravel().tolist()) == set(range(1, 270))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**62), first=st.integers(0, 10**12))
def test_a_row_is_the_same_whatever_it_is_asked_with(seed, first):
    text = ByteText(bytes(range(200)), length=6)
    inputs, targets = text.rows(range(first, first + 40), seed)
    for row in (0, 17, 39):
        alone = text.rows([first + row], seed)
        np.testing.assert_array_equal(alone[0][0], inputs[row])
        np.testing.assert_array_equal(alone[1][0], targets[row])


def test_any_file_will_do(tmp_path):
    content = bytes(range(256))
    (tmp_path / "noise.bin").write_bytes(content)
    text = read_text(TextFiles(tmp_path / "noise.bin"), length=4, cache_dir=tmp_path / "cache")
    [(inputs, _), *_] = text.held_out_windows()
    assert text.n_tokens == 257
    assert text.unit == "byte"
    assert inputs[0].tolist() == [content[230] + 1, content[231] + 1, content[232] + 1, content[233] + 1]
    assert b"".join(map(text.token_bytes, inputs[0].tolist())) == content[230:234]
    np.testing.assert_array_equal(text.rows(range(9), 3)[0], ByteText(content, length=4).rows(range(9), 3)[0])
    assert text.sha256 == ByteText(content, length=4).sha256


def test_files_that_cannot_be_used_are_named(tmp_path: Path):
    def read(name: str) -> Text:
        return read_text(TextFiles(tmp_path / name), length=4, cache_dir=tmp_path / "cache")

    with pytest.raises(DataError, match=r"absent\.txt.*No such file"):
        read("absent.txt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="folder without text"):
        read("folder")
    (tmp_path / "empty.txt").write_bytes(b"")
    with pytest.raises(DataError, match=r"empty\.txt: got an empty file"):
        read("empty.txt")
    (tmp_path / "short.txt").write_bytes(b"x" * 79)
    with pytest.raises(DataError, match="got 79 bytes; allowed: at least 80 bytes"):
        read("short.txt")
    (tmp_path / "enough.txt").write_bytes(b"x" * 80)
    assert len(list(read("enough.txt").held_out_windows())) == 1
