"""Files of tokens: what comes back, and that no damage goes unseen."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from xenoglot.corpus.token_files import HEADER_BYTES, TokenFile, write_token_file
from xenoglot.errors import DataError, OutputError


def write_sample(path: Path) -> None:
    pieces = [np.arange(5), np.arange(300, 310)]
    write_token_file(
        path, pieces, dtype=np.uint16, n_tokens=400, facts={"source": "made"}, attachments={"a.json": b"{}", "b": b"x"}
    )


@settings(max_examples=20, deadline=None)
@given(
    dtype=st.sampled_from([np.uint16, np.uint32, np.int32]),
    sizes=st.lists(st.integers(0, 9), max_size=5),
    width=st.none() | st.integers(1, 3),
    data=st.data(),
)
def test_what_was_written_comes_back(tmp_path_factory, dtype, sizes, width, data) -> None:
    path = tmp_path_factory.mktemp("tokens") / "some.tokens"
    row_shape = () if width is None else (2, width)
    numbers = st.integers(0, 2**16 - 1)
    pieces = [data.draw(hypothesis_numpy.arrays(dtype, (size, *row_shape), elements=numbers)) for size in sizes]
    write_token_file(path, pieces, dtype=dtype, n_tokens=None, row_shape=row_shape, facts={"é": [1, None]})
    expected = np.concatenate([np.empty((0, *row_shape), dtype), *pieces])
    if not expected.size:
        return  # nothing can be mapped
    file = TokenFile(path)
    np.testing.assert_array_equal(file.tokens, expected)
    assert file.tokens.dtype == dtype
    assert file.n_tokens == int(expected.max()) + 1
    assert file.facts == {"é": [1, None]}


def test_attachments_and_digest(tmp_path: Path) -> None:
    write_sample(tmp_path / "a")
    write_sample(tmp_path / "b")
    file = TokenFile(tmp_path / "a")
    assert file.attachments == {"a.json": b"{}", "b": b"x"}
    assert file.n_tokens == 400
    assert file.sha256 == TokenFile(tmp_path / "b").sha256
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_flipped_bit_is_seen_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "some.tokens"
    write_sample(path)
    content = path.read_bytes()
    for position in [*range(0, HEADER_BYTES, 97), *range(HEADER_BYTES - 3, len(content))]:
        damaged = bytearray(content)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"some\.tokens: the token file is damaged"):
            TokenFile(path)


def test_a_truncated_or_longer_file_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "some.tokens"
    write_sample(path)
    content = path.read_bytes()
    for size in [0, 5, 8, 100, HEADER_BYTES, HEADER_BYTES + 1, len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(DataError, match="damaged"):
            TokenFile(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(DataError, match="instead of"):
        TokenFile(path)


def test_a_missing_file_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent"):
        TokenFile(tmp_path / "absent")
    with pytest.raises(OutputError, match="folder"):
        write_sample(tmp_path / "nowhere" / "a")


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def pieces() -> Iterator[np.ndarray]:
        yield np.arange(10)
        raise DataError("no more")

    with pytest.raises(DataError, match="no more"):
        write_token_file(tmp_path / "a", pieces(), dtype=np.uint16, n_tokens=10, facts={})
    assert list(tmp_path.iterdir()) == []


def test_reading_and_writing_need_little_memory(tmp_path: Path) -> None:
    piece = np.arange(2**16, dtype=np.uint16)
    n_pieces = 512  # 64 MiB
    tracemalloc.start()
    write_token_file(tmp_path / "a", (piece for _ in range(n_pieces)), dtype=np.uint16, n_tokens=2**16, facts={})
    file = TokenFile(tmp_path / "a")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert file.tokens.size == n_pieces * len(piece)
    assert peak_bytes < 12 * 2**20
