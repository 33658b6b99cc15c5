"""Perplexity by domain: against a loop that follows the definition, one token after the other."""

from __future__ import annotations

import gzip
import json
import math
import statistics
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from xenoglot import evaluations
from xenoglot.assembly.data import open_data
from xenoglot.config import default_config, with_overrides
from xenoglot.corpus.base import Corpus, Document
from xenoglot.corpus.tokenizer import ByteTokenizer
from xenoglot.errors import DataError
from xenoglot.evaluations import perplexity
from xenoglot.evaluations.perplexity import Domain, DomainPerplexity, open_domains
from xenoglot.rng import generator

LENGTH = 6
ENDS = ByteTokenizer(marks_ends=True)


class Reader(nn.Module):
    """What it expects depends on all that it has read in the window, and on nothing else."""

    def __init__(self, n_tokens=258):
        super().__init__()
        self.table_HV = nn.Parameter(torch.randn(7, n_tokens, generator=torch.Generator().manual_seed(0)))

    def forward(self, input_ids):
        return self.table_HV[torch.cumsum(input_ids, dim=1) % 7]


def losses_by_hand(model: Reader, ids: list[int], start: int) -> list[float]:
    """Read a document token by token; every `LENGTH` tokens the model begins anew, with the last token."""
    table, losses = model.table_HV.detach().double().numpy(), []
    context: list[int] = []
    for place, (before, token) in enumerate(zip([start, *ids], ids, strict=False)):
        context = [before] if place % LENGTH == 0 else [*context, before]
        scores = np.exp(table[sum(context) % 7])
        losses.append(-math.log(scores[token] / scores.sum()))
    return losses


class Texts(Corpus):
    has_many_documents = True

    def __init__(self, *texts: bytes | list[int], n_pieces: int = 1) -> None:
        self.name, self.texts, self.n_pieces = "texts", texts, n_pieces
        self.holds_ids = not any(isinstance(text, bytes) for text in texts)

    def documents(self):
        for text in self.texts:
            if isinstance(text, bytes):
                size = max(1, len(text) // self.n_pieces)
                yield Document(where="here", pieces=[text[i : i + size] for i in range(0, len(text), size)])
            else:
                yield Document(where="there", ids=np.array(text, np.uint32))

    def digest(self):
        return ""


NEWS = [b"the quick brown fox jumps", b"over", b"the lazy dog, and more"]
TALK = ["naïve café".encode()]


def measure(domains, *, tokenizer=ENDS, model=None, batch_size=4, n_tokens=258):
    evaluation = DomainPerplexity(
        domains=domains, tokenizer=tokenizer, n_tokens=n_tokens, length=LENGTH, batch_size=batch_size
    )
    return evaluation(model or Reader(), generator(0, "nothing is drawn"))


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("n_pieces", [1, 5])
def test_every_token_counts_once_in_windows_without_overlap(batch_size, n_pieces):
    model = Reader()
    domains = [Domain("news", Texts(*NEWS, n_pieces=n_pieces)), Domain("talk", Texts(*TALK, n_pieces=n_pieces))]
    rows = measure(domains, model=model, batch_size=batch_size)
    by_hand = {
        name: [losses_by_hand(model, [byte + 1 for byte in text], 257) for text in texts]
        for name, texts in (("news", NEWS), ("talk", TALK))
    }
    for row, (name, documents) in zip(rows, by_hand.items(), strict=False):
        losses = [loss for document in documents for loss in document]
        assert row.slices == {"domain": name}
        assert row.metrics["loss_nats"] == pytest.approx(statistics.fmean(losses), abs=1e-6)
        assert row.metrics["perplexity"] == pytest.approx(math.exp(statistics.fmean(losses)))
        assert row.metrics["bits_per_byte"] == pytest.approx(statistics.fmean(losses) / math.log(2))
        assert (row.metrics["n_tokens"], row.metrics["n_documents"]) == (len(losses), len(documents))
    together, mean = rows[2:]
    everything = [loss for documents in by_hand.values() for losses in documents for loss in losses]
    assert together.slices == {"domains": "all, by tokens"}
    assert together.metrics["loss_nats"] == pytest.approx(statistics.fmean(everything), abs=1e-6)
    means = [statistics.fmean([loss for losses in documents for loss in losses]) for documents in by_hand.values()]
    assert mean.metrics["loss_nats"] == pytest.approx(statistics.fmean(means), abs=1e-6)
    assert mean.metrics["perplexity"] == pytest.approx(statistics.geometric_mean(map(math.exp, means)))


def test_the_interval_is_that_of_a_ratio_over_documents():
    model = Reader()
    sums = [losses_by_hand(model, [byte + 1 for byte in text], 257) for text in NEWS]
    n_tokens = sum(map(len, sums))
    mean = sum(map(sum, sums)) / n_tokens
    squares = sum((sum(losses) - mean * len(losses)) ** 2 for losses in sums)
    [row, *_] = measure([Domain("news", Texts(*NEWS))], model=model)
    half_width = 1.96 * math.sqrt(3 / 2 * squares) / n_tokens
    assert row.metrics["loss_nats_high"] - row.metrics["loss_nats"] == pytest.approx(half_width, abs=1e-6)
    assert row.metrics["perplexity_low"] == pytest.approx(math.exp(row.metrics["loss_nats_low"]))
    [row, *_] = measure([Domain("talk", Texts(*TALK))], model=model)
    assert math.isnan(row.metrics["loss_nats_low"])  # one document tells nothing about the others


def test_without_an_end_of_text_a_document_begins_after_mask():
    model = Reader(257)
    [row, *_] = measure(
        [Domain("it", Texts(NEWS[0]))], model=model, tokenizer=ByteTokenizer(marks_ends=False), n_tokens=257
    )
    losses = losses_by_hand(model, [byte + 1 for byte in NEWS[0]], 0)
    assert row.metrics["loss_nats"] == pytest.approx(statistics.fmean(losses), abs=1e-6)


def test_ids_are_measured_as_they_are():
    model = Reader(20)
    ids = [3, 19, 5, 5, 1, 7, 2, 4]
    [row, *_] = measure([Domain("ids", Texts(ids, []))], model=model, tokenizer=None, n_tokens=20)
    assert row.metrics["loss_nats"] == pytest.approx(statistics.fmean(losses_by_hand(model, ids, 0)), abs=1e-6)
    assert "bits_per_byte" not in row.metrics
    with pytest.raises(DataError, match="there: got id 20; allowed: 0 to 19"):
        measure([Domain("ids", Texts([20]))], model=model, tokenizer=None, n_tokens=20)


def test_text_without_a_tokenizer_is_refused_at_once():
    with pytest.raises(DataError, match="news: got text; allowed: ids"):
        DomainPerplexity(domains=[Domain("news", Texts(b"text"))], tokenizer=None, n_tokens=20, length=LENGTH)


def test_an_empty_domain_is_named():
    with pytest.raises(DataError, match="news: got no tokens"):
        measure([Domain("news", Texts(b"", []))])


def test_a_folder_has_a_domain_in_each_file(tmp_path):
    (tmp_path / "news.txt").write_text("the news")
    (tmp_path / "talk.jsonl").write_text('{"text": "ah"}\n{"text": "oh"}\n')
    (tmp_path / "old.txt.gz").write_bytes(gzip.compress(b"of old"))
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "one.txt").write_text("once upon")
    (tmp_path / ".hidden.txt").write_text("x")
    (tmp_path / "README.md").write_text("x")
    found = {
        domain.name: [b"".join(document.pieces) for document in domain.corpus.documents()]
        for domain in open_domains(str(tmp_path))
    }
    assert found == {"books": [b"once upon"], "news": [b"the news"], "old": [b"of old"], "talk": [b"ah", b"oh"]}
    rows = measure(open_domains(str(tmp_path)))
    assert json.loads(json.dumps(rows[0].to_mapping()))["metrics"]["loss_nats_low"] is None


def test_a_folder_that_is_no_set_of_domains_is_refused(tmp_path):
    with pytest.raises(DataError, match="got none; allowed: a folder with a file for each domain"):
        open_domains(str(tmp_path))
    for ending in ("txt", "jsonl"):
        (tmp_path / f"news.{ending}").write_text("x")
    with pytest.raises(DataError, match="got the domains news, news"):
        open_domains(str(tmp_path))


def test_a_dataset_has_a_domain_in_each_configuration(monkeypatch):
    """The library and its network are played by something with two configurations."""
    opened = []
    library = SimpleNamespace(get_dataset_config_names=lambda name: ["wiki", "code"])
    monkeypatch.setitem(sys.modules, "datasets", library)
    monkeypatch.setattr(perplexity, "HubDataset", lambda *details: opened.append(details) or Texts(b"text"))
    assert [domain.name for domain in open_domains("someone/paloma", "test")] == ["code", "wiki"]
    assert opened == [("someone/paloma", "code", "test"), ("someone/paloma", "wiki", "test")]


def test_a_run_on_text_is_measured_on_the_domains_that_it_names(tmp_path):
    (tmp_path / "domains").mkdir()
    (tmp_path / "domains" / "news.txt").write_bytes(NEWS[0])
    (tmp_path / "book.txt").write_bytes(b"It was the best of times. " * 100)
    overrides = {"evaluation.paloma.dataset_name": str(tmp_path / "domains"), "evaluation.paloma.max_length": LENGTH}
    overrides |= {"checkpointing.runs_dir": str(tmp_path), "model.max_seq_len": 16}
    data = open_data(with_overrides(default_config(str(tmp_path / "book.txt")), overrides))
    model = Reader(257)
    row = data.evaluations[1](model, generator(0, "x"))[0]
    assert row.slices == {"domain": "news"}
    losses = losses_by_hand(model, [byte + 1 for byte in NEWS[0]], 0)
    assert row.metrics["loss_nats"] == pytest.approx(statistics.fmean(losses), abs=1e-6)


def test_it_is_found_by_its_name():
    assert evaluations.get("domain-perplexity") is DomainPerplexity
