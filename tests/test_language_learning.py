"""One language in context and by gradient: the same tokens, the exact floor, and nothing changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xenoglot.config import ModelConfig
from xenoglot.decoder import Decoder
from xenoglot.errors import OptionError
from xenoglot.evaluations import language_learning
from xenoglot.evaluations.base import Row
from xenoglot.evaluations.language_learning import LanguageLearning
from xenoglot.evaluations.measuring import losses_nats
from xenoglot.languages import MetaLMv1
from xenoglot.rng import MAX_SEED, generator

FAMILY = MetaLMv1(vocab_size=8, n_elements=2, element_length=4, separator=True)
SIZES = ModelConfig(d_model=16, n_layers=1, activation_hidden_dim=16, max_seq_len=48, vocab_size=FAMILY.n_tokens)
WHOLE = 48 - language_learning.JUDGED_TOKENS


def model() -> Decoder:
    """A model whose first guess is not uniform."""
    decoder = Decoder(SIZES)
    with torch.no_grad():
        decoder.lm_head.weight.normal_(0.0, 0.3, generator=torch.Generator().manual_seed(1))
    return decoder


def learning(**options: object) -> LanguageLearning:
    sizes = {"n_languages": 3, "n_rows": 2, "n_tuning": 1, "by_gradient": (20, 96)}
    return LanguageLearning(family=FAMILY, length=48, **(sizes | options))


def metric(rows: list[Row], way: str, seen: int, name: str = "loss_nats") -> float:
    [row] = [row for row in rows if row.slices == {"learning": way, "tokens_seen": seen}]
    return row.metrics[name]


def test_reading_is_measured_on_the_last_tokens_of_new_languages() -> None:
    decoder, evaluation = model(), learning(by_gradient=())
    rows = evaluation(decoder, generator(3))
    tasks = evaluation._tasks(int(generator(3).integers(MAX_SEED, endpoint=True)))
    losses, floors = [], []
    for index in range(3):
        language, query = tasks.language(index, "test"), tasks.query_rows(index, "test")
        whole = losses_nats(decoder, query.inputs, query.targets, FAMILY.n_tokens)
        losses.append(whole[:, -16:].mean())
        floors.append(language.nats(query.inputs, query.targets)[:, -16:].mean())
    assert metric(rows, "in context", WHOLE) == pytest.approx(np.mean(losses), rel=1e-5)
    assert metric(rows, "in context", WHOLE, "floor_nats") == pytest.approx(np.mean(floors), rel=1e-5)
    assert metric(rows, "in context", WHOLE, "excess_nats") == pytest.approx(
        np.mean(losses) - np.mean(floors), rel=1e-4
    )
    assert [row.slices["tokens_seen"] for row in rows] == [0, 1, 2, 4, 8, 16, WHOLE]


def test_steps_of_no_length_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_learning, "RATES", (0.0,))
    rows = learning()(model(), generator(3))
    for n_tokens in (20, 96):
        assert metric(rows, "by gradient", n_tokens) == pytest.approx(metric(rows, "in context", 0), rel=1e-6)
        both = metric(rows, "by gradient, then in context", n_tokens + WHOLE)
        assert both == pytest.approx(metric(rows, "in context", WHOLE), rel=1e-6)


def test_steps_teach_a_language_and_leave_the_model_as_it_was() -> None:
    decoder = model()
    before = {name: weight.clone() for name, weight in decoder.state_dict().items()}
    rows = learning()(decoder, generator(3))
    assert metric(rows, "by gradient", 96) < metric(rows, "in context", 0) - 0.1
    assert all(torch.equal(weight, before[name]) for name, weight in decoder.state_dict().items())
    assert all(weight.grad is None for weight in decoder.parameters())
    assert rows == learning()(decoder, generator(3))


def test_amounts_that_fill_no_rows_are_left_out() -> None:
    assert learning(by_gradient=(20, 48, 50, 144))._amounts == [20, 48, 144]


@pytest.mark.parametrize("change", [{"length": 16}, {"n_languages": 1}], ids=["short rows", "no interval"])
def test_what_cannot_be_measured_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(OptionError, match=next(iter(change))):
        LanguageLearning(**({"family": FAMILY, "length": 48} | change))
