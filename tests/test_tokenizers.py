"""Tokenizers: what is decoded is what was encoded, in our hands and in `transformers`'."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot.corpus.base import Document
from xenoglot.corpus.subwords import PIECE_LETTERS, SubwordTokenizer, load_tokenizer, train_bpe
from xenoglot.corpus.tokenizer import END_OF_TEXT, MASK_TOKEN, ByteTokenizer, Tokenizer
from xenoglot.errors import DataError, MissingExtraError

CORPUS = "It was the best of times, it was the worst of times; naïve 你好 🙂\n\n1234 times.\n" * 20
BPE = train_bpe([Document(where="corpus", pieces=[CORPUS.encode()])], vocab_size=290)
BYTES = ByteTokenizer(marks_ends=True)
AWKWARD = f"  two  blanks\t\ttabs\r\n\n\n newline {MASK_TOKEN}{END_OF_TEXT} é 🙂 \u200b \x00 {CORPUS}"


def documents(*texts: str) -> list[Document]:
    return [Document(where=f"document {n}", pieces=[text.encode()]) for n, text in enumerate(texts)]


def ids_of(tokenizer: Tokenizer, *texts: str, with_ends: bool = False) -> list[int]:
    pieces = list(tokenizer.encode(documents(*texts), with_ends=with_ends))
    return np.concatenate(pieces).tolist() if pieces else []


def written(tokenizer: Tokenizer, folder: Path) -> Path:
    folder.mkdir()
    for name, content in tokenizer.files().items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("tokenizer", [BPE, BYTES], ids=["bpe", "bytes"])
@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=80) | st.sampled_from([AWKWARD, CORPUS]))
def test_what_is_decoded_is_what_was_encoded(tokenizer: Tokenizer, text: str) -> None:
    ids = ids_of(tokenizer, text)
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
    assert all(0 < token < tokenizer.n_tokens and token != tokenizer.end_of_text for token in ids)


@pytest.mark.parametrize("tokenizer", [BPE, BYTES], ids=["bpe", "bytes"])
def test_documents_end_where_they_do(tokenizer: Tokenizer) -> None:
    end = tokenizer.end_of_text
    assert ids_of(tokenizer, "a", "", "b", with_ends=True) == [
        *(*ids_of(tokenizer, "a"), end, end),
        *(*ids_of(tokenizer, "b"), end),
    ]
    assert ids_of(tokenizer, "a", "b") == [*ids_of(tokenizer, "a"), *ids_of(tokenizer, "b")]
    assert tokenizer.token_bytes(0) == b""
    assert tokenizer.token_bytes(end or 0) == b""


def test_bytes_are_their_numbers_plus_one() -> None:
    content = bytes(range(256))
    [ids] = ByteTokenizer(marks_ends=False).encode([Document(where="here", pieces=[content])])
    assert ids.tolist() == list(range(1, 257))
    assert (ByteTokenizer(marks_ends=False).n_tokens, BYTES.n_tokens, BYTES.end_of_text) == (257, 258, 257)


def test_a_trained_vocabulary_begins_with_the_mask_the_end_and_all_bytes() -> None:
    assert BPE.end_of_text == 1
    assert sorted(map(BPE.token_bytes, range(2, 258))) == [bytes([byte]) for byte in range(256)]
    assert BPE.n_tokens == 290
    assert len(ids_of(BPE, CORPUS)) < len(CORPUS.encode()) / 2


def test_training_twice_gives_the_same_in_any_process() -> None:
    program = (
        "import sys; from xenoglot.corpus.subwords import train_bpe; from xenoglot.corpus.base import Document\n"
        "text = sys.stdin.buffer.read()\n"
        "files = train_bpe([Document(where='corpus', pieces=[text])], vocab_size=290).files()\n"
        "sys.stdout.buffer.write(files['tokenizer.json'])"
    )
    for threads in ("1", "2"):
        environment = {**os.environ, "RAYON_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-c", program], input=CORPUS.encode(), capture_output=True, env=environment, check=True
        )
        assert done.stdout == BPE.files()["tokenizer.json"]


def test_pieces_of_a_long_text_are_encoded_as_the_whole() -> None:
    words = np.random.default_rng(0).choice(["the", "times", "worst,", "best.", "1234", "naïve", "\n\n", "  "], 60_000)
    text = " ".join(words.tolist())
    assert len(text) > 3 * PIECE_LETTERS
    engine = tokenizers.Tokenizer.from_str(BPE.files()["tokenizer.json"].decode())
    assert ids_of(BPE, text) == engine.encode(text).ids
    unbroken = "你好" * PIECE_LETTERS
    assert b"".join(map(BPE.token_bytes, ids_of(BPE, unbroken))) == unbroken.encode()


@pytest.mark.parametrize(
    "tokenizer", [BPE, BYTES, ByteTokenizer(marks_ends=False)], ids=["bpe", "bytes with ends", "bytes"]
)
def test_transformers_opens_it_and_gives_the_same_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    import transformers

    theirs = transformers.AutoTokenizer.from_pretrained(str(written(tokenizer, tmp_path / "model")))
    assert len(theirs) == tokenizer.n_tokens
    assert theirs.eos_token_id == tokenizer.end_of_text
    assert (theirs.pad_token_id, theirs.mask_token_id) == (0, 0)
    for text in ("naïve 你好 🙂", "  two  blanks , \n\n .\t", CORPUS):
        ids = ids_of(tokenizer, text)
        assert theirs(text)["input_ids"] == ids
        assert theirs.decode(ids) == text
    every_byte = bytes(range(128)).decode("latin1")
    assert theirs(every_byte)["input_ids"] == ids_of(tokenizer, every_byte)


def test_what_others_trained_is_loaded_with_their_ids(tmp_path: Path) -> None:
    folder = written(BPE, tmp_path / "model")
    for name in (folder, folder / "tokenizer.json"):
        loaded = load_tokenizer(str(name))
        assert (loaded.n_tokens, loaded.end_of_text) == (BPE.n_tokens, 1)
        assert ids_of(loaded, AWKWARD) == ids_of(BPE, AWKWARD)
        assert loaded.files() == BPE.files()


def other_tokenizer(**vocabulary: int) -> tokenizers.Tokenizer:
    """Make a tokenizer of whole words, with a post-processor, truncation and padding that must not act."""
    engine = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 2, "good": 3, "day": 4, **vocabulary}, "[UNK]"))
    engine.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    engine.enable_truncation(1)
    engine.enable_padding(length=7)
    return engine


def test_the_end_of_text_is_what_the_tokenizer_calls_so(tmp_path: Path) -> None:
    def end_of(engine: tokenizers.Tokenizer, config: dict[str, object]) -> int | None:
        (tmp_path / "tokenizer.json").write_text(engine.to_str())
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        return load_tokenizer(str(tmp_path)).end_of_text

    own, pythia = other_tokenizer(**{"<stop>": 5, "</s>": 0}), other_tokenizer(**{END_OF_TEXT: 0})
    assert end_of(own, {"eos_token": "<stop>"}) == 5
    assert end_of(own, {"eos_token": {"content": "<stop>", "lstrip": False}}) == 5
    assert end_of(own, {}) == 0
    assert end_of(pythia, {"eos_token": None}) == 0
    assert end_of(other_tokenizer(), {}) is None


def test_nothing_is_added_cut_or_filled() -> None:
    tokenizer = SubwordTokenizer("words", other_tokenizer(), {})
    assert ids_of(tokenizer, "good good day") == [3, 3, 4]


def test_the_bytes_of_others_tokens() -> None:
    tokenizer = SubwordTokenizer("words", other_tokenizer(**{"\u2581good": 5, "<0x0A>": 6}), {})
    assert [tokenizer.token_bytes(token) for token in (3, 5, 6, 99)] == [b"good", b" good", b"\n", b""]


def test_added_tokens_stand_for_what_they_are_in_a_text() -> None:
    """Byte-level tokenizers such as GPT-NeoX's have runs of blanks beside their merges, not in byte letters."""
    engine = tokenizers.Tokenizer.from_str(BPE.files()["tokenizer.json"].decode())
    engine.add_tokens([tokenizers.AddedToken(text, normalized=False) for text in ("    ", "né")])
    tokenizer = SubwordTokenizer("neox", engine, {})
    ids = ids_of(tokenizer, "times    timené")
    assert b"".join(tokenizer.token_bytes(token) for token in ids).decode() == "times    timené"
    assert {tokenizer.n_tokens - 2, tokenizer.n_tokens - 1} <= set(ids)
    assert tokenizer.token_bytes(0) == b""  # the mask


def test_a_tokenizer_that_cannot_be_had_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(DataError, match=r"bad\.json: the tokenizer cannot be read"):
        load_tokenizer(str(tmp_path / "bad.json"))
    with pytest.raises(DataError, match=r"there is no tokenizer\.json"):
        load_tokenizer(str(tmp_path))
    with pytest.raises(DataError, match=r"there is no tokenizer\.json"):
        load_tokenizer(str(tmp_path / "absent.json"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"xenoglot\[hub\]"):
        load_tokenizer("someone/something")


def test_a_name_is_looked_up_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    folder = written(BPE, tmp_path / "model")
    asked = []

    def download(name: str, file: str) -> str:
        asked.append((name, file))
        if name != "someone/something":
            raise OSError("no such name")
        return str(folder / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert ids_of(load_tokenizer("someone/something"), CORPUS) == ids_of(BPE, CORPUS)
    assert asked == [("someone/something", "tokenizer.json"), ("someone/something", "tokenizer_config.json")]
    with pytest.raises(DataError, match="no/where: the Hub gives no tokenizer: no such name"):
        load_tokenizer("no/where")
