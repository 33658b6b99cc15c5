"""Masked-word tasks: every rule of a task, against a reading of the same text that shares no code with ours."""

from __future__ import annotations

import collections
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2
from Stemmer import Stemmer

from xenoglot.corpus.base import Document
from xenoglot.corpus.subwords import SubwordTokenizer, train_bpe
from xenoglot.corpus.tokenizer import ByteTokenizer, Tokenizer
from xenoglot.episodes.base import SPLITS, Episode, Examples
from xenoglot.episodes.smlmt import SMLMT
from xenoglot.errors import DataError, OptionError, UnknownNameError

STEMS = ["walk", "talk", "jump", "paint", "climb", "count", "plant", "float", "point", "sort"]
FORMS = [form for stem in STEMS for form in (stem, f"{stem}s", f"{stem}ing", f"{stem}ed")]
OTHERS = [
    "river",
    "stone",
    "cloud",
    "window",
    "garden",
    "silver",
    "winter",
    "button",
    "candle",
    "market",
    "pepper",
    "saddle",
]


def made_sentences(seed: int, n_sentences: int) -> list[str]:
    """Sentences of 3 to 9 words, among which are several forms of the same stems, in either case."""
    draws = np.random.Generator(np.random.Philox(seed))
    words = np.array(FORMS + OTHERS)
    frequency = 1 / (1 + np.arange(len(words)))
    order = draws.permutation(len(words))
    lines = []
    for _ in range(n_sentences):
        row = draws.choice(words[order], draws.integers(3, 10), p=frequency / frequency.sum())
        lines.append(" ".join([row[0].capitalize(), *row[1:]]) + draws.choice([".", "!", ""]))
    return lines


SENTENCES = made_sentences(0, 3000)
SIZES = {"n_way": 4, "k_shot": 3, "q_query": 2}


@pytest.fixture(scope="module")
def tasks() -> SMLMT:
    return SMLMT.from_sentences(SENTENCES, "bytes", **SIZES)


def words_in(sentence: str) -> list[str]:
    """A plain reading of the words of a sentence without digits, marks or apostrophes."""
    return re.findall(r"[a-z]+", sentence.lower())


def rows_of(examples: Examples) -> list[list[int]]:
    return [
        row[:length] for row, length in zip(examples.token_ids_NT.tolist(), examples.lengths_N.tolist(), strict=True)
    ]


def unmasked(row: list[int], word: str) -> str:
    """What a row of bytes was, if MASK stands for a word."""
    return "".join(word if token == 0 else chr(token - 1) for token in row)


def check_shape(examples: Examples, n_way: int, shots: int) -> None:
    n_rows = n_way * shots
    assert examples.token_ids_NT.shape == (n_rows, int(examples.lengths_N.max()))
    for tensor in (examples.token_ids_NT, examples.lengths_N, examples.mask_positions_N, examples.labels_N):
        assert tensor.dtype == torch.int64
    for shot in examples.labels_N.reshape(shots, n_way):
        assert sorted(shot.tolist()) == list(range(n_way))
    for row, length in zip(examples.token_ids_NT, examples.lengths_N, strict=True):
        assert not row[length:].any()


def check_rules(tasks: SMLMT, index: int, split: str, known: dict[tuple[str, ...], str]) -> Episode:
    """Check what holds for every task; ``known`` are the corpus's sentences by their words."""
    episode, words = tasks(index, split), tasks.words(index, split)
    stemmer = Stemmer("english")
    stems = stemmer.stemWords(list(words))
    assert len(set(stems)) == len(words) == tasks.n_way
    check_shape(episode.support, tasks.n_way, tasks.k_shot)
    check_shape(episode.query, tasks.n_way, tasks.q_query)
    seen = []
    for examples in (episode.support, episode.query):
        for row, position, label in zip(
            rows_of(examples), examples.mask_positions_N.tolist(), examples.labels_N.tolist(), strict=True
        ):
            word = words[label]
            assert row.index(0) == position
            visible = words_in("".join(chr(token - 1) if token else " " for token in row))
            assert not set(stemmer.stemWords(visible)) & set(stems)
            whole = tuple(words_in(unmasked(row, word)))
            assert whole.count(word) == row.count(0)
            assert whole in known
            seen.append(whole)
    assert len(set(seen)) == len(seen)
    return episode


def by_words(sentences: list[str]) -> dict[tuple[str, ...], str]:
    return {tuple(words_in(sentence)): sentence for sentence in sentences}


@pytest.mark.parametrize("split", SPLITS)
def test_the_rules_hold(tasks: SMLMT, split: str) -> None:
    known = by_words(SENTENCES)
    for index in range(60):
        check_rules(tasks, index, split, known)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), n_way=st.integers(2, 5), k_shot=st.integers(1, 4), q_query=st.integers(1, 4))
def test_the_rules_hold_whatever_the_sizes(seed: int, n_way: int, k_shot: int, q_query: int) -> None:
    sentences = made_sentences(seed % 1000, 700)
    tasks = SMLMT.from_sentences(
        sentences, "bytes", n_way=n_way, k_shot=k_shot, q_query=q_query, seed=seed, held_out_share=0.1
    )
    known = by_words(sentences)
    for index in (0, 1, 2**40):
        check_rules(tasks, index, "train", known)


def test_sentences_keep_their_spelling(tasks: SMLMT) -> None:
    texts = {sentence.lower() for sentence in SENTENCES}
    episode, words = tasks(3), tasks.words(3)
    for row, label in zip(rows_of(episode.support), episode.support.labels_N.tolist(), strict=True):
        assert unmasked(row, words[label]).lower() in texts


def test_splits_have_neither_sentences_nor_stems_in_common(tasks: SMLMT) -> None:
    stemmer = Stemmer("english")
    stems, sentences = {}, {}
    for split in SPLITS:
        stems[split] = {stem for index in range(80) for stem in stemmer.stemWords(list(tasks.words(index, split)))}
        sentences[split] = {int(row) for index in range(80) for row in tasks.sentences(index, split).ravel()}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not stems[one] & stems[other]
        assert not sentences[one] & sentences[other]


def test_the_splits_do_not_depend_on_the_seed_nor_on_other_sentences(tasks: SMLMT) -> None:
    other = SMLMT.from_sentences([*made_sentences(5, 500), *SENTENCES[:2500]], "bytes", **SIZES, seed=9)

    def words(source: SMLMT, split: str) -> set[str]:
        return {word for index in range(80) for word in source.words(index, split)}

    assert not words(tasks, "train") & words(other, "test")
    assert words(tasks, "test") & words(other, "test")


def test_a_task_depends_on_nothing_but_seed_split_and_index(tasks: SMLMT) -> None:
    forwards = [tasks(index, split).support.token_ids_NT.tolist() for split in SPLITS for index in range(5)]
    again = SMLMT.from_sentences(SENTENCES, "bytes", **SIZES)
    backwards = [
        again(index, split).support.token_ids_NT.tolist() for split in SPLITS[::-1] for index in range(5)[::-1]
    ]
    assert forwards == backwards[::-1]
    different = SMLMT.from_sentences(SENTENCES, "bytes", **SIZES, seed=1)
    assert different(0).support.token_ids_NT.tolist() != forwards[0]
    assert len({str(ids) for ids in forwards}) == len(forwards)


def test_another_process_draws_the_same(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"{sentence}.\n" for sentence in SENTENCES[:900]))
    code = (
        "import sys; from xenoglot.episodes.smlmt import SMLMT; "
        "tasks = SMLMT.from_sentences(sys.argv[1], 'bytes', n_way=3, k_shot=2, q_query=1, cache_dir=sys.argv[2]); "
        "print(tasks(7, 'train').query.token_ids_NT.tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path, tmp_path / "there"], capture_output=True, text=True, check=True
    )
    here = SMLMT.from_sentences(path, "bytes", n_way=3, k_shot=2, q_query=1, cache_dir=tmp_path / "here")
    assert done.stdout.strip() == str(here(7).query.token_ids_NT.tolist())
    built = {file.relative_to(tmp_path / "there"): file.read_bytes() for file in (tmp_path / "there").rglob("*.u*")}
    assert built == {
        file.relative_to(tmp_path / "here"): file.read_bytes() for file in (tmp_path / "here").rglob("*.u*")
    }
    assert built


def test_labels_are_uniform_over_words_and_places(tasks: SMLMT) -> None:
    """Chi-square over 2,000 tasks: the label of a word, and the label that stands in each row."""
    n_tasks, n_way = 2000, tasks.n_way
    of_word: dict[str, np.ndarray] = collections.defaultdict(lambda: np.zeros(n_way))
    in_row = np.zeros((n_way * tasks.q_query, n_way))
    for index in range(n_tasks):
        for label, word in enumerate(tasks.words(index)):
            of_word[word][label] += 1
        in_row[np.arange(len(in_row)), tasks(index).query.labels_N.numpy()] += 1
    tables = [np.array(list(of_word.values())), in_row]
    for table in tables:
        expected = table.sum(axis=1, keepdims=True) / n_way
        statistic = float(((table - expected) ** 2 / expected).sum())
        freedom = len(table) * (n_way - 1)
        assert chi2.sf(statistic, freedom) > 1e-4, (statistic, freedom)


@pytest.mark.parametrize("n_mixed", [1, 300])
def test_every_word_and_sentence_that_can_be_drawn_is_drawn(n_mixed: int) -> None:
    """Against enumeration; where nearly all sentences show both words, those that do not are hard to find."""
    sentences = [f"{word} {filler} here" for word in ("cat", "dog") for filler in "abcdefghij"]
    sentences += ["dogs and cat", "cats sleep here", "one cat, two cats"]
    sentences += [f"cat number {number} and dog" for number in range(n_mixed)]
    vocabulary = ["cat", "dog", "dogs", "cats"]
    tasks = SMLMT.from_sentences(
        sentences, "bytes", n_way=2, k_shot=1, q_query=1, vocabulary=vocabulary, held_out_share=0
    )
    drawn = collections.Counter()
    for index in range(3000):
        words = tasks.words(index)
        for row, label in zip(rows_of(tasks(index).support), tasks(index).support.labels_N.tolist(), strict=True):
            drawn[words[label], unmasked(row, words[label])] += 1
    # 'dogs' and 'cats' occur in too few sentences of their own; mixed ones show another form or another word.
    assert set(drawn) == {(word, f"{word} {filler} here") for word in ("cat", "dog") for filler in "abcdefghij"}
    counts = np.array(list(drawn.values()))
    assert chi2.sf(float(((counts - 300) ** 2 / 300).sum()), 18) > 1e-4


def small_bpe() -> SubwordTokenizer:
    return train_bpe([Document(where="here", pieces=[" ".join(SENTENCES[:400]).encode()])], 300)


def wordpiece(**special: str) -> SubwordTokenizer:
    """A tokenizer of another kind, with a MASK of its own that is not id 0."""
    from tokenizers import Tokenizer as Engine
    from tokenizers import models, normalizers, pre_tokenizers

    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [
        "[PAD]",
        "[UNK]",
        "[MASK]",
        ".",
        "!",
        *letters,
        *(f"##{letter}" for letter in letters),
        *STEMS,
        "##ing",
        "##ed",
    ]
    engine = Engine(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    engine.normalizer = normalizers.Lowercase()
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return SubwordTokenizer("wordpiece", engine, dict(special))


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_masked_words_are_whole_whatever_their_tokens(kind: str) -> None:
    """With subwords: what is not masked spells the sentence without the word."""
    tokenizer: Tokenizer = small_bpe() if kind == "bpe" else wordpiece(mask_token="[MASK]")
    mask_id = 0 if kind == "bpe" else 2
    tasks = SMLMT.from_sentences(SENTENCES, tokenizer, **SIZES)
    known = by_words(SENTENCES)
    n_tokens_of_words = set()
    for index in range(30):
        episode, words = tasks(index), tasks.words(index)
        for row, position, label in zip(
            rows_of(episode.query),
            episode.query.mask_positions_N.tolist(),
            episode.query.labels_N.tolist(),
            strict=True,
        ):
            assert row[position] == mask_id
            assert mask_id not in row[:position]
            parts = [f" {words[label]}" if token == mask_id else tokenizer.token_bytes(token).decode() for token in row]
            text = "".join(
                part[2:] if part.startswith("##") else part if kind == "bpe" else f" {part}" for part in parts
            )
            assert tuple(words_in(text)) in known
            [plain] = tokenizer.encode([Document(where="", pieces=[known[tuple(words_in(text))].encode()])])
            n_tokens_of_words.add((len(plain) - len(row)) / row.count(mask_id) + 1)
    assert len(n_tokens_of_words) > 1


def test_a_tokenizer_without_mask_is_refused_unless_a_token_is_named() -> None:
    with pytest.raises(OptionError, match=r"mask_token: got 'none'; allowed: one of the tokens of wordpiece"):
        SMLMT.from_sentences(SENTENCES, wordpiece(), **SIZES)
    with pytest.raises(OptionError, match=r"mask_token: got '<nope>'"):
        SMLMT.from_sentences(SENTENCES, wordpiece(), **SIZES, mask_token="<nope>")
    tasks = SMLMT.from_sentences(SENTENCES, wordpiece(), **SIZES, mask_token="[UNK]")
    assert int(tasks(0).support.token_ids_NT[0, int(tasks(0).support.mask_positions_N[0])]) == 1


def test_band_vocabulary_and_length_are_kept() -> None:
    counts = collections.Counter(word for words in by_words(SENTENCES) for word in set(words))
    middle = [word for word, count in counts.items() if 100 <= count <= 700]
    tasks = SMLMT.from_sentences(SENTENCES, "bytes", **SIZES, min_token_freq=100, max_token_freq=700, held_out_share=0)
    assert {word for index in range(300) for word in tasks.words(index)} == set(middle)
    wanted = ["Walk", "TALKING", "jumps", "river", "stone", "unheard"]
    tasks = SMLMT.from_sentences(SENTENCES, "bytes", **SIZES, vocabulary=wanted, max_length=40, held_out_share=0)
    assert {word for index in range(200) for word in tasks.words(index)} <= {word.lower() for word in wanted}
    assert tasks.counts["n_unknown_of_vocabulary"] == 1
    words = tasks.words(0)
    for row, label in zip(rows_of(tasks(0).support), tasks(0).support.labels_N.tolist(), strict=True):
        assert len(unmasked(row, words[label])) <= 40


def test_too_little_is_an_error_that_says_what_would_do() -> None:
    few = [f"{word} {filler} here" for word in ("cat", "dog", "owl") for filler in "abcd"]
    with pytest.raises(
        DataError, match=r"a list of 12 sentences, train: got \d words .* at least 12 \(k_shot \+ q_query\)"
    ):
        SMLMT.from_sentences(few, "bytes", held_out_share=0)
    with pytest.raises(
        DataError, match=r"Would suffice: n_way of 4, or k_shot \+ q_query of 3, or about 2 times as many"
    ):
        SMLMT.from_sentences(few, "bytes", n_way=5, k_shot=2, q_query=2, held_out_share=0)
    with pytest.raises(DataError, match=r"Of 12 sentences, 12 were left out: they have more tokens than fit a row\."):
        SMLMT.from_sentences(few, "bytes", max_length=5, held_out_share=0)
    suggested = SMLMT.from_sentences(few, "bytes", n_way=4, k_shot=2, q_query=2, held_out_share=0)
    with pytest.raises(DataError, match="2,000 times, and always"):
        suggested(0)  # 'here' is in every sentence, so nothing can be drawn for the others
    with pytest.raises(DataError, match=r"validation: got 0 words .* more words \(min_token_freq"):
        suggested(0, "validation")
    with pytest.raises(UnknownNameError, match="unknown split 'dev'"):
        suggested(0, "dev")
    with pytest.raises(OptionError, match="index: got -1"):
        suggested(-1)
    with pytest.raises(OptionError, match="max_token_freq: got 2; allowed: at least min_token_freq, 3"):
        SMLMT.from_sentences(few, "bytes", min_token_freq=3, max_token_freq=2)
    with pytest.raises(UnknownNameError, match=r"unknown stem_language 'englisch'\. Did you mean 'english'"):
        SMLMT.from_sentences(few, "bytes", stem_language="englisch")
    with pytest.raises(DataError, match=r"vocabulary: got 'new york'; allowed: single words"):
        SMLMT.from_sentences(few, "bytes", vocabulary=["New York"])


def test_the_fingerprint_tells_tasks_apart() -> None:
    def fingerprint(**changed: int) -> dict:
        return SMLMT.from_sentences(SENTENCES, ByteTokenizer(marks_ends=False), **(SIZES | changed)).fingerprint()

    assert fingerprint() == fingerprint()
    assert fingerprint()["kind"] == "smlmt"
    for changed in ({"seed": 1}, {"n_way": 3}, {"q_query": 4}, {"min_token_freq": 9}, {"max_length": 50}):
        assert fingerprint(**changed) != fingerprint()
