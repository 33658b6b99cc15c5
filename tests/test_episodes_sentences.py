"""From text to sentences and words: against regular expressions, and with text as people have it."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xenoglot.corpus.tokenizer import ByteTokenizer
from xenoglot.episodes.array_folder import ArrayFolder, ArrayWriter, found_or_made
from xenoglot.episodes.characters import folded, is_word
from xenoglot.episodes.encoding import SentenceEncoder
from xenoglot.episodes.scanning import scan
from xenoglot.episodes.sentence_store import open_sentences
from xenoglot.episodes.sentences import corpus_of, is_running
from xenoglot.episodes.smlmt import SMLMT
from xenoglot.episodes.word_forms import HashSet
from xenoglot.episodes.word_index import words_of
from xenoglot.errors import DataError, OptionError, OutputError

TEXTS = st.text(alphabet="abEry .!?。\n'’\")-1_é\u0301न्字Ж", max_size=60)
CLUSTER = re.compile(r"(?P<cluster>[.!?。][.!?。\"'’)]*+)(?P<space>\s*)(?=(?P<next>\S))")


def plain_runs(text: str) -> list[str]:
    """Runs by a regular expression: Han characters alone; else letters, marks, digits; apostrophes before letters."""
    kinds = "".join("h" if "\u4e00" <= x < "\ua000" else "a" if x in "'’" else plain_kind(x) for x in text)
    return [text[match.start() : match.end()] for match in re.finditer(r"h|[lmd](?:[lmd]|(?<=[lm])a(?=l))*", kinds)]


def plain_kind(letter: str) -> str:
    category = unicodedata.category(letter)
    return {"L": "l", "M": "m", "N": "d"}.get(category[0], "d" if category == "Pc" else " ")


def plain_sentences(text: str) -> list[str]:
    found = []
    for paragraph in re.split(r"\n[^\S\n]*\n", text):
        begin = 0
        for match in CLUSTER.finditer(paragraph):
            cluster = match["cluster"]
            run = (plain_runs(paragraph[begin : match.start()]) or [""])[-1]
            touches = run and paragraph[: match.start()].endswith(run)
            is_single = len(run) == 1 and run.isalpha()
            if cluster[0] == "." and touches and (is_single or re.fullmatch(r"(?i)[b-df-hj-np-tv-xz]+", run)):
                cluster = cluster[1:]
            endings = re.findall(r"[.!?。]", cluster)
            if endings and (
                (match["space"] and not match["next"].islower()) or (not match["space"] and endings[-1] == "。")
            ):
                found.append(paragraph[begin : match.end("cluster")])
                begin = match.end()
        found.append(paragraph[begin:])
    return [sentence.strip() for sentence in found if sentence.strip()]


def scanned(text: str, *, running: bool) -> tuple[list[str], list[list[str]]]:
    content = text.encode()
    found = scan(np.frombuffer(content, np.uint8), is_running=running, is_last=True)
    sentences = [content[begin:end].decode() for begin, end in zip(found.begins, found.ends, strict=True)]
    runs = [content[begin:end].decode() for begin, end in zip(found.run_begins, found.run_ends, strict=True)]
    edges = found.run_starts.tolist()
    return sentences, [runs[first:last] for first, last in itertools.pairwise(edges)]


@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
@example(text="Mr. E isn't in. He's out! \"Er.\" Ab. b")
@example(text="a\n \nb")
@example(text="字。字")
def test_running_text_is_split_as_by_regular_expressions(text: str) -> None:
    sentences, runs = scanned(text, running=True)
    assert sentences == plain_sentences(text)
    assert runs == [plain_runs(sentence) for sentence in sentences]


@settings(max_examples=100, deadline=None)
@given(text=TEXTS)
def test_lines_are_sentences(text: str) -> None:
    sentences, runs = scanned(text, running=False)
    assert sentences == [line.strip() for line in text.split("\n") if line.strip()]
    assert runs == [plain_runs(sentence) for sentence in sentences]


@settings(max_examples=60, deadline=None)
@given(text=TEXTS, running=st.booleans(), cut=st.integers(0, 60))
def test_a_text_may_come_in_pieces(text: str, running: bool, cut: int) -> None:
    """What was not read is put before the next piece."""
    first, second = text[:cut].encode(), text[cut:].encode()
    found = scan(np.frombuffer(first, np.uint8), is_running=running, is_last=False)
    beginning = [first[begin:end].decode() for begin, end in zip(found.begins, found.ends, strict=True)]
    rest, _ = scanned((first[found.n_read :] + second).decode(), running=running)
    assert beginning + rest == scanned(text, running=running)[0]


def test_line_ends_of_other_systems() -> None:
    assert scanned("one\r\ntwo\rthree\n", running=False)[0] == ["one", "two", "three"]
    assert len(scanned("One.\r\nTwo\r\n\r\nthree", running=True)[0]) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't, DON’T; dogs' rock 'n' roll", ["don't", "don't", "dogs", "rock", "n", "roll"]),
        ("well-known x_1 3rd", ["well", "known"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("caf\u00e9 cafe\u0301", ["café", "café"]),
        ("Ὀδυσσεύς ὈΔΥΣΣΕΎΣ", ["ὀδυσσεύσ", "ὀδυσσεύσ"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("می‌خواهم", ["می‌خواهم"]),
        ("שלום עולם", ["שלום", "עולם"]),
        ("我們 read 書", ["我", "們", "read", "書"]),
    ],
)
def test_words_of_many_scripts(text: str, words: list[str]) -> None:
    [runs] = scanned(text, running=False)[1]
    assert [folded(run) for run in runs if is_word(run)] == [folded(word) for word in words]


def store(tmp_path: Path, sentences: object, splitting: str = "auto") -> ArrayFolder:
    tokenizer = ByteTokenizer(marks_ends=False)
    return open_sentences(
        corpus_of(sentences), tokenizer, SentenceEncoder(tokenizer, None), splitting=splitting, cache_dir=tmp_path
    )


def stored_sentences(folder: ArrayFolder) -> list[str]:
    starts, tokens = folder.arrays["starts"][:, 0].tolist(), folder.arrays["tokens"]
    return [(tokens[first:last] - 1).astype(np.uint8).tobytes().decode() for first, last in itertools.pairwise(starts)]


@settings(max_examples=40, deadline=None)
@given(lines=st.lists(st.text(alphabet="abcAB 'é.", max_size=12), max_size=12))
def test_the_store_holds_what_a_plain_reading_finds(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    folder = store(tmp_path_factory.mktemp("store"), lines)
    kept: dict[tuple[str, ...], str] = {}
    for line in lines:
        runs = tuple(folded(run) for run in plain_runs(line))
        if len(set(runs)) > 1:
            kept.setdefault(runs, line.strip())
    assert stored_sentences(folder) == list(kept.values())
    words, starts = words_of(folder), folder.arrays["starts"][:, 1].tolist()
    for sentence, runs, first, last in zip(kept.values(), kept, starts, starts[1:], strict=False):
        found = folder.arrays["occurrences"][first:last]
        assert [words[number] for number in found[:, 0].tolist()] == list(runs)
        content = sentence.encode()
        places = [(place >> 16, (place >> 16) + (place & 0xFFFF)) for place in found[:, 1].tolist()]
        assert [folded(content[begin:end].decode()) for begin, end in places] == list(runs)


def test_repeated_empty_and_endless_lines(tmp_path: Path) -> None:
    lines = [
        "The cat sat.",
        "",
        "   ",
        "the CAT sat!",
        "the cat sat down",
        "stop",
        "stop stop",
        "word " * 200_000,
        "1 2",
    ]
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(lines) + "\n\n")
    folder = store(tmp_path, path, "lines")
    assert stored_sentences(folder) == ["The cat sat.", "the cat sat down", "1 2"]
    facts = folder.facts
    assert (facts["n_found"], facts["n_repeated"], facts["n_too_few_words"], facts["n_too_long"]) == (7, 1, 2, 1)


def test_a_line_that_never_ends_is_held_only_in_part(tmp_path: Path) -> None:
    path = tmp_path / "endless.txt"
    path.write_text("The first one.\n" + "word " * 2_000_000 + "\nThe last one.\n")
    assert stored_sentences(store(tmp_path, path, "lines"))[0] == "The first one."
    assert stored_sentences(store(tmp_path, path, "lines"))[-1] == "The last one."


def test_broken_text_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "latin1.txt"
    path.write_bytes(b"A line.\nCaf\xe9 noir.\n")
    with pytest.raises(DataError, match=r"latin1\.txt: byte 11 is 0xe9, which is not UTF-8.*, because words are"):
        store(tmp_path / "cache", path)
    assert [file for file in (tmp_path / "cache").iterdir() if file.suffix != ".digest"] == []
    with pytest.raises(DataError, match=r"sentence 1: character 3 is half of a pair"):
        store(tmp_path, ["fine", "not\ud800"])
    with pytest.raises(DataError, match="sentence 1: got int; allowed: text"):
        store(tmp_path, ["fine", 7])
    with pytest.raises(OptionError, match=r"splitting: got 'words'; allowed: one of auto, lines, running"):
        store(tmp_path, ["fine"], "words")


def test_sentences_come_from_many_kinds_of_files(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    texts = [f"Number {number} is here." for number in range(5)]
    (tmp_path / "lines.txt").write_text("\n".join(texts))
    (tmp_path / "running.txt").write_text(" ".join(texts))
    (tmp_path / "lines.txt.gz").write_bytes(gzip.compress("\n".join(texts).encode()))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    parquet.write_table(pa.table({"text": texts}), tmp_path / "rows.parquet")
    for source in ("lines.txt", "running.txt", "lines.txt.gz", "rows.jsonl", "rows.parquet"):
        assert stored_sentences(store(tmp_path / "cache", tmp_path / source)) == texts
    assert stored_sentences(store(tmp_path / "cache", iter(texts))) == texts
    with pytest.raises(DataError, match="No such file"):
        store(tmp_path, tmp_path / "nothing.txt")
    parquet.write_table(pa.table({"input_ids": [[1, 2]]}), tmp_path / "ids.parquet")
    with pytest.raises(DataError, match="got ids of tokens; allowed: text"):
        store(tmp_path, tmp_path / "ids.parquet")


def test_a_column_of_a_dataset_is_a_list(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    texts = [f"Number {number} is here." for number in range(5)]
    column = datasets.Dataset.from_dict({"text": texts})["text"]
    assert stored_sentences(store(tmp_path, column)) == texts


@pytest.mark.parametrize(
    ("text", "running"),
    [
        ("One sentence here.\nAnother one there.\nIs it? \n" * 9, False),
        ("all lower case.\nnothing else.\n" * 9, False),
        ("A headline\nAnother headline\n" * 9, False),
        ("He came. He saw. He won.\nThen he left. That was all.\n" * 9, True),
        ("Before we proceed any further,\nhear me speak\nnow. You are\nall resolved.\n" * 9, True),
    ],
)
def test_lines_are_told_from_running_text(tmp_path: Path, text: str, running: bool) -> None:
    (tmp_path / "text.txt").write_text(text)
    assert is_running(corpus_of(tmp_path / "text.txt"), "auto") is running


def test_a_text_is_tokenised_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{word} number {number} is here" for word in ("cat", "dog", "owl") for number in range(9)]
    sizes = {"n_way": 2, "k_shot": 2, "q_query": 1, "held_out_share": 0, "cache_dir": tmp_path}
    first = SMLMT.from_sentences(lines, "bytes", **sizes)(0)
    with monkeypatch.context() as context:
        context.setattr(SentenceEncoder, "__call__", None)
        again = SMLMT.from_sentences(lines, "bytes", **sizes)(0)
        SMLMT.from_sentences(lines, "bytes", **sizes, max_token_freq=9)  # another index of the same tokens
    assert again.support.token_ids_NT.tolist() == first.support.token_ids_NT.tolist()
    [tokens] = tmp_path.glob("*.sentences/tokens.*")
    content = bytearray(tokens.read_bytes())
    content[3] ^= 1
    tokens.write_bytes(content)
    mended = SMLMT.from_sentences(lines, "bytes", **sizes)(0)
    assert "tokens.uint16 is changed" in capsys.readouterr().err
    assert mended.support.token_ids_NT.tolist() == first.support.token_ids_NT.tolist()


def test_two_processes_may_make_the_same_folder_at_once(tmp_path: Path) -> None:
    def fill(writer: ArrayWriter) -> None:
        writer.append("numbers", np.arange(3))

    def fill_second(writer: ArrayWriter) -> None:
        found_or_made(tmp_path / "same", fill)  # the other process is faster
        fill(writer)

    folder = found_or_made(tmp_path / "same", fill_second)
    assert folder.arrays["numbers"].tolist() == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["same"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        found_or_made(tmp_path / "file" / "below", fill)


def test_nothing_is_left_where_no_folder_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    lines = [f"{word} number {number} is here" for word in ("cat", "dog", "owl") for number in range(9)]
    tasks = SMLMT.from_sentences(lines, "bytes", n_way=2, k_shot=2, q_query=1, held_out_share=0)
    assert list(tmp_path.iterdir()) == []
    assert tasks(10**6).support.labels_N.shape == (4,)


def test_forms_of_one_word_are_not_told_apart(tmp_path: Path) -> None:
    lines = [f"{word} number {number} is here" for word in ("run", "runs", "running", "walk") for number in range(9)]
    sizes = {"k_shot": 2, "q_query": 1, "held_out_share": 0, "vocabulary": ["run", "runs", "running", "walk"]}
    tasks = SMLMT.from_sentences(lines, "bytes", n_way=2, **sizes)
    assert all("walk" in tasks.words(index) for index in range(50))
    with pytest.raises(DataError, match="got 2 words that differ by stem, 2 of them"):
        SMLMT.from_sentences(lines, "bytes", n_way=3, **sizes)
    assert len(set(SMLMT.from_sentences(lines, "bytes", n_way=4, **sizes, stem_language="any").words(0))) == 4


@settings(max_examples=30, deadline=None)
@given(pieces=st.lists(st.lists(st.integers(1, 2**64 - 1) | st.integers(1, 5), max_size=40), max_size=6))
def test_a_hash_set_is_a_dictionary(pieces: list[list[int]]) -> None:
    known: dict[int, int] = {}
    hashes = HashSet(value=np.zeros(1, np.int64))
    for piece in pieces:
        places, new = hashes.add(np.array(piece, np.uint64))
        expected = [number for number, key in enumerate(piece) if key not in known and key not in piece[:number]]
        assert new.tolist() == expected
        hashes.values["value"][places[new]] = [10 + len(known) + number for number in range(len(new))]
        for number, place in enumerate(new.tolist()):
            known[piece[place]] = 10 + hashes.n_hashes - len(new) + number
        assert hashes.values["value"][places].tolist() == [known[key] for key in piece]
    assert hashes.n_hashes == len(known)
