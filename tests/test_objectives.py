"""One contract for every objective on everything that it takes, and the autoregressive one against its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from xenoglot import objectives
from xenoglot.adaptation import AdaptationConfig, ClassifierHeadConfig, MetaLearner
from xenoglot.batches import TokenBatch
from xenoglot.config import ModelConfig
from xenoglot.decoder import Decoder
from xenoglot.episodes import Episode, Examples
from xenoglot.episodes.batches import EpisodeBatch
from xenoglot.objectives.autoregressive import Autoregressive, token_losses
from xenoglot.objectives.base import Objective
from xenoglot.objectives.hybrid import Hybrid
from xenoglot.objectives.meta import Meta
from xenoglot.rng import generator

CONFIG = ModelConfig(d_model=16, n_layers=1, activation_hidden_dim=16, max_seq_len=8, vocab_size=7)


def shaken_decoder() -> Decoder:
    decoder = Decoder(CONFIG)
    with torch.no_grad():
        decoder.lm_head.weight.normal_(generator=torch.Generator().manual_seed(1))
    return decoder


def a_batch() -> TokenBatch:
    rows = np.random.default_rng(0).integers(0, 7, size=(4, 9)).astype(np.int32)
    return TokenBatch.from_arrays(rows[:, :-1], rows[:, 1:])


def examples(seed: int) -> Examples:
    """Six sentences of two classes, two to seven ids each."""
    rng = np.random.default_rng(seed)
    lengths = torch.from_numpy(rng.integers(2, 8, size=6))
    token_ids = torch.from_numpy(rng.integers(1, 7, size=(6, 7))) * (torch.arange(7) < lengths[:, None])
    return Examples(
        token_ids_NT=token_ids, lengths_N=lengths, mask_positions_N=lengths - 1, labels_N=torch.tensor([0, 1] * 3)
    )


def tasks() -> EpisodeBatch:
    episodes = [Episode(support=examples(n), query=examples(n + 9), n_way=2, identity=f"task {n}") for n in range(3)]
    return EpisodeBatch.of(tuple(episodes), (3, 4, 5))


def meta_learner(adapts: str) -> MetaLearner:
    config = AdaptationConfig(adapts=adapts, inner_steps=2, inner_lr=0.1, learn_inner_lr="per-layer")
    head = ClassifierHeadConfig(kind="mlp", hidden_dim=8, dropout=0.2)
    return MetaLearner(config, head, shaken_decoder())


CASES: dict[str, tuple[Objective, TokenBatch | EpisodeBatch]] = {
    "autoregressive": (Autoregressive(), a_batch()),
    "meta, of the head": (Meta(meta_learner("head")), tasks()),
    "meta, of everything": (Meta(meta_learner("all")), tasks()),
    "hybrid, on tokens": (Hybrid(meta_learner("all")), a_batch()),
    "hybrid, on tasks": (Hybrid(meta_learner("all")), tasks()),
}


def test_every_objective_is_among_the_cases():
    assert {objective.name for objective, _ in CASES.values()} == set(objectives.names())


@pytest.mark.parametrize("case", CASES)
def test_an_objective_leaves_everything_as_it_found_it(case):
    model, (objective, batch) = shaken_decoder(), CASES[case]
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, 0.25)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    result = objective(model, batch, generator(0, "objective", 0))
    assert result.loss.shape == ()
    assert math.isfinite(result.loss.item())
    assert result.loss.requires_grad
    assert all(value.shape == () and not value.requires_grad for value in result.metrics.values())
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
    assert all((weight.grad == 0.25).all() for weight in model.parameters())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


@pytest.mark.parametrize("case", CASES)
def test_an_objective_is_a_function_of_its_arguments(case):
    model, (objective, batch) = shaken_decoder(), CASES[case]
    first, second = (objective(model, batch, generator(0, "objective", 0)).loss for _ in range(2))
    assert torch.equal(first, second)


def test_token_losses_are_minus_the_log_of_the_softmax():
    model, batch = shaken_decoder(), a_batch()
    logits = model(batch.inputs_BT).detach().double().numpy()
    losses = token_losses(model, batch).detach().numpy()
    for row in range(4):
        for t in range(8):
            weights = np.exp(logits[row, t])
            expected = -math.log(weights[int(batch.targets_BT[row, t])] / weights.sum())
            assert losses[row, t] == pytest.approx(expected, abs=1e-5)
    assert Autoregressive()(model, batch, generator(0)).loss.item() == pytest.approx(losses.mean(), abs=1e-6)
