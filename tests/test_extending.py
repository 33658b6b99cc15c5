"""docs/extending.md is true: each of its files, written down as it stands there, is found by its path and works."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from xenoglot import episodes, evaluations, heads, languages, measures, objectives, predictors
from xenoglot.adaptation import AdaptationConfig, ClassifierHeadConfig, MetaLearner
from xenoglot.batches import TokenBatch
from xenoglot.cli import main
from xenoglot.config import ModelConfig, default_config
from xenoglot.config.layers import resolve
from xenoglot.decoder import Decoder
from xenoglot.rng import generator

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
FILES: dict[str, str] = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture(autouse=True)
def plug_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, body in FILES.items():
        (tmp_path / f"{name}.py").write_text(body)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield
    for name in FILES:
        sys.modules.pop(name, None)


def a_decoder(vocab_size: int = 12) -> Decoder:
    sizes = {"d_model": 16, "n_layers": 1, "attention_n_heads": 2, "attention_n_kv_heads": 2}
    return Decoder(ModelConfig(vocab_size=vocab_size, max_seq_len=32, activation_hidden_dim=16, **sizes))


def test_there_is_one_of_every_kind():
    assert PAGE.count("```python") == len(FILES) == 7
    kinds = ("family", "predictor", "objective", "episodes", "evaluation", "measure", "head")
    assert list(FILES) == [f"my_{kind}" for kind in kinds]


def test_the_family_keeps_the_contract():
    family = languages.get("my_family:Dice")(vocab_size=4)
    whole = family.batch(6, 20, seed=3, floor=True)
    later = family.batch(2, 9, seed=3, start=4)
    assert np.array_equal(whole.inputs[4:, :9], later.inputs)
    assert whole.inputs.min() >= 1
    assert np.array_equal(whole.inputs[:, 1:], whole.targets[:, :-1])
    language = family.draw(3, row=2)
    assert np.exp(language.predict(whole.inputs[2])).sum(axis=1) == pytest.approx(1)
    assert language.nats(whole.inputs[2], whole.targets[2]) == pytest.approx(whole.floor_nats[2])
    rows = language.batch(1, 20_000, seed=1)
    shares = np.bincount(rows.inputs[0], minlength=5) / 20_000
    assert shares == pytest.approx(np.exp(language.predict([1])[0]), abs=4 * math.sqrt(0.25 / 20_000))


def test_the_family_can_be_learned_and_described(capsys):
    config = resolve({"languages": {"family": "my_family:Dice", "vocab_size": 8}})
    assert config.languages.n_tokens == 9
    assert main(["describe", "my_family:Dice"]) == 0
    assert "loaded die" in capsys.readouterr().out


def test_the_predictor_is_the_bayes_predictor():
    """Against the integral over a grid of dice with two faces."""
    family = languages.get("my_family:Dice")(vocab_size=2)
    reader = predictors.get("my_predictor:DieReader").for_family(family)
    assert (reader.exactness, reader.prior, reader.n_tokens) == ("exact", family, 3)
    inputs = [1, 1, 2, 1]
    grid = (np.arange(20_000) + 0.5) / 20_000
    weights = np.cumprod([np.where(face == 1, grid, 1 - grid) for face in np.array(inputs)[:, None]], axis=0)
    expected = (weights * grid).sum(axis=1) / weights.sum(axis=1)
    assert np.exp(reader.predict(inputs))[:, 1] == pytest.approx(expected, abs=1e-6)
    batch = family.batch(400, 60, seed=0)
    lost = reader.nats(batch.inputs, batch.targets).mean() - batch.floor_nats.mean()
    assert 0 < lost < 0.1


def test_the_objective_gives_gradients_of_the_second_half():
    model = a_decoder()
    ids = torch.randint(1, 12, (3, 9), generator=torch.Generator().manual_seed(0))
    batch = TokenBatch(inputs_BT=ids[:, :-1], targets_BT=ids[:, 1:])
    result = objectives.get("my_objective:LastTokens")()(model, batch, generator(0))
    assert result.loss.item() == pytest.approx(math.log(12), abs=1e-5)
    result.loss.backward()
    other = TokenBatch(inputs_BT=ids[:, :-1], targets_BT=torch.cat([ids[:, 5:9], ids[:, 5:]], dim=1))
    gradient = model.lm_head.weight.grad.clone()
    model.zero_grad()
    objectives.get("my_objective:LastTokens")()(model, other, generator(0)).loss.backward()
    assert torch.allclose(gradient, model.lm_head.weight.grad)  # targets of the first half say nothing


def test_the_episodes_keep_the_contract_and_can_be_learned():
    source = episodes.get("my_episodes:Mirrors")(k_shot=3, q_query=2)
    task, again = source(5, "test"), source(5, "test")
    assert torch.equal(task.support.token_ids_NT, again.support.token_ids_NT)
    assert not torch.equal(task.support.token_ids_NT, source(6, "test").support.token_ids_NT)
    rows = task.support.token_ids_NT
    is_mirror = (rows == rows.flip(1)).all(dim=1)
    assert is_mirror.sum() == 3
    assert len({tuple(task.support.labels_N[is_mirror].tolist())}) == 1
    names = {int(source(i).support.labels_N[1]) for i in range(20)}
    assert names == {0, 1}


def test_the_evaluation_tells_a_copier_from_a_guesser(monkeypatch):
    measured = evaluations.get("my_evaluation:Repetition")(n_rows=50, length=6)

    class Copier(torch.nn.Module):
        vocab_size = 12

        def forward(self, ids):
            guesses = torch.cat([torch.zeros(len(ids), 5, dtype=torch.long), ids[:, : ids.shape[1] - 5]], dim=1)
            return torch.nn.functional.one_hot(guesses, 12).float()

    first, second = measured(Copier(), generator(0))
    assert second.metrics["accuracy"] == 1
    assert first.metrics["accuracy"] < 0.3
    assert evaluations.get("my_evaluation:Repetition")().n_rows == 16


def test_the_measure_is_between_one_and_the_rank():
    stable_rank = measures.get("my_measure:stable_rank")
    assert stable_rank(np.diag([2.0, 2, 0])) == pytest.approx(2)
    assert stable_rank(np.outer([1, 2], [3, 4])) == pytest.approx(1)
    assert math.isnan(stable_rank(np.zeros((2, 2))))


def test_the_head_sorts():
    head = heads.get("my_head:Neighbours")(ClassifierHeadConfig(), 2, torch.Generator())
    features_ND, labels_N = torch.tensor([[1.0, 0], [0, 1], [-1, 0]]), torch.tensor([0, 1, 2])
    weights = head.start(features_ND, labels_N, 3, torch.Generator())
    assert head.logits(weights, 3 * features_ND).argmax(dim=1).tolist() == [0, 1, 2]
    config = ClassifierHeadConfig(kind="my_head:Neighbours")
    model = a_decoder()
    learner = MetaLearner(AdaptationConfig(), config, model)
    result = learner(model, episodes.get("my_episodes:Mirrors")()(0), generator(0))
    result.loss.backward()
    assert math.isfinite(result.loss.item())
    assert default_config().smlmt.classifier_head.kind != config.kind
