"""The schedule, the decay groups, and one step of AdamW worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot.config import ModelConfig, OptimizationConfig
from xenoglot.decoder import Decoder
from xenoglot.optim import decay_groups, learning_rate, make_optimizers

MODEL = ModelConfig(d_model=16, n_layers=1, activation_hidden_dim=16, max_seq_len=8, vocab_size=7)


@settings(max_examples=30, deadline=None)
@given(
    warmup=st.integers(0, 50),
    n_steps=st.integers(1, 80),
    final=st.floats(0, 1),
    scheduler=st.sampled_from(["cosine", "linear", "constant", "linear_with_warmup"]),
)
def test_the_rate_rises_to_its_peak_then_falls_to_its_end(warmup, n_steps, final, scheduler):
    config = OptimizationConfig(lr=0.5, lr_warmup_steps=warmup, lr_final_ratio=final, lr_scheduler=scheduler)
    rates = [learning_rate(config, step, n_steps) for step in range(n_steps)]
    n_rising = min(warmup, n_steps)
    assert rates[:n_rising] == pytest.approx([0.5 * (step + 1) / n_rising for step in range(n_rising)])
    assert all(
        later <= earlier + 1e-12 for earlier, later in zip(rates[n_rising:], rates[n_rising + 1 :], strict=False)
    )
    if n_steps > warmup:
        assert rates[-1] == pytest.approx(0.5 * final)
    assert all(0 <= rate <= 0.5 for rate in rates)


def test_cosine_is_half_way_down_in_the_middle():
    config = OptimizationConfig(lr=1.0, lr_warmup_steps=0, lr_final_ratio=0.2)
    assert learning_rate(config, 4, 10) == pytest.approx(0.6)
    assert learning_rate(config, 1, 10) == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi * 0.2)) / 2)


@pytest.mark.parametrize("tied", [False, True])
def test_matrices_decay_but_norms_and_embeddings_do_not(tied):
    decoder = Decoder(ModelConfig(d_model=16, n_layers=1, vocab_size=7, tie_word_embeddings=tied))
    decaying, constant = decay_groups(decoder)
    names = {id(weight): name for name, weight in decoder.named_parameters()}
    projections = {f"self_attn.{name}_proj" for name in "qkvo"} | {
        f"mlp.{name}_proj" for name in ("gate", "up", "down")
    }
    expected = {f"model.layers.0.{name}.weight" for name in projections} | (set() if tied else {"lm_head.weight"})
    assert {names[id(weight)] for weight in decaying} == expected
    assert len(decaying) + len(constant) == len(names)


def test_the_first_step_moves_by_the_rate_and_the_decay():
    # AdamW's first step with bias correction is lr * sign(g) (eps apart), after shrinking by lr * decay.
    decoder = Decoder(MODEL)
    before = {name: weight.detach().clone() for name, weight in decoder.named_parameters()}
    [optimizer] = make_optimizers(decoder, OptimizationConfig(lr=0.01, weight_decay=0.5))
    for weight in decoder.parameters():
        weight.grad = torch.full_like(weight, 3.0)
    optimizer.step()
    for name, weight in decoder.named_parameters():
        kept = 1.0 if "norm" in name or "embed" in name else 1 - 0.01 * 0.5
        torch.testing.assert_close(weight.detach(), kept * before[name] - 0.01, atol=1e-6, rtol=0)


def test_muon_steps_along_the_nearest_orthogonal_matrix_inside_the_layers_only():
    decoder = Decoder(MODEL)
    before = {name: weight.detach().clone() for name, weight in decoder.named_parameters()}
    muon, adamw = make_optimizers(decoder, OptimizationConfig(optimizer="muon", muon_lr=0.1, weight_decay=0.0))
    rng = torch.Generator().manual_seed(0)
    for weight in decoder.parameters():
        weight.grad = torch.randn(weight.shape, generator=rng)
        if weight.ndim == 2:  # singular values from 0.5 to 2: the iterations lift tiny ones only part of the way
            left, values, right = torch.linalg.svd(weight.grad, full_matrices=False)
            weight.grad = left @ torch.diag(torch.linspace(0.5, 2, len(values))) @ right
    muon.step()
    moved = {name: before[name] - weight.detach() for name, weight in decoder.named_parameters()}
    for name, difference in moved.items():
        if ".layers." in name and "norm" not in name:
            # Five Newton-Schulz iterations bring every singular value near to 1, not to it (Jordan et al. 2024).
            values = torch.linalg.svdvals(difference / 0.1) / max(1, difference.shape[0] / difference.shape[1]) ** 0.5
            assert values.min() > 0.5
            assert values.max() < 1.5
        else:
            assert not difference.any()
    owned = {
        id(weight) for optimizer in (muon, adamw) for group in optimizer.param_groups for weight in group["params"]
    }
    assert owned == {id(weight) for weight in decoder.parameters()}
