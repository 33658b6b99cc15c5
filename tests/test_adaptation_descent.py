"""The inner loop by itself: closed forms, finite differences, and sinusoids that MAML learns to learn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot.adaptation.descent import Descent
from xenoglot.errors import UnknownNameError

EXACT = ("exact", "checkpoint", "adjoint")


def bowl(weights, given, step):
    """Half of (w - c)^T A (w - c): its gradient steps are matrix powers."""
    away = weights["w"] - given["c"]
    return 0.5 * away @ given["A"] @ away


def a_bowl(seed: int, size: int, n_steps: int) -> dict[str, np.ndarray]:
    rng = np.random.Generator(np.random.Philox(key=seed))
    root = rng.normal(size=(size, size))
    return {
        "A": root @ root.T / size,
        "c": rng.normal(size=size),
        "w": rng.normal(size=size),
        "rate": rng.uniform(0.05, 0.3, size=(n_steps, size)),
        "outer": rng.normal(size=size),
    }


def run_bowl(values, order, truncated_steps=0, clip_norm=None):
    """Return w_K and the gradients of outer . w_K with respect to w, c, A and the rates."""
    leaves = {name: torch.tensor(value, requires_grad=True) for name, value in values.items()}
    found = Descent(loss=bowl, clip_norm=clip_norm).run(
        {"w": leaves["w"]},
        {"c": leaves["c"], "A": leaves["A"]},
        [{"w": rate} for rate in leaves["rate"]],
        order=order,
        truncated_steps=truncated_steps,
    )
    wanted = [leaves[name] for name in ("w", "c", "A", "rate")]
    gradients = torch.autograd.grad(found.weights["w"] @ leaves["outer"].detach(), wanted, allow_unused=True)
    gradients = [torch.zeros_like(w) if g is None else g for g, w in zip(gradients, wanted, strict=True)]
    return found, dict(zip(("w", "c", "A", "rate"), (gradient.numpy() for gradient in gradients), strict=True))


def closed_form(values, n_exact):
    """Go along the recursion of the bowl by matrices: w_k+1 - c = (I - diag(rate_k) A)(w_k - c)."""
    A, c, w, outer = (values[name] for name in ("A", "c", "w", "outer"))
    path = [w]
    for rate in values["rate"]:
        path.append(path[-1] - rate * (A @ (path[-1] - c)))
    n_steps, adjoint = len(values["rate"]), outer
    gradients = {"c": np.zeros_like(c), "A": np.zeros_like(A), "rate": np.zeros_like(values["rate"])}
    for step in reversed(range(n_steps)):
        away, pulled = path[step] - c, values["rate"][step] * adjoint
        gradients["rate"][step] = -adjoint * (A @ away)
        if step >= n_steps - n_exact:
            gradients["c"] += A.T @ pulled
            # A is not taken to be symmetric by autograd, so neither is it here: dL/dw = (A + A^T) away / 2
            gradients["A"] -= 0.5 * (np.outer(pulled, away) + np.outer(away, pulled))
            adjoint = adjoint - A.T @ pulled
    return path[-1], gradients | {"w": adjoint}


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 4), n_steps=st.integers(0, 5))
@pytest.mark.parametrize("order", ["first", *EXACT])
def test_a_bowl_has_its_closed_form(order, seed, size, n_steps):
    values = a_bowl(seed, size, n_steps)
    found, gradients = run_bowl(values, order)
    last, expected = closed_form(values, 0 if order == "first" else n_steps)
    assert found.weights["w"].detach().numpy() == pytest.approx(last, abs=1e-12)
    for step, norm in enumerate(found.gradient_norms_K.tolist()):
        before, _ = closed_form(values | {"rate": values["rate"][:step]}, 0)
        assert norm == pytest.approx(np.linalg.norm(values["A"] @ (before - values["c"])), rel=1e-10)
    for name, gradient in expected.items():
        assert gradients[name] == pytest.approx(gradient, rel=1e-10, abs=1e-12), name


@pytest.mark.parametrize("truncated_steps", [0, 1, 3, 4, 9])
def test_truncated_is_exact_in_its_last_steps(truncated_steps):
    values = a_bowl(3, 3, n_steps=4)
    found, gradients = run_bowl(values, "truncated", truncated_steps)
    last, expected = closed_form(values, min(truncated_steps, 4))
    assert found.weights["w"].detach().numpy() == pytest.approx(last, abs=1e-12)
    for name, gradient in expected.items():
        assert gradients[name] == pytest.approx(gradient, rel=1e-10, abs=1e-12), name


def test_an_unknown_order_is_no_other_one():
    with pytest.raises(UnknownNameError, match=r"unknown order 'exakt'\. Did you mean 'exact'"):
        run_bowl(a_bowl(0, 1, 1), "exakt")


@pytest.mark.parametrize("order", EXACT)
def test_clipping_is_differentiated_as_finite_differences_say(order):
    values = a_bowl(5, 3, n_steps=3)
    norms = run_bowl(values, order)[0].gradient_norms_K
    clip_norm = float(norms[1:].max() + norms[0]) / 2  # the first step is clipped; the others are not
    assert norms[0] > clip_norm > norms[1:].max()
    found, gradients = run_bowl(values, order, clip_norm=clip_norm)
    assert found.gradient_norms_K[0] == norms[0]
    for name in ("w", "c", "rate"):
        for place in np.ndindex(values[name].shape):
            ends = []
            for sign in (1, -1):
                shifted = {key: value.copy() for key, value in values.items()}
                shifted[name][place] += sign * 1e-5
                last = run_bowl(shifted, "first", clip_norm=clip_norm)[0].weights["w"].detach().numpy()
                ends.append(last @ values["outer"])
            assert gradients[name][place] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-8)


def test_a_gradient_of_zero_is_clipped_without_nan():
    values = a_bowl(5, 2, n_steps=2) | {"w": np.ones(2), "c": np.ones(2)}
    _, gradients = run_bowl(values, "exact", clip_norm=0.1)
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


@pytest.mark.parametrize("order", ["first", *EXACT])
def test_a_start_without_graph_is_a_constant(order):
    w, c = torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64, requires_grad=True)
    found = Descent(loss=bowl).run(
        {"w": w}, {"c": c, "A": torch.eye(2, dtype=torch.float64)}, [{"w": torch.tensor(0.5)}] * 2, order=order
    )
    assert not w.requires_grad
    if order == "first":
        assert not found.weights["w"].requires_grad
    else:
        [gradient] = torch.autograd.grad(found.weights["w"].sum(), c)
        assert gradient.tolist() == [0.75, 0.75]  # w_2 = w_0 / 4 + 3 c / 4


def test_walking_goes_the_same_way_and_leaves_the_gradient_mode_alone():
    values = a_bowl(8, 3, n_steps=4)
    rates = [{"w": rate} for rate in torch.tensor(values["rate"])]
    tensors = {name: torch.tensor(values[name], requires_grad=True) for name in ("w", "A", "c")}
    given_too = {"A": tensors["A"], "c": tensors["c"]}
    with torch.no_grad():
        walked = []
        for weights in Descent(loss=bowl).walk({"w": tensors["w"]}, given_too, rates):
            assert not torch.is_grad_enabled()
            walked.append(weights["w"])
    assert len(walked) == 5
    assert not any(weight.requires_grad for weight in walked)
    for n_steps, weight in enumerate(walked):
        assert weight.numpy() == pytest.approx(
            closed_form(values | {"rate": values["rate"][:n_steps]}, 0)[0], abs=1e-12
        )


class Sinusoids:
    """The regression tasks of Finn et al. 2017, section 5.1: amplitude 0.1 to 5, phase 0 to pi, x from -5 to 5."""

    sizes = (1, 40, 40, 1)

    def __init__(self, seed: int) -> None:
        self.rng = torch.Generator().manual_seed(seed)

    def tasks(self, n_tasks: int, n_points: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        uniform = torch.rand(2, n_tasks, 1, 1, generator=self.rng)
        amplitude, phase = 0.1 + 4.9 * uniform[0], math.pi * uniform[1]
        x = 10 * torch.rand(2, n_tasks, n_points, 1, generator=self.rng) - 5
        y = amplitude * torch.sin(x - phase)
        return x[0], y[0], x[1], y[1]

    def start(self) -> dict[str, torch.Tensor]:
        weights = {}
        for layer, (n_inputs, n_outputs) in enumerate(itertools.pairwise(self.sizes)):
            drawn = torch.randn(n_inputs, n_outputs, generator=self.rng) / math.sqrt(n_inputs)
            weights[f"w{layer}"] = drawn.requires_grad_()
            weights[f"b{layer}"] = torch.zeros(1, n_outputs, requires_grad=True)
        return weights


def predicted(weights, x):
    """All tasks at once: weights [tasks, n_inputs, n_outputs], x [tasks, points, 1]."""
    for layer in range(3):
        x = x @ weights[f"w{layer}"] + weights[f"b{layer}"]
        x = torch.relu(x) if layer < 2 else x
    return x


def adapted(shared, x, y, *, rate, order):
    """One gradient step of every task from weights that all of them share."""
    own = {name: weight.expand(len(x), *weight.shape) for name, weight in shared.items()}
    # a sum over tasks: each task's weights have the gradient of its own loss
    descent = Descent(loss=lambda weights, given, step: (predicted(weights, x) - y).square().mean(dim=1).sum())
    return descent.run(own, {}, [{name: torch.tensor(rate) for name in own}], order=order).weights


def learned(way: str, n_iterations: int) -> dict[str, torch.Tensor]:
    sinusoids = Sinusoids(seed=0)
    shared = sinusoids.start()
    optimizer = torch.optim.Adam(shared.values(), lr=3e-3)
    for _ in range(n_iterations):
        x, y, query_x, query_y = sinusoids.tasks(25, 10)
        weights = shared if way == "jointly" else adapted(shared, x, y, rate=0.01, order="exact")
        loss = (predicted(weights, query_x) - query_y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return shared


def test_maml_adapts_to_a_sinusoid_in_one_step_where_a_jointly_trained_network_cannot():
    x, y, query_x, query_y = Sinusoids(seed=1).tasks(400, 10)

    def after_one_step(shared, rate):
        weights = adapted(shared, x, y, rate=rate, order="first")
        return (predicted(weights, query_x) - query_y).square().mean().item()

    meta, joint = learned("maml", 1200), learned("jointly", 1200)
    joint_at_best = min(after_one_step(joint, rate) for rate in (0.0, 0.001, 0.003, 0.01, 0.03, 0.1))
    assert after_one_step(meta, 0.01) < 0.4 * joint_at_best
    assert after_one_step(meta, 0.01) < 0.3 * after_one_step(meta, 0.0)
