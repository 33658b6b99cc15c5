"""Learning to adapt as an objective: the mean over tasks, with the gradient that differences of the loss have."""

from __future__ import annotations

import pytest
import torch
from test_objectives import shaken_decoder, tasks

from xenoglot.adaptation import AdaptationConfig, ClassifierHeadConfig, MetaLearner
from xenoglot.episodes.batches import EpisodeBatch
from xenoglot.objectives.meta import Meta
from xenoglot.rng import generator


def of_everything(kind: str) -> tuple[torch.nn.Module, MetaLearner]:
    """A decoder and what adapts it, in float64, with learned rates."""
    config = AdaptationConfig(adapts="all", inner_steps=2, inner_lr=0.2, learn_inner_lr="per-step")
    model = shaken_decoder().double()
    return model, MetaLearner(config, ClassifierHeadConfig(kind=kind, hidden_dim=8), shaken_decoder()).double()


@pytest.mark.parametrize("kind", ["linear", "generated"])
def test_the_gradient_is_that_of_the_mean_over_tasks(kind):
    model, learner = of_everything(kind)
    objective, batch = Meta(learner), tasks()
    weights = [*model.model.parameters(), *learner.parameters()]
    rng = torch.Generator().manual_seed(0)
    direction = [torch.randn(weight.shape, generator=rng, dtype=torch.float64) for weight in weights]

    def loss() -> torch.Tensor:
        return objective(model, batch, generator(0)).loss

    gradients = torch.autograd.grad(loss(), weights)
    expected = sum((gradient * way).sum().item() for gradient, way in zip(gradients, direction, strict=True))
    step, sides = 1e-5, []
    for sign in (1, -1):
        with torch.no_grad():
            for weight, way in zip(weights, direction, strict=True):
                weight += sign * step * way
        sides.append(loss().item())
        with torch.no_grad():
            for weight, way in zip(weights, direction, strict=True):
                weight -= sign * step * way
    assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(expected, rel=1e-6)


def test_a_batch_is_the_mean_of_its_tasks_wherever_each_of_them_is():
    model, learner = of_everything("linear")
    objective, batch = Meta(learner), tasks()
    whole = objective(model, batch, generator(0))
    alone = [
        objective(model, EpisodeBatch.of((task,), (seed,)), generator(number))
        for number, (task, seed) in enumerate(zip(batch.tasks, batch.seeds, strict=True))
    ]
    assert len({result.loss.item() for result in alone}) == 3
    assert whole.loss.item() == pytest.approx(sum(result.loss.item() for result in alone) / 3, abs=1e-12)
    for name, value in whole.metrics.items():
        assert value.item() == pytest.approx(sum(result.metrics[name].item() for result in alone) / 3, abs=1e-6)


def test_what_has_nothing_to_learn_keeps_nothing():
    _, learner = of_everything("linear")
    assert Meta(learner).learned is learner
    fixed = MetaLearner(AdaptationConfig(), ClassifierHeadConfig(kind="linear"), shaken_decoder())
    assert Meta(fixed).learned is None
