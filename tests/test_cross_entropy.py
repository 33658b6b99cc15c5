"""The loss in pieces against torch's own over all logits, and against finite differences."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot.transformer import cross_entropy
from xenoglot.transformer.cross_entropy import has_fast_chunks, linear_cross_entropy


def problem(n_rows: int, n_ids: int, dtype: torch.dtype = torch.float64, scale: float = 1.0):
    rng = torch.Generator().manual_seed(n_rows * 1000 + n_ids)
    hidden = torch.randn(n_rows, 6, generator=rng, dtype=dtype).mul_(scale).requires_grad_()
    weight = torch.randn(n_ids, 6, generator=rng, dtype=dtype).requires_grad_()
    return hidden, weight, torch.randint(0, n_ids, (n_rows,), generator=rng)


@settings(max_examples=15, deadline=None)
@given(
    n_rows=st.integers(1, 40),
    n_ids=st.integers(2, 30),
    rows_at_once=st.integers(1, 50),
    scale=st.sampled_from([1.0, 300.0]),  # the second one overflows an exponential that is not shifted
)
def test_loss_and_derivatives_are_those_of_all_logits(n_rows, n_ids, rows_at_once, scale):
    hidden, weight, targets = problem(n_rows, n_ids, scale=scale)
    expected = F.cross_entropy(hidden @ weight.T, targets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_entropy, "CHUNK_BYTES", rows_at_once * n_ids * 8)
        loss = linear_cross_entropy(hidden, weight, targets)
        with torch.no_grad():
            torch.testing.assert_close(linear_cross_entropy(hidden, weight, targets), expected)
    torch.testing.assert_close(loss, expected)
    got = torch.autograd.grad(2.5 * loss, (hidden, weight))
    for ours, theirs in zip(got, torch.autograd.grad(2.5 * expected, (hidden, weight)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_first_and_second_derivatives_are_finite_differences():
    hidden, weight, targets = problem(4, 7)
    assert torch.autograd.gradcheck(lambda h, w: linear_cross_entropy(h, w, targets), (hidden, weight))
    assert torch.autograd.gradgradcheck(lambda h, w: linear_cross_entropy(h, w, targets), (hidden, weight))


def test_what_is_frozen_gets_no_derivative():
    hidden, weight, targets = problem(4, 7)
    linear_cross_entropy(hidden.detach(), weight, targets).backward()
    assert weight.grad is not None
    assert hidden.grad is None


def test_torch_finds_no_fault_in_the_operator():
    torch.library.opcheck(cross_entropy._loss_and_derivatives, problem(5, 9))
    with torch.no_grad():
        torch.library.opcheck(cross_entropy._loss, problem(5, 9))


def test_where_pieces_are_taken():
    hidden, weight, _ = problem(2, 3, torch.float32)
    assert has_fast_chunks(hidden, weight)
    assert not has_fast_chunks(hidden.bfloat16(), weight.bfloat16())
    assert not has_fast_chunks(hidden.to("meta"), weight.to("meta"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not has_fast_chunks(hidden, weight)
