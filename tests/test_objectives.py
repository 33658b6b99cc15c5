"""One contract for every objective, and the autoregressive one against its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from xenoglot import objectives
from xenoglot.batches import TokenBatch
from xenoglot.config import ModelConfig
from xenoglot.decoder import Decoder
from xenoglot.objectives.autoregressive import Autoregressive, token_losses
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


@pytest.mark.parametrize("name", objectives.names())
def test_an_objective_leaves_everything_as_it_found_it(name):
    model, objective = shaken_decoder(), objectives.get(name)()
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, 0.25)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    result = objective(model, a_batch(), generator(0, "objective", 0))
    assert result.loss.shape == ()
    assert math.isfinite(result.loss.item())
    assert result.loss.requires_grad
    assert all(value.shape == () and not value.requires_grad for value in result.metrics.values())
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
    assert all((weight.grad == 0.25).all() for weight in model.parameters())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


@pytest.mark.parametrize("name", objectives.names())
def test_an_objective_is_a_function_of_its_arguments(name):
    model, objective = shaken_decoder(), objectives.get(name)()
    first, second = (objective(model, a_batch(), generator(0, "objective", 0)).loss for _ in range(2))
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
