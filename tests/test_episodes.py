"""Sources of tasks: the registry, episodes of languages, and tasks of labelled examples."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from xenoglot import episodes
from xenoglot.episodes.base import SPLITS, Episode, Examples
from xenoglot.episodes.labelled import LabelledTasks
from xenoglot.episodes.languages import LanguageEpisodes
from xenoglot.errors import DataError, OptionError, UnknownNameError
from xenoglot.languages import Markov, MetaLMv1

FAMILY = MetaLMv1(vocab_size=8, n_elements=3, element_length=4)
PAIRS = [(f"{label} example {number}", label) for label in ("red", "green", "blue", "grey") for number in range(30)]


def tensors(episode: Episode) -> list[list]:
    return [
        tensor.tolist()
        for examples in (episode.support, episode.query)
        for tensor in (examples.token_ids_NT, examples.lengths_N, examples.mask_positions_N, examples.labels_N)
    ]


def test_sources_are_found_by_name() -> None:
    assert episodes.names() == ("labelled", "smlmt")
    assert episodes.get("labelled") is episodes.LabelledTasks is LabelledTasks
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = episodes.Nothing
    with pytest.raises(UnknownNameError, match="unknown episode source 'smltm'"):
        episodes.get("smltm")


def test_episodes_go_to_a_device() -> None:
    examples = Examples(
        token_ids_NT=torch.ones(2, 3, dtype=torch.int64),
        lengths_N=torch.ones(2, dtype=torch.int64),
        mask_positions_N=torch.zeros(2, dtype=torch.int64),
        labels_N=torch.arange(2),
    )
    moved = Episode(support=examples, query=examples, n_way=2, identity="made").to(torch.device("meta"))
    assert {tensor.device.type for part in (moved.support, moved.query) for tensor in vars(part).values()} == {"meta"}
    assert (moved.n_way, moved.identity) == (2, "made")
    rows = LanguageEpisodes(FAMILY, n_support=1, n_query=1, length=8, seed=0)(0).to(torch.device("meta"))
    assert rows.support.inputs_BT.device.type == rows.query.targets_BT.device.type == "meta"


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), index=st.integers(0, 2**63 - 1), split=st.sampled_from(SPLITS))
def test_rows_of_a_language_episode_are_of_one_language(seed: int, index: int, split: str) -> None:
    tasks = LanguageEpisodes(FAMILY, n_support=3, n_query=4, length=40, seed=seed)
    episode = tasks(index, split)
    language = tasks.language(index, split)
    assert episode.support.inputs_BT.shape == (3, 40)
    assert episode.query.targets_BT.shape == (4, 40)
    for rows, batch in (
        (episode.support, tasks.support_rows(index, split)),
        (episode.query, tasks.query_rows(index, split)),
    ):
        inputs, targets = rows.inputs_BT.numpy().astype(np.int32), rows.targets_BT.numpy().astype(np.int32)
        nats = language.nats(inputs, targets)
        assert np.isfinite(nats).all()
        np.testing.assert_allclose(batch.floor_nats, nats, rtol=1e-4, atol=1e-5)
    again = LanguageEpisodes(FAMILY, n_support=3, n_query=4, length=40, seed=seed)(index, split)
    assert torch.equal(again.query.inputs_BT, episode.query.inputs_BT)


def test_languages_and_rows_are_all_different() -> None:
    tasks = LanguageEpisodes(Markov(vocab_size=8), n_support=2, n_query=2, length=32, seed=0)
    drawn = [tasks(index, split) for split in SPLITS for index in range(8)]
    drawn += [LanguageEpisodes(Markov(vocab_size=8), n_support=2, n_query=2, length=32, seed=1)(0)]
    parts = [part for episode in drawn for part in (episode.support, episode.query)]
    rows = [tuple(row) for part in parts for row in part.inputs_BT.tolist()]
    assert len(set(rows)) == len(rows)
    laws = [tasks.language(index).predict(np.ones((1, 1), np.int32)).tobytes() for index in range(8)]
    assert len(set(laws)) == 8


def test_fingerprints_of_language_episodes() -> None:
    def fingerprint(**changed: int) -> dict:
        return LanguageEpisodes(
            FAMILY, **({"n_support": 2, "n_query": 2, "length": 8, "seed": 0} | changed)
        ).fingerprint()

    assert json.loads(json.dumps(fingerprint())) == fingerprint()
    for changed in ({"seed": 1}, {"n_query": 3}, {"length": 9}):
        assert fingerprint(**changed) != fingerprint()
    with pytest.raises(OptionError, match="n_support: got 0"):
        fingerprint(n_support=0)


@pytest.mark.parametrize("split", SPLITS)
def test_labelled_tasks_keep_the_rules(split: str) -> None:
    tasks = LabelledTasks(PAIRS, "bytes", n_way=3, k_shot=2, q_query=1)
    for index in range(40):
        episode, labels = tasks(index, split), tasks.labels(index, split)
        assert len(set(labels)) == 3
        texts = []
        for examples, shots in ((episode.support, 2), (episode.query, 1)):
            assert [sorted(shot) for shot in examples.labels_N.reshape(shots, 3).tolist()] == [[0, 1, 2]] * shots
            for row, length, last, label in zip(
                *(vars(examples)[name].tolist() for name in vars(examples)), strict=True
            ):
                text = "".join(chr(token - 1) for token in row[:length])
                assert (text, labels[label]) in PAIRS
                assert (last, set(row[length:])) in ((length - 1, set()), (length - 1, {0}))
                texts.append(text)
        assert len(set(texts)) == len(texts)
        assert tensors(tasks(index, split)) == tensors(episode)


def test_labelled_examples_belong_to_one_split_and_labels_are_uniform() -> None:
    tasks = LabelledTasks(PAIRS, "bytes", n_way=2, k_shot=1, q_query=1)
    drawn = {}
    for split in SPLITS:
        rows = [row for index in range(300) for row in tensors(tasks(index, split))[0]]
        drawn[split] = {"".join(chr(token - 1) for token in row if token) for row in rows}
    assert sum(map(len, drawn.values())) == len(set.union(*drawn.values())) > 100
    first = [tasks.labels(index)[0] for index in range(2000)]
    counts = np.array([first.count(label) for label in ("red", "green", "blue", "grey")])
    assert chi2.sf(float(((counts - 500) ** 2 / 500).sum()), 3) > 1e-4


def test_labelled_texts_that_repeat_contradict_or_are_long() -> None:
    repeated = [*PAIRS, PAIRS[0], ("red example 1", "blue"), ("red " * 100, "red")]
    tasks = LabelledTasks(repeated, "bytes", n_way=2, k_shot=4, q_query=4, max_length=20, held_out_share=0)
    texts = ["".join(chr(token - 1) for token in row if token) for i in range(200) for row in tensors(tasks(i))[0]]
    assert "red example 1" not in texts
    assert "red example 0" in texts
    assert "red red red red red " in texts


def test_labelled_files_are_read_and_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps({"q": text, "kind": label}) + "\n\n" for text, label in PAIRS))
    sizes = {"n_way": 2, "k_shot": 2, "q_query": 2}
    tasks = LabelledTasks.from_file(path, "bytes", text="q", label="kind", **sizes)
    assert tensors(tasks(5, "test")) == tensors(LabelledTasks(PAIRS, "bytes", **sizes)(5, "test"))
    assert tasks.fingerprint() == LabelledTasks(PAIRS, "bytes", **sizes).fingerprint()
    assert tasks.fingerprint() != LabelledTasks(PAIRS[1:], "bytes", **sizes).fingerprint()
    with pytest.raises(DataError, match=r"line 1: got the fields q, kind; allowed: an object with 'text' and 'label'"):
        LabelledTasks.from_file(path, **sizes)
    for line, message in (
        (b"{", "it is not JSON"),
        (b"[1]", "got list"),
        (b'{"text": "", "label": 1}', "got '' as 'text'"),
        (b'{"text": "a", "label": 1.5}', "got 1.5 as 'label'"),
        (b'{"text": "\xff", "label": 1}', "byte 10 of the line is not UTF-8"),
    ):
        path.write_bytes(b'{"text": "fine", "label": 1}\n' + line)
        with pytest.raises(DataError, match=r"some\.jsonl, line 2: " + message):
            LabelledTasks.from_file(path, **sizes)
    with pytest.raises(DataError, match="No such file"):
        LabelledTasks.from_file(tmp_path / "none.jsonl", **sizes)


def test_too_few_labelled_examples_are_counted() -> None:
    with pytest.raises(DataError, match=r"train: got 0 labels with at least 40 .*\('blue': \d+, 'green': \d+"):
        LabelledTasks(PAIRS, "bytes", n_way=2, k_shot=20, q_query=20)
    with pytest.raises(DataError, match="got labels of different kinds"):
        LabelledTasks([("a", 1), ("b", "x")], "bytes")
    with pytest.raises(DataError, match="example 1: got '  '; allowed: a text that is not empty"):
        LabelledTasks([("a", 1), ("  ", 2)], "bytes")
    with pytest.raises(OptionError, match="n_way: got 1"):
        LabelledTasks(PAIRS, "bytes", n_way=1)


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["own_sentences.py", "{text}"], "What was it: 0 "),
        (["check_smlmt.py", "{text}", "--tasks", "60", "--n_way", "3", "--k_shot", "2", "--q_query", "2"], "faults: "),
        (["custom_episodes.py"], "task 0 of last-digits, test torch.Size([20, 3])"),
    ],
)
def test_the_examples_run(tmp_path: Path, arguments: list[str], printed: str) -> None:
    draws = np.random.Generator(np.random.Philox(0))
    words = np.array([first + second for first in ("ca", "do", "ow", "be", "fo", "he") for second in "tgnlkxp"])
    lines = [" ".join(draws.choice(words, 6)).capitalize() + ".\n" for _ in range(900)]
    (tmp_path / "text.txt").write_text("".join(lines))
    script, *rest = [argument.format(text=tmp_path / "text.txt") for argument in arguments]
    examples = Path(__file__).parents[1] / "examples"
    done = subprocess.run([sys.executable, examples / script, *rest], cwd=examples, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout
