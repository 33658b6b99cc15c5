"""The user's text: split, windows and errors, against slices of the bytes themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot.errors import DataError
from xenoglot.text import ByteText


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


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**62), step=st.integers(0, 10**9))
def test_windows_are_pieces_of_the_training_part_only(seed, step):
    content = bytes(range(100)) + bytes(range(100))  # the last 20 bytes are held out
    text = ByteText(content, length=6)
    inputs, targets = text.windows(batch_size=5, seed=seed, step=step)
    for row, answers in zip(inputs, targets, strict=True):
        piece = bytes([*(row - 1), answers[-1] - 1])
        assert piece in content[:180]
        assert bytes((answers - 1).astype(np.uint8)) == piece[1:]
    again, _ = text.windows(batch_size=5, seed=seed, step=step)
    other, _ = text.windows(batch_size=5, seed=seed, step=step + 1)
    assert (again == inputs).all()
    assert other.shape == inputs.shape


def test_windows_reach_both_ends_of_the_training_part():
    text = ByteText(bytes(range(60)), length=3)  # 54 bytes are for training
    starts = {int(text.windows(batch_size=1, seed=0, step=step)[0][0, 0]) - 1 for step in range(900)}
    assert starts == set(range(51))


def test_any_file_will_do(tmp_path):
    path = tmp_path / "noise.bin"
    path.write_bytes(bytes(range(256)))
    inputs, _ = ByteText.read(path, length=4).windows(batch_size=64, seed=0, step=0)
    assert inputs.min() >= 1
    assert inputs.max() <= ByteText.n_tokens - 1


def test_files_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(DataError, match=r"absent\.txt.*No such file"):
        ByteText.read(tmp_path / "absent.txt", length=4)
    with pytest.raises(DataError, match="directory"):
        ByteText.read(tmp_path, length=4)
    (tmp_path / "empty.txt").write_bytes(b"")
    with pytest.raises(DataError, match=r"empty\.txt: got an empty file"):
        ByteText.read(tmp_path / "empty.txt", length=4)
    (tmp_path / "short.txt").write_bytes(b"x" * 79)
    with pytest.raises(DataError, match="got 79 bytes; allowed: at least 80 bytes"):
        ByteText.read(tmp_path / "short.txt", length=4)
    (tmp_path / "enough.txt").write_bytes(b"x" * 80)
    assert len(list(ByteText.read(tmp_path / "enough.txt", length=4).held_out_windows())) == 1
