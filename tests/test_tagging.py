"""Tagging against plain twins: spans one by one, valid tags by enumeration, a head by torch's own loop; what learns."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn

from xenoglot.config import ModelConfig
from xenoglot.corpus.base import Document
from xenoglot.corpus.subwords import train_bpe
from xenoglot.corpus.tokenizer import ByteTokenizer, TokenArray, Tokenizer
from xenoglot.decoder import Decoder
from xenoglot.errors import DataError, DivergenceError, MissingExtraError, OptionError
from xenoglot.evaluations.tagging import (
    Tagging,
    TagScores,
    tagging_rows,
    untrained_twin,
    with_fresh_embedding,
)
from xenoglot.evaluations.tagging_files import TaggedSentence, TaggedSplits
from xenoglot.evaluations.tagging_fitting import CLIP_NORM, Part, Recipe, Tagger, best_of_rates
from xenoglot.evaluations.tagging_scores import SpanScore, best_valid_tags, span_scores, tags_of_types
from xenoglot.evaluations.tagging_words import encode_words
from xenoglot.rng import generator

BYTES = ByteTokenizer(marks_ends=False)
TAGS = tags_of_types(["LOC", "PER"])
SIZES = {"d_model": 16, "n_layers": 2, "attention_n_heads": 2, "attention_n_kv_heads": 2, "activation_hidden_dim": 16}


def decoder(n_ids: int = 257, length: int = 64, **options: str) -> Decoder:
    return Decoder(ModelConfig(vocab_size=n_ids, max_seq_len=length, **SIZES, **options)).eval()


def sentence(words: str, tags: str) -> TaggedSentence:
    return TaggedSentence(where="here", words=tuple(words.split()), tags=tuple(tags.split()))


def town_sentences(numbers: range) -> list[TaggedSentence]:
    """Towns and people, told by their first letters alone; a second word goes on."""
    made = []
    for number in numbers:
        kinds = [("tT"[number % 2], "LOC"), ("pP"[number % 2], "PER")][:: 1 if number % 3 else -1]
        lines = [(f"x{number % 7}", "O")]
        for first, kind in kinds:
            lines += [(f"{first}{first}{number % 5}", f"B-{kind}")]
            lines += [(f"{first}{first}z", f"I-{kind}")] * (number % 2)
        words, tags = zip(*lines, strict=True)
        made.append(TaggedSentence(where="here", words=words, tags=tags))
    return made


def splits() -> TaggedSplits:
    return TaggedSplits(
        train=town_sentences(range(60)), dev=town_sentences(range(60, 80)), test=town_sentences(range(80, 100))
    )


def part(sentences: list[TaggedSentence], length: int = 64) -> Part:
    return Part(encode_words(sentences, BYTES, TAGS, length), [each.tags for each in sentences])


def recipe(**options: object) -> Recipe:
    plain = {"adapts": "head", "sees_all": False, "rates": (0.01,), "max_epochs": 3, "patience": 9, "batch_size": 8}
    return Recipe(**plain | options)


# What a span is


def plain_spans(tags: list[str]) -> set[tuple[int, int, str]]:
    """Spans of valid tags, one word after the other."""
    spans, begin = set(), None
    for place, tag in enumerate([*tags, "O"]):
        if begin is not None and not tag.startswith("I-"):
            spans.add((begin, place, tags[begin][2:]))
            begin = None
        if tag.startswith("B-"):
            begin = place
    return spans


@st.composite
def valid_tags(draw: st.DrawFn, n_words: int) -> list[str]:
    tags: list[str] = []
    for _ in range(n_words):
        allowed = [tag for tag in TAGS if tag[0] != "I" or (tags and tags[-1][1:] == tag[1:])]
        tags.append(draw(st.sampled_from(allowed)))
    return tags


@st.composite
def two_taggings(draw: st.DrawFn) -> tuple[list[list[str]], list[list[str]]]:
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    true = [["B-LOC"], *(draw(valid_tags(length)) for length in lengths)]
    return true, [draw(valid_tags(1)), *(draw(valid_tags(length)) for length in lengths)]


@settings(deadline=None, max_examples=50)
@given(two_taggings())
def test_scores_are_those_of_spans_counted_one_by_one(taggings: tuple[list[list[str]], list[list[str]]]) -> None:
    true, said = ({(row, *span) for row, tags in enumerate(each) for span in plain_spans(tags)} for each in taggings)
    for kind, score in span_scores(*taggings).items():
        n_true, n_said, n_right = (
            len([span for span in spans if kind in ("all types", span[3])]) for spans in (true, said, true & said)
        )
        assert score.n_spans == n_true
        assert score.precision == pytest.approx(n_right / n_said if n_said else 0)
        assert score.recall == pytest.approx(n_right / n_true if n_true else 0)
        assert score.f1 == pytest.approx(2 * n_right / (n_true + n_said))


def test_scores_by_hand() -> None:
    true = [["B-LOC", "I-LOC", "O", "B-PER"], ["B-LOC", "B-LOC", "O", "O"]]
    said = [["B-LOC", "I-LOC", "O", "B-LOC"], ["B-LOC", "I-LOC", "O", "B-PER"]]  # 1 of 3 places right, no person
    scores = span_scores(true, said)
    assert scores["LOC"] == SpanScore(f1=pytest.approx(1 / 3), precision=1 / 3, recall=1 / 3, n_spans=3)
    assert scores["PER"] == SpanScore(f1=0, precision=0, recall=0, n_spans=1)
    assert scores["all types"] == SpanScore(f1=0.25, precision=0.25, recall=0.25, n_spans=4)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_the_likeliest_valid_tags_are_found_among_all(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    scores = data.draw(arrays.arrays(np.float64, (sum(lengths), len(TAGS)), elements=st.floats(-9, 0)))
    found, first = best_valid_tags(scores, lengths, TAGS), 0
    for tags, length in zip(found, lengths, strict=True):
        weights = {}
        for path in itertools.product(range(len(TAGS)), repeat=length):
            spelled = ["O", *(TAGS[label] for label in path)]
            if all(tag[0] != "I" or before[1:] == tag[1:] for before, tag in itertools.pairwise(spelled)):
                weights[tuple(spelled[1:])] = sum(scores[first + word, label] for word, label in enumerate(path))
        assert weights[tuple(tags)] == pytest.approx(max(weights.values()), abs=1e-9)
        first += length


def test_without_seqeval_it_is_said_before_anything_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "seqeval", None)
    with pytest.raises(MissingExtraError, match=r"xenoglot\[eval\]"):
        Tagging(sentences=splits(), tokenizer=BYTES)


# Where words are read


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text("abcdé", min_size=1, max_size=14), min_size=1, max_size=12), st.integers(4, 20))
def test_every_word_is_read_once_at_its_last_byte(words: list[str], length: int) -> None:
    tags = [TAGS[number % 2] for number in range(len(words))]
    windows = encode_words([TaggedSentence(where="x", words=tuple(words), tags=tuple(tags))], BYTES, TAGS, length)
    whole, read = " ".join(words).encode(), 0
    assert [label for window in windows for label in window.labels] == [number % 2 for number in range(len(words))]
    for window in windows:
        assert 1 <= len(window.token_ids) <= length
        for position in window.positions:
            text = bytes(token - 1 for token in window.token_ids[: position + 1])
            end = len(" ".join(words[: read + 1]).encode())
            assert whole[:end].endswith(text)  # what stands before a word in the sentence stands before it here
            read += 1
    if len(whole) <= length:
        assert len(windows) == 1


def test_a_cut_sentence_has_context() -> None:
    [first, second, *_] = encode_words([sentence("aa bb cc dd ee ff", "O O O O O O")], BYTES, TAGS, 9)
    assert bytes(token - 1 for token in first.token_ids) == b"aa bb cc"
    assert bytes(token - 1 for token in second.token_ids) == b" cc dd ee"
    assert second.positions == [5, 8]


def test_a_subword_tokenizer_is_read_at_the_last_of_its_tokens() -> None:
    tokenizer = train_bpe([Document(where="x", pieces=[b"the river and the town " * 20])], 300)
    [window] = encode_words([sentence("the riverbank", "O B-LOC")], tokenizer, TAGS, 64)
    pieces = [tokenizer.token_bytes(token) for token in window.token_ids]
    assert b"".join(pieces) == b"the riverbank"
    ends = np.cumsum([len(piece) for piece in pieces]).tolist()
    assert window.positions == [ends.index(len("the")), len(pieces) - 1]
    assert len(pieces) < len("the riverbank")


class Forgetful(Tokenizer):
    """Leaves words out."""

    name, n_tokens, end_of_text = "forgetful", 3, None

    def encode(self, documents: Iterable[Document], *, with_ends: bool = False) -> Iterator[TokenArray]:
        for _ in documents:
            yield np.array([], np.uint32)

    def token_bytes(self, token: int) -> bytes:
        return b""

    def files(self) -> dict[str, bytes]:
        return {}


def test_a_word_without_tokens_is_a_mask() -> None:
    [window] = encode_words([sentence("a b", "O O")], Forgetful(), TAGS, 8)
    assert (window.token_ids, window.positions) == ([0, 0], [0, 1])


@pytest.mark.parametrize(("attention", "sees_all"), [("causal", False), ("causal", True), ("bidirectional", False)])
def test_what_a_word_sees(attention: str, sees_all: bool) -> None:
    model = decoder(attention=attention)
    tagger = Tagger(model, len(TAGS), recipe(sees_all=sees_all))
    short, changed, long = (
        encode_words([sentence(words, "O O O")], BYTES, TAGS, 64)[0]
        for words in ("aa bb cc", "aa bb dd", "aaaaaaaa bbbbbbbb cccccccc")
    )
    with torch.no_grad():
        alone, other = tagger.features([short]), tagger.features([changed])
        together = tagger.features([long, short])[3:]
    assert torch.allclose(alone, together, atol=1e-5)  # padding is not seen
    is_same = [torch.allclose(alone[word], other[word], atol=1e-6) for word in range(3)]
    assert is_same == [not (sees_all or attention == "bidirectional")] * 2 + [False]


# What is learned


def test_a_head_is_what_torch_makes_of_the_same_features() -> None:
    """The plain twin: features one sentence at a time, a linear module, all sentences in one batch."""
    model, sentences, n_epochs = decoder(), town_sentences(range(12)), 5
    given, dev = part(sentences), part(town_sentences(range(12, 20)))
    fitted = best_of_rates(model, given, dev, TAGS, recipe(max_epochs=n_epochs, batch_size=99), seed=0)
    rows = []
    for each in sentences:
        ids = torch.tensor([[byte + 1 for byte in " ".join(each.words).encode()]])
        ends = np.cumsum([len(word) + 1 for word in each.words]) - 2
        with torch.no_grad():
            rows.append(model.model(ids)[0, ends])
    features, labels = torch.cat(rows), torch.tensor([TAGS.index(tag) for each in sentences for tag in each.tags])
    head = nn.Linear(16, len(TAGS))
    nn.init.zeros_(head.weight), nn.init.zeros_(head.bias)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(fitted.n_epochs):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(features), labels).backward()
        nn.utils.clip_grad_norm_(head.parameters(), CLIP_NORM)
        optimizer.step()
    assert fitted.n_epochs > 0
    assert torch.allclose(fitted.tagger.head_weight_LD, head.weight, atol=1e-5)
    assert torch.allclose(fitted.tagger.head_bias_L, head.bias, atol=1e-5)


@pytest.mark.parametrize("adapts", ["head", "embedding", "all"])
def test_only_what_is_said_learns(adapts: str) -> None:
    model = decoder()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fitted = best_of_rates(
        model, part(town_sentences(range(8))), part(town_sentences(range(8, 12))), TAGS, recipe(adapts=adapts), seed=0
    )
    changed = {
        name
        for name, value in fitted.tagger.backbone.state_dict().items()
        if not torch.equal(value, before[f"model.{name}"])
    }
    expected = {"head": set(), "embedding": {"embed_tokens.weight"}, "all": set(fitted.tagger.backbone.state_dict())}
    assert fitted.n_epochs > 0
    assert changed == expected[adapts]
    assert fitted.tagger.head_weight_LD.abs().sum() > 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("adapts", ["embedding", "all"])
def test_what_letters_tell_is_learned(adapts: str) -> None:
    tagging = Tagging(sentences=splits(), tokenizer=BYTES, adapts=adapts, lr=0.02, max_epochs=20)
    scores = tagging.measure(decoder(), seed=0)
    assert scores.by_type["all types"].f1 > 0.95
    assert scores.word_accuracy > 0.95
    assert scores == tagging.measure(decoder(), seed=0)


def test_the_best_epoch_is_kept_and_patience_ends_it() -> None:
    dev = part(town_sentences(range(8, 16)))
    options = {"rates": (3.0,), "max_epochs": 60, "patience": 2, "adapts": "all"}  # so large that it does not settle
    fitted = best_of_rates(decoder(), part(town_sentences(range(8))), dev, TAGS, recipe(**options), seed=0)
    assert fitted.n_epochs < 58
    assert span_scores(dev.tags, fitted.predicted(dev, TAGS))["all types"].f1 == pytest.approx(fitted.dev_f1)


def test_the_rate_that_tags_dev_best_is_taken() -> None:
    given, dev = part(town_sentences(range(40))), part(town_sentences(range(40, 60)))
    options = {"adapts": "embedding", "rates": (1e-7, 0.02, 1e-6), "max_epochs": 8}
    assert best_of_rates(decoder(), given, dev, TAGS, recipe(**options), seed=0).rate == 0.02


def test_numbers_that_are_not_finite_are_an_error() -> None:
    model = decoder()
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.inf)
    given = part(town_sentences(range(8)))
    with pytest.raises(DivergenceError, match=r"not finite at the rates \[0.01\]"):
        best_of_rates(model, given, given, TAGS, recipe(adapts="all"), seed=0)


# A decoder of ids that are no text


def test_a_fresh_embedding_is_the_twins_too_and_the_blocks_are_the_decoders() -> None:
    model = decoder(n_ids=18)
    with torch.no_grad():
        model.model.norm.weight.mul_(1.5)
    read, twin = (with_fresh_embedding(each, 257, seed=4) for each in (model, untrained_twin(model, seed=4)))
    assert read.vocab_size == 257
    assert torch.equal(read.model.embed_tokens.weight, twin.model.embed_tokens.weight)
    other = with_fresh_embedding(model, 257, seed=5)
    assert not torch.equal(read.model.embed_tokens.weight, other.model.embed_tokens.weight)
    for name, value in model.model.state_dict().items():
        if name != "embed_tokens.weight":
            assert torch.equal(value, read.model.state_dict()[name])
    matrix = "layers.1.mlp.up_proj.weight"
    assert not torch.equal(read.model.state_dict()[matrix], twin.model.state_dict()[matrix])
    assert twin.model.norm.weight.eq(1).all()


def test_rows_of_a_decoder_of_bare_ids() -> None:
    options = {"lr": 0.01, "max_epochs": 2, "n_seeds": 2, "has_fresh_embedding": True}
    tagging = Tagging(sentences=splits(), tokenizer=BYTES, **options)
    assert tagging.ways == "embedding"
    rows = tagging(decoder(n_ids=18), generator(0))
    assert [tuple(row.slices.values()) for row in rows] == [
        *[(model, kind) for model in ("this one", "untrained") for kind in ("LOC", "PER", "all types")],
        ("only O", "all types"),
        ("tagging",),
    ]
    n_words = sum(len(each.tags) for each in splits().test)
    n_outside = sum(tag == "O" for each in splits().test for tag in each.tags)
    assert rows[-2].metrics == {"f1": 0.0, "word_accuracy": pytest.approx(n_outside / n_words)}
    assert rows[2].metrics["n_spans"] == 40
    assert rows == tagging(decoder(n_ids=18), generator(0))


def test_rows_by_hand() -> None:
    scores = [
        TagScores({"LOC": SpanScore(f1, f1 + 0.1, f1, 3)} | {"all types": SpanScore(f1, 0, 0, 3)}, 0.9, 0.5, 4, 0.1)
        for f1 in (0.1, 0.2, 0.3)
    ]
    place, whole = tagging_rows(scores, {"model": "a"})
    assert dict(place.slices) == {"model": "a", "type": "LOC"}
    assert place.metrics["f1"] == pytest.approx(0.2)
    assert place.metrics["f1_high"] == pytest.approx(0.2 + 4.303 * 0.1 / 3**0.5)
    assert place.metrics["precision"] == pytest.approx(0.3)
    assert (whole.metrics["word_accuracy"], whole.metrics["n_epochs"]) == (pytest.approx(0.9), 4)
    assert np.isnan(tagging_rows(scores[:1], {})[0].metrics["f1_high"])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="bytes: got a tokenizer with 257 ids; allowed: at most the 18 of the model"):
        Tagging(sentences=splits(), tokenizer=BYTES).measure(decoder(n_ids=18), seed=0)
    with pytest.raises(OptionError, match="model: got 'Linear'"):
        Tagging(sentences=splits(), tokenizer=BYTES)(nn.Linear(2, 2), generator(0))
    with pytest.raises(OptionError, match="adapts: got 'body'"):
        Tagging(sentences=splits(), tokenizer=BYTES, adapts="body")
