"""Tokens are made once: what is found again, what is made anew, and that nothing harms anything."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xenoglot.batches import TextBatches
from xenoglot.corpus import prepared
from xenoglot.corpus.columns import open_dataset
from xenoglot.corpus.prepared import prepare_tokens, source_digest, tokenizer_of
from xenoglot.corpus.text_files import TextFiles
from xenoglot.corpus.token_files import TokenFile
from xenoglot.corpus.tokenizer import ByteTokenizer
from xenoglot.errors import DataError, OptionError, OutputError
from xenoglot.text import read_text

LONG_AGO = 1_000_000_000


def write(path: Path, content: bytes, changed: int = LONG_AGO) -> Path:
    path.write_bytes(content)
    os.utime(path, (changed, changed))
    return path


def token_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.tokens"))


def test_a_single_text_has_no_ends_and_several_have(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    one = prepare_tokens(TextFiles(write(tmp_path / "many" / "a.txt", b"ab")), cache_dir=tmp_path)
    assert (one.tokens.tolist(), one.n_tokens) == ([98, 99], 257)
    write(tmp_path / "many" / "b.jsonl", b'{"text": "c"}\n{"text": "d"}')
    many = prepare_tokens(TextFiles(tmp_path / "many"), cache_dir=tmp_path)
    assert (many.tokens.tolist(), many.n_tokens) == ([98, 99, 257, 100, 257, 101, 257], 258)
    trained = prepare_tokens(TextFiles(tmp_path / "many"), cache_dir=tmp_path, tokenizer="bpe", vocab_size=300)
    assert np.count_nonzero(np.asarray(trained.tokens) == 1) == 3
    assert [tokenizer_of(file).n_tokens for file in (one, many, trained)] == [257, 258, trained.n_tokens]  # type: ignore[union-attr]


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_a_second_run_finds_the_tokens_of_the_first(
    tmp_path: Path, tokenizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "book.txt", b"the best of times " * 50)
    cache = tmp_path / "made" / "here"
    first = prepare_tokens(TextFiles(path), cache_dir=cache, tokenizer=tokenizer)
    monkeypatch.setattr(TextFiles, "documents", None)
    monkeypatch.setattr(prepared, "write_token_file", None)
    again = prepare_tokens(TextFiles(path), cache_dir=cache, tokenizer=tokenizer)
    assert again.path == first.path
    assert again.attachments == first.attachments
    moved = write(tmp_path / "moved.txt", path.read_bytes())
    assert prepare_tokens(TextFiles(moved), cache_dir=cache, tokenizer=tokenizer).path == first.path


def test_another_text_or_tokenizer_is_another_file(tmp_path: Path) -> None:
    path = write(tmp_path / "book.txt", b"the best of times " * 50)
    made = [prepare_tokens(TextFiles(path), cache_dir=tmp_path)]
    made += [
        prepare_tokens(TextFiles(path), cache_dir=tmp_path, tokenizer="bpe", vocab_size=size) for size in (260, 262)
    ]
    for name, content in made[1].attachments.items():
        (tmp_path / name).write_bytes(content)
    made += [prepare_tokens(TextFiles(path), cache_dir=tmp_path, tokenizer=str(tmp_path / "tokenizer.json"))]
    write(path, b"the best of timez " * 50, changed=LONG_AGO + 1)
    made += [prepare_tokens(TextFiles(path), cache_dir=tmp_path)]
    assert len({file.path for file in made}) == 5
    assert len(token_files(tmp_path)) == 5
    assert made[1].sha256 == made[3].sha256


def test_files_as_they_were_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "book.txt", b"one")
    first = source_digest(TextFiles(path), tmp_path)
    write(path, b"two")  # the size and the time are those of before: only reading could tell
    assert source_digest(TextFiles(path), tmp_path) == first
    write(path, b"two", changed=LONG_AGO + 1)
    second = source_digest(TextFiles(path), tmp_path)
    assert second == TextFiles(path).digest() != first
    for memory in tmp_path.glob("*.digest"):
        memory.write_bytes(b"{torn")
    write(path, b"one", changed=LONG_AGO + 1)
    assert source_digest(TextFiles(path), tmp_path) == first


def test_what_has_just_changed_is_always_read(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_bytes(b"one")
    first = source_digest(TextFiles(path), tmp_path)
    stat = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert source_digest(TextFiles(path), tmp_path) != first


def test_a_damaged_file_is_named_and_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "book.txt", b"the best of times " * 50)
    made = prepare_tokens(TextFiles(path), cache_dir=tmp_path)
    whole = made.path.read_bytes()
    for damaged in (whole[:-1], whole[:4096] + b"\0" + whole[4097:], b""):
        made.path.write_bytes(damaged)
        assert prepare_tokens(TextFiles(path), cache_dir=tmp_path).sha256 == made.sha256
        assert f"{made.path}: the token file is damaged" in capsys.readouterr().err
        assert made.path.read_bytes() == whole


def prepare_in_a_process(path: str, cache_dir: str, barrier: object) -> str:
    barrier.wait()  # type: ignore[attr-defined]
    return prepare_tokens(TextFiles(path), cache_dir=cache_dir, tokenizer="bpe", vocab_size=300).sha256


def test_processes_that_prepare_at_once_do_no_harm(tmp_path: Path) -> None:
    path = write(tmp_path / "book.txt", b"the best of times " * 5000)
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        barrier = manager.Barrier(2)
        jobs = [pool.submit(prepare_in_a_process, str(path), str(tmp_path), barrier) for _ in range(2)]
        digests = {job.result(timeout=120) for job in jobs}
    assert len(digests) == 1
    assert [TokenFile(file).sha256 for file in token_files(tmp_path)] == [*digests]
    assert [file for file in tmp_path.iterdir() if "partial" in file.name] == []


def test_what_a_killed_process_left_is_removed_when_it_is_old(tmp_path: Path) -> None:
    path = write(tmp_path / "book.txt", b"the best of times")
    made = prepare_tokens(TextFiles(path), cache_dir=tmp_path)
    made.path.unlink()
    old = write(tmp_path / f".{made.path.name}.0123abcd.partial", b"half")
    new = tmp_path / f".{made.path.name}.4567abcd.partial"
    new.write_bytes(b"half")
    prepare_tokens(TextFiles(path), cache_dir=tmp_path)
    assert (old.exists(), new.exists()) == (False, True)


def test_nothing_is_left_of_what_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty" / "a.jsonl", b'\n{"text": ""}\n')
    for corpus, complaint in [
        (TextFiles(write(tmp_path / "empty.txt", b"")), r"empty\.txt: got an empty file"),
        (TextFiles(tmp_path / "empty"), "empty: got documents without text"),
    ]:
        with pytest.raises(DataError, match=complaint):
            prepare_tokens(corpus, cache_dir=tmp_path / "cache")
    latin = TextFiles(write(tmp_path / "latin.txt", b"a" * 100 + "é".encode("latin1")))
    with pytest.raises(DataError, match=r"latin\.txt: byte 100 is 0xe9"):
        prepare_tokens(latin, cache_dir=tmp_path / "cache", tokenizer="bpe")
    assert token_files(tmp_path / "cache") == []
    with pytest.raises(OutputError, match="folder for tokens"):
        prepare_tokens(latin, cache_dir=tmp_path / "latin.txt")


# --- ids that others made --------------------------------------------------------------------------------------------


def write_ids(path: Path, lists: list[list[int]]) -> str:
    pq.write_table(pa.table({"input_ids": lists}), path)
    return str(path)


def test_ids_are_taken_as_they_are(tmp_path: Path) -> None:
    corpus = open_dataset(write_ids(tmp_path / "some.parquet", [[5, 7], [70_000], []]))
    made = prepare_tokens(corpus, cache_dir=tmp_path)
    assert (made.tokens.tolist(), made.n_tokens, made.attachments) == ([5, 7, 70_000], 70_001, {})
    assert tokenizer_of(made) is None
    with pytest.raises(OptionError, match=r"data\.tokenizer\.name: got 'bytes'"):
        prepare_tokens(corpus, cache_dir=tmp_path, tokenizer="bytes")


def test_ids_of_a_tokenizer_are_checked_and_have_ends(tmp_path: Path) -> None:
    for name, content in ByteTokenizer(marks_ends=True).files().items():
        (tmp_path / name).write_bytes(content)
    corpus = open_dataset(write_ids(tmp_path / "some.parquet", [[5, 7], [8, 257], [9]]))
    made = prepare_tokens(corpus, cache_dir=tmp_path, tokenizer=str(tmp_path))
    assert (made.tokens.tolist(), made.n_tokens) == ([5, 7, 257, 8, 257, 9, 257], 258)
    beyond = open_dataset(write_ids(tmp_path / "beyond.parquet", [[5, 7], [258]]))
    with pytest.raises(DataError, match=r"beyond\.parquet, row 1: got id 258; allowed: 0 to 257"):
        prepare_tokens(beyond, cache_dir=tmp_path, tokenizer=str(tmp_path))


def test_a_tokenizer_without_an_end_is_refused_for_many_documents(tmp_path: Path) -> None:
    for name, content in ByteTokenizer(marks_ends=False).files().items():
        (tmp_path / name).write_bytes(content)
    path = write(tmp_path / "talk.jsonl", b'{"text": "a"}\n{"text": "b"}')
    with pytest.raises(DataError, match="no token that ends a document"):
        prepare_tokens(TextFiles(path), cache_dir=tmp_path, tokenizer=str(tmp_path))


# --- in a run --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_batches_are_pieces_of_the_text(tmp_path: Path, tokenizer: str) -> None:
    content = np.random.default_rng(1).integers(32, 127, 9000, dtype=np.uint8).tobytes()
    path = write(tmp_path / "book.txt", content)
    text = read_text(TextFiles(path), length=16, cache_dir=tmp_path, tokenizer=tokenizer, vocab_size=300)
    batches = TextBatches(text=text, batch_size=8, seed=3)
    rows = batches(10**9)
    for inputs, targets in zip(rows.inputs_BT.tolist(), rows.targets_BT.tolist(), strict=True):
        piece = b"".join(map(text.token_bytes, [*inputs, targets[-1]]))
        assert piece in content
        assert inputs[1:] == targets[:-1]
    assert set(batches.tokenizer_files()) == {"tokenizer.json", "tokenizer_config.json"}
    assert batches.n_tokens == text.n_tokens
    write(path, content[:-1] + b"x" if content[-1:] != b"x" else content[:-1] + b"y", changed=LONG_AGO + 1)
    other = read_text(TextFiles(path), length=16, cache_dir=tmp_path, tokenizer=tokenizer, vocab_size=300)
    changed = TextBatches(text=other, batch_size=8, seed=3)
    assert changed.fingerprint() != batches.fingerprint()


def test_a_large_text_becomes_tokens_in_little_memory(tmp_path: Path) -> None:
    n_bytes = 2**26
    with open(tmp_path / "large.txt", "wb") as file:
        file.truncate(n_bytes)
    tracemalloc.start()
    text = read_text(TextFiles(tmp_path / "large.txt"), length=64, cache_dir=tmp_path)
    inputs, _ = text.rows(range(64), seed=0)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(inputs.ravel().tolist()) == {1}
    assert peak_bytes < n_bytes // 3
