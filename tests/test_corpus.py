"""Documents: every kind of file and dataset, against what was put into it; and complaints that name the place."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot.corpus.base import Corpus, Document, decoded
from xenoglot.corpus.columns import ParquetFiles, open_dataset
from xenoglot.corpus.text_files import TextFiles
from xenoglot.errors import DataError, MissingExtraError

TEXTS = ["Hello.\n", "", "naïve 你好 🙂", 'quotes " and \\ and \n lines', "\r\n\r\n", "x" * 3_000_000]
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
    ".GZ": gzip.compress,
}


def texts_of(corpus: Corpus) -> list[bytes]:
    return [b"".join(document.pieces) for document in corpus.documents()]


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_text_is_one_document_as_it_is(tmp_path: Path, ending: str) -> None:
    content = bytes(range(256)) * 9000 + b"\n\n"
    path = tmp_path / f"book.txt{ending}"
    path.write_bytes(COMPRESS[ending](content))
    corpus = TextFiles(path)
    assert texts_of(corpus) == [content]
    assert not corpus.has_many_documents


@pytest.mark.parametrize("ending", COMPRESS)
def test_json_lines_are_documents(tmp_path: Path, ending: str) -> None:
    lines = [json.dumps({"id": n, "text": text}, ensure_ascii=n % 2 == 0) for n, text in enumerate(TEXTS)]
    path = tmp_path / f"talk.jsonl{ending}"
    path.write_bytes(COMPRESS[ending]("\n".join([*lines[:2], "", "  ", *lines[2:]]).encode()))
    corpus = TextFiles(path)
    assert texts_of(corpus) == [text.encode() for text in TEXTS if text]
    assert corpus.has_many_documents
    assert [document.where for document in corpus.documents()][:2] == [f"{path}, line 1", f"{path}, line 5"]


def test_the_field_is_text_or_else_the_first_string(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_text('{"a": 1, "b": "first", "c": "second"}\n{"b": "no", "text": "yes"}\n')
    assert texts_of(TextFiles(path)) == [b"first", b"yes"]


def test_a_byte_order_mark_is_no_part_of_json(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "good"}\n')
    assert texts_of(TextFiles(path)) == [b"good"]


def test_frames_one_behind_the_other_are_one_file(tmp_path: Path) -> None:
    for ending, compress in COMPRESS.items():
        path = tmp_path / f"book.txt{ending}"
        path.write_bytes(compress(b"one ") + compress(b"") + compress(b"two"))
        assert texts_of(TextFiles(path)) == [b"one two"]


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path: Path) -> None:
    files = {
        "b.txt": b"2",
        "a/z.txt": b"1",
        "c.jsonl": b'{"text": "3"}\n{"text": "4"}',
        "d.txt.gz": gzip.compress(b"5"),
    }
    for name, content in {**files, ".x.txt": b"no", ".y/x.txt": b"no", "e.png": b"no", "e.txt~": b"no"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    corpus = TextFiles(tmp_path)
    assert texts_of(corpus) == [b"1", b"2", b"3", b"4", b"5"]
    assert corpus.has_many_documents
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "one.txt").write_bytes(b"6")
    assert TextFiles(tmp_path / "only").has_many_documents


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"no json", "it is not JSON"),
        (b'{"text": "cut', "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b'"only text"', "got str"),
        (b'{"text": 5, "other": "x"}', "got the fields text, other"),
        (b'{"number": 5}', "got the fields number"),
        (b"{}", "got the fields none"),
        (b'{"text": "\xff"}', "byte 10 of the line is not UTF-8"),
        (b'{"text": "ab\\ud800"}', "character 2 of the text is half of a pair"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: bytes, complaint: str) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_bytes(b'{"text": "good"}\n\n' + line + b'\n{"text": "good"}\n')
    with pytest.raises(DataError, match=rf"talk\.jsonl, line 3: {complaint}"):
        texts_of(TextFiles(path))


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_what_cannot_be_decompressed_is_named(tmp_path: Path, ending: str) -> None:
    content = COMPRESS[ending](np.arange(10_000).tobytes())
    path = tmp_path / f"book.txt{ending}"
    for damaged in (content[:-1], content[:-100], content[:5], b"", b"plain text", content + b"\0more"):
        path.write_bytes(damaged)
        if damaged == b"" and ending == ".gz":
            continue  # an empty file is what gzip makes of no frames at all
        with pytest.raises(DataError, match=r"book\.txt.*(cannot be decompressed)"):
            texts_of(TextFiles(path))


def test_what_can_be_read_only_once_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: it is no regular file"):
        TextFiles(tmp_path / "pipe")


@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=12) | st.text(max_size=6).map(str.encode), cuts=st.lists(st.integers(0, 12)))
def test_decoding_in_pieces_is_decoding_the_whole(content: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    pieces = [content[first:last] for first, last in itertools.pairwise(edges)]
    document = Document(where="here", pieces=pieces)
    try:
        expected = content.decode()
    except UnicodeDecodeError as error:
        with pytest.raises(
            DataError, match=rf"here: byte {error.start} is {content[error.start]:#04x}, which is not UTF-8"
        ):
            list(decoded(document))
    else:
        assert "".join(decoded(document)) == expected


# --- datasets --------------------------------------------------------------------------------------------------------


def write_parquet(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


def test_columns_of_text(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "some.parquet", id=[1, 2, 3, 4], text=["a", None, "", "ü"], other=list("wxyz"))
    corpus = open_dataset(str(path))
    assert texts_of(corpus) == [b"a", "ü".encode()]
    assert [document.where for document in corpus.documents()] == [f"{path}, row 0", f"{path}, row 3"]
    assert texts_of(open_dataset(str(path), column="other")) == [b"w", b"x", b"y", b"z"]
    large = write_parquet(tmp_path / "large.parquet", content=pa.array(["a"], pa.large_string()))
    assert texts_of(open_dataset(str(large))) == [b"a"]


@pytest.mark.parametrize("kind", [pa.list_(pa.int32()), pa.large_list(pa.uint16()), pa.list_(pa.int64(), 2)])
def test_columns_of_ids(tmp_path: Path, kind: pa.DataType) -> None:
    lists = [[1, 2], [65535, 4], [5, 6]]
    path = write_parquet(tmp_path / "some.parquet", input_ids=pa.array(lists, kind))
    corpus = open_dataset(str(path))
    assert corpus.holds_ids
    assert [document.ids.tolist() for document in corpus.documents() if document.ids is not None] == lists


def test_a_folder_of_parquet_is_read_in_order(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_parquet(tmp_path / f"{name}.parquet", text=[name])
    assert texts_of(open_dataset(str(tmp_path))) == [b"a", b"b"]
    write_parquet(tmp_path / "c.parquet", text=[[1, 2]])
    with pytest.raises(DataError, match=r"c\.parquet: column 'text' holds something else"):
        texts_of(open_dataset(str(tmp_path)))
    write_parquet(tmp_path / "c.parquet", words=["c"])
    with pytest.raises(DataError, match=r"c\.parquet: there is no column 'text'"):
        texts_of(open_dataset(str(tmp_path)))


def test_columns_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = str(write_parquet(tmp_path / "some.parquet", words=["a"], number=[1.5], input_ids=[[3, -1]], real=[[0.5]]))
    with pytest.raises(DataError, match=r"row 0: got ids from -1 to 3"):
        list(open_dataset(path).documents())
    with pytest.raises(DataError, match=r"wanted: 'text'. Name one: --data\.dataset\.column"):
        open_dataset(path, column="text")
    with pytest.raises(DataError, match="'number' holds double"):
        open_dataset(path, column="number")
    with pytest.raises(DataError, match="row 0: got float64"):
        list(open_dataset(path, column="real").documents())
    with pytest.raises(DataError, match="got the columns words"):
        open_dataset(str(write_parquet(tmp_path / "words.parquet", words=["a"])))
    whole = write_parquet(tmp_path / "damaged.parquet", text=["long enough "] * 9).read_bytes()
    for damaged in (whole[:4] + bytes(36) + whole[40:], whole.replace(b"long", b"l\xffng")):
        (tmp_path / "damaged.parquet").write_bytes(damaged)
        with pytest.raises(DataError, match=r"damaged\.parquet: it cannot be read beyond row \d+"):
            texts_of(open_dataset(str(tmp_path / "damaged.parquet")))
    (tmp_path / "no.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match=r"no\.parquet: it cannot be read as parquet"):
        open_dataset(str(tmp_path / "no.parquet"))


def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"xenoglot\[data\]"):
        open_dataset(str(tmp_path / "some.parquet"))
    with pytest.raises(MissingExtraError, match=r"xenoglot\[hub\]"):
        open_dataset("someone/something")


def test_a_dataset_by_name_is_streamed(tmp_path: Path) -> None:
    """The library reads a local folder as it reads a name; in a process of its own, since it is set up on import."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"n": 1, "text": null}\n{"n": 2, "text": "two"}\n{"n": 3, "text": "one"}\n')
    (folder / "test.jsonl").write_text('{"n": 1, "text": "three"}\n')
    program = f"""
from xenoglot.corpus.columns import open_dataset
from xenoglot.errors import DataError
corpus = open_dataset({str(folder)!r})
print([[document.where, *document.pieces] for document in corpus.documents()], corpus.holds_ids)
print([[*document.pieces] for document in open_dataset({str(folder)!r}, split="test").documents()])
print(corpus.digest() == open_dataset({str(folder)!r}).digest() != open_dataset({str(folder)!r}, split="test").digest())
for options in ({{"split": "nowhere"}}, {{"column": "words"}}, {{"subset": "nothing"}}):
    try:
        open_dataset({str(folder)!r}, **options)
    except DataError as error:
        print("DataError", error)
"""
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"[['{folder}, train, row 1', b'two'], ['{folder}, train, row 2', b'one']] False"
    assert lines[1:3] == ["[[b'three']]", "True"]
    assert [line.split()[0] for line in lines[3:] if line.startswith("DataError")] == ["DataError"] * 3


# --- digests and memory ----------------------------------------------------------------------------------------------


def test_a_digest_changes_exactly_when_the_documents_do(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"1")
    (tmp_path / "b.txt").write_bytes(b"2")
    first = TextFiles(tmp_path).digest()
    os.utime(tmp_path / "a.txt", (1, 1))
    assert TextFiles(tmp_path).digest() == first
    digests = {first, TextFiles(tmp_path / "a.txt").digest(), TextFiles(tmp_path / "b.txt").digest()}
    (tmp_path / "a.txt").write_bytes(b"3")
    digests.add(TextFiles(tmp_path).digest())
    (tmp_path / "c.txt").write_bytes(b"")
    digests.add(TextFiles(tmp_path).digest())
    (tmp_path / "c.txt").rename(tmp_path / "c.jsonl")
    digests.add(TextFiles(tmp_path).digest())
    assert len(digests) == 6
    path = write_parquet(tmp_path / "some.parquet", text=["a"], other=["b"])
    assert ParquetFiles(path).digest() != ParquetFiles(path, "other").digest()


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_a_large_text_is_never_whole_in_memory(tmp_path: Path, ending: str) -> None:
    n_bytes = 2**27
    path = tmp_path / f"large.txt{ending}"
    if ending:
        path.write_bytes(COMPRESS[ending](bytes(n_bytes)))
    else:
        with open(path, "wb") as file:
            file.truncate(n_bytes)  # sparse
    tracemalloc.start()
    total = sum(len(piece) for document in TextFiles(path).documents() for piece in document.pieces)
    TextFiles(path).digest()
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == n_bytes
    assert peak_bytes < n_bytes // 3
