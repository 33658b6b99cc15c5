r"""Gradient descent that can be differentiated: one inner loop, and the ways in which an outer gradient flows back.

A step is a function of what adapts, w, what is given beside it, v, and the rates, alpha:

.. math::
    w_{k+1} = w_k - \alpha_k\, g_k, \qquad g_k = c_k \nabla_w L(w_k, v), \qquad
    c_k = \min(1, \mathrm{clip} / \lVert \nabla_w L \rVert)

With lambda_K the gradient of the outer loss with respect to w_K, the outer gradient goes back through every step:

.. math::
    \lambda_k = \lambda_{k+1} - \left(\frac{\partial g_k}{\partial w_k}\right)^\top (\alpha_k \lambda_{k+1})

================  ===================================================  ====================================
order             what flows back                                      memory, beside the weights
================  ===================================================  ====================================
``first``         lambda_k = lambda_{k+1}                              one step's
``exact``         all of it, through one graph of all K steps          K steps'
``checkpoint``    the same; every step is computed again when needed   one step's, and K sets of weights
``adjoint``       the same, by the recursion itself                    one step's, and K sets of weights
``truncated``     all of it in the last steps, ``first`` before them   the last steps'
================  ===================================================  ====================================

Nothing is changed in place, and no ``.grad`` is touched. The fused kernels of attention have no second derivative, so
a step that will be differentiated runs attention as plain matrix products; everything else keeps the fast ones.

Sources: Finn et al. 2017, arXiv 1703.03400 (exact, first); Shaban et al. 2019, arXiv 1810.10667 (truncated);
the adjoint is reverse-mode differentiation with stored states, as in Maclaurin et al. 2015, arXiv 1502.03492. Where we
differ from other libraries: clipping is differentiated too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from xenoglot.errors import UnknownNameError
from xenoglot.heads import Weights

__all__ = ["Descended", "Descent", "twice_differentiable_attention"]

ORDERS = ("first", "exact", "checkpoint", "adjoint", "truncated")

Loss = Callable[[Weights, Weights, int], Tensor]
"""A scalar as a function of what adapts, what is given, and the number of the step."""


def twice_differentiable_attention() -> AbstractContextManager[None]:
    """Compute attention as matrix products within the context: its fused kernels have no second derivative."""
    context: AbstractContextManager[None] = sdpa_kernel([SDPBackend.MATH])
    return context


@dataclass(frozen=True, kw_only=True)
class Descended:
    """Where gradient steps led.

    Attributes:
        weights: After the last step; what flows back from them is the descent's order.
        gradient_norms_K: Of each step, before clipping; without graph.
    """

    weights: Weights
    gradient_norms_K: Tensor


@dataclass(frozen=True, kw_only=True)
class Descent:
    """An inner loop.

    Args:
        loss: What the steps minimise; the same value and gradient whenever it is called with the same arguments.
        clip_norm: The greatest norm of a step's gradient; no limit if None.

    Example:
        A parabola's steps have a closed form: w_2 = (1 - alpha)^2 w_0, so dw_2 / dw_0 = 0.25 where alpha is 0.5.

        >>> parabola = Descent(loss=lambda weights, given, step: 0.5 * weights["w"] ** 2)
        >>> for order in ("first", "exact", "checkpoint", "adjoint"):
        ...     w = torch.tensor(4.0, requires_grad=True)
        ...     last = parabola.run({"w": w}, {}, [{"w": torch.tensor(0.5)}] * 2, order=order).weights["w"]
        ...     print(order, last.item(), torch.autograd.grad(last, w)[0].item())
        first 1.0 1.0
        exact 1.0 0.25
        checkpoint 1.0 0.25
        adjoint 1.0 0.25
    """

    loss: Loss
    clip_norm: float | None = None

    def run(
        self, weights: Weights, given: Weights, rates: Sequence[Weights], *, order: str, truncated_steps: int = 0
    ) -> Descended:
        """Take a step for each entry of ``rates``.

        Args:
            weights: What adapts, by name, with the graph of what it was made of.
            given: What else the loss depends on, by name; the outer gradient flows back to it too.
            rates: Of each step, under the names of the weights.
            order: One of the table's.
            truncated_steps: How many of the last steps are exact where ``order`` is "truncated".

        Raises:
            UnknownNameError: If there is no such order.
        """
        if order not in ORDERS:
            raise UnknownNameError("order", order, ORDERS)
        n_first = {"first": len(rates), "truncated": max(0, len(rates) - truncated_steps)}.get(order, 0)
        with torch.enable_grad():
            weights, early_norms = _each(self.constant_step, weights, given, rates[:n_first])
            if order == "adjoint" and rates:
                weights, late_norms = self._adjoint(weights, given, rates)
            else:
                take = functools.partial(_CHECKPOINT, self.step) if order == "checkpoint" else self.step
                weights, late_norms = _each(take, weights, given, rates[n_first:], n_first)
        norms = [*early_norms, *late_norms]
        return Descended(weights=weights, gradient_norms_K=torch.stack(norms) if norms else torch.zeros(0))

    def walk(self, weights: Weights, given: Weights, rates: Iterable[Weights]) -> Iterator[Weights]:
        """Yield the weights before the first step and after each, all without graph."""
        weights = _detached(weights)
        yield weights
        for step, rate in enumerate(rates):
            with torch.enable_grad():
                weights, _ = self.constant_step(weights, given, _detached(rate), step)
            yield weights

    def step(self, weights: Weights, given: Weights, rates: Weights, step: int) -> tuple[Weights, Tensor]:
        """Return the weights after one step with its whole graph, and the gradient's norm before clipping."""
        # A view of each, as one may be made of another: a generated head of the weights that it adapts beside.
        starts = {name: w.view_as(w) if w.requires_grad else _leaf(w) for name, w in weights.items()}
        with twice_differentiable_attention():
            loss = self.loss(starts, given, step)
        return self._moved(starts, rates, _gradients(loss, starts, create_graph=True))

    def constant_step(self, weights: Weights, given: Weights, rates: Weights, step: int) -> tuple[Weights, Tensor]:
        """Return the same as if the gradient were a constant: it is added to the weights, whose graph goes on."""
        starts = {name: _leaf(weight) for name, weight in weights.items()}
        loss = self.loss(starts, _detached(given), step)
        return self._moved(weights, rates, _gradients(loss, starts, create_graph=False))

    def _moved(self, weights: Weights, rates: Weights, gradients: Weights) -> tuple[Weights, Tensor]:
        square = torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum()
        if self.clip_norm is not None:
            # 1 below the limit, without a root of zero that could not be differentiated
            share = self.clip_norm / square.clamp(min=self.clip_norm**2).sqrt()
            gradients = {name: gradient * share for name, gradient in gradients.items()}
        moved = {name: weight - rates[name] * gradients[name] for name, weight in weights.items()}
        return moved, square.detach().sqrt()

    def _adjoint(self, weights: Weights, given: Weights, rates: Sequence[Weights]) -> tuple[Weights, list[Tensor]]:
        problem = _Problem(descent=self, weights=tuple(weights), given=tuple(given), n_steps=len(rates))
        tensors = problem.flatten(weights, given, rates)
        *last, norms_K = _Adjoint.apply(problem, *tensors)  # type: ignore[no-untyped-call]
        return dict(zip(weights, last, strict=True)), list(norms_K)


_CHECKPOINT = functools.partial(checkpoint, use_reentrant=False, preserve_rng_state=False)  # nothing is drawn globally


def _each(
    take: Callable[[Weights, Weights, Weights, int], tuple[Weights, Tensor]],
    weights: Weights,
    given: Weights,
    rates: Sequence[Weights],
    first_step: int = 0,
) -> tuple[Weights, list[Tensor]]:
    norms = []
    for step, rate in enumerate(rates, start=first_step):
        weights, norm = take(weights, given, rate, step)
        norms.append(norm)
    return weights, norms


def _gradients(loss: Tensor, weights: Weights, *, create_graph: bool) -> Weights:
    gradients = torch.autograd.grad(
        loss, list(weights.values()), create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
    return dict(zip(weights, gradients, strict=True))


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()


def _detached(tensors: Weights) -> Weights:
    return {name: tensor.detach() for name, tensor in tensors.items()}


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """What autograd's flat list of tensors means: the weights, what is given, then the rates of every step."""

    descent: Descent
    weights: tuple[str, ...]
    given: tuple[str, ...]
    n_steps: int

    def flatten(self, weights: Weights, given: Weights, rates: Sequence[Weights]) -> list[Tensor]:
        return [*weights.values(), *given.values(), *(rate[name] for rate in rates for name in self.weights)]

    def unflatten(self, tensors: Iterable[Tensor]) -> tuple[Weights, Weights, list[Weights]]:
        rest = iter(tensors)
        weights = {name: next(rest) for name in self.weights}
        given = {name: next(rest) for name in self.given}
        return weights, given, [{name: next(rest) for name in self.weights} for _ in range(self.n_steps)]


class _Adjoint(torch.autograd.Function):
    """All steps as one operation that keeps the weights between them, and goes back by the recursion."""

    @staticmethod
    def forward(ctx: Any, problem: _Problem, *tensors: Tensor) -> tuple[Tensor, ...]:
        weights, given, rates = problem.unflatten(tensors)
        between: list[Tensor] = []
        norms: list[Tensor] = []
        for step, rate in enumerate(rates):
            between += weights.values()
            with torch.enable_grad():
                weights, norm = problem.descent.constant_step(weights, given, rate, step)
            weights = _detached(weights)
            norms.append(norm)
        ctx.problem = problem
        ctx.autocast = _autocast_as_now(tensors[0].device.type)
        ctx.save_for_backward(*tensors, *between)
        norms_K = torch.stack(norms)
        ctx.mark_non_differentiable(norms_K)
        return *weights.values(), norms_K

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        problem: _Problem = ctx.problem
        n_weights, needed = len(problem.weights), ctx.needs_input_grad[1:]
        tensors, between = ctx.saved_tensors[: len(needed)], ctx.saved_tensors[len(needed) :]
        inputs = [tensor.detach().requires_grad_(is_needed) for tensor, is_needed in zip(tensors, needed, strict=True)]
        _, given, rates = problem.unflatten(inputs)
        adjoint = gradients[:n_weights]
        for step in reversed(range(problem.n_steps)):
            weights = between[step * n_weights : (step + 1) * n_weights]
            starts = {name: _leaf(weight) for name, weight in zip(problem.weights, weights, strict=True)}
            others = [tensor for tensor in (*given.values(), *rates[step].values()) if tensor.requires_grad]
            with torch.enable_grad(), ctx.autocast():
                moved, _ = problem.descent.step(starts, given, rates[step], step)
            # All of these are detached copies of our own, so their `.grad` may gather what flows into them.
            torch.autograd.backward(tuple(moved.values()), adjoint, inputs=[*starts.values(), *others])
            adjoint = tuple(cast(Tensor, start.grad) for start in starts.values())
        return None, *adjoint, *(tensor.grad for tensor in inputs[n_weights:])


def _autocast_as_now(device_type: str) -> Callable[[], AbstractContextManager[Any]]:
    """Remember the precision of the forward pass, for what is computed again in the backward pass."""
    is_enabled, dtype = torch.is_autocast_enabled(device_type), torch.get_autocast_dtype(device_type)
    return lambda: torch.autocast(device_type, dtype=dtype, enabled=is_enabled)
