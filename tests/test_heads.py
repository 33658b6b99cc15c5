"""One contract for every head, and each against something that shares no code with it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_tasks import decoder, episode
from torch import nn

from xenoglot import heads
from xenoglot.adaptation import AdaptationConfig, ClassifierHeadConfig, MetaLearner
from xenoglot.errors import OptionError, UnknownNameError
from xenoglot.heads.base import Head, new_matrix
from xenoglot.rng import generator

WIDTH = 6
N_WAY = 3


def a_head(name: str, **options: object) -> Head:
    config = ClassifierHeadConfig(kind=name, **options)
    return heads.get(name)(config, WIDTH, torch.Generator().manual_seed(3)).double()


def a_task(seed: int = 0, n_shot: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    labels_N = torch.arange(n_shot * N_WAY) % N_WAY
    support_ND = torch.randn(len(labels_N), WIDTH, generator=rng, dtype=torch.float64)
    return support_ND, labels_N, torch.randn(5, WIDTH, generator=rng, dtype=torch.float64)


def logits_of(head: Head, seed: int = 0, labels_N: torch.Tensor | None = None) -> torch.Tensor:
    support_ND, own_labels_N, query_ND = a_task(seed)
    labels_N = own_labels_N if labels_N is None else labels_N
    return head.logits(head.start(support_ND, labels_N, N_WAY, torch.Generator().manual_seed(1)), query_ND)


def test_the_five_heads_are_found_by_name():
    assert heads.names() == ("generated", "linear", "mlp", "prototype", "ridge")
    with pytest.raises(UnknownNameError, match="Did you mean 'ridge'"):
        heads.get("rigde")


class Constant(Head):
    """A head of somebody's own: it says the same about everything, and learns how often each class is right."""

    name = "constant"
    reads_support = False

    def start(self, features_ND, labels_N, n_way, rng):
        return {"logits": torch.arange(n_way).to(features_ND)}

    def logits(self, weights, features_ND, dropout=None):
        return weights["logits"].expand(len(features_ND), -1)


def test_a_head_of_one_s_own_is_named_by_its_path_and_adapts():
    model = decoder()
    config = AdaptationConfig(adapts="head", inner_steps=3, inner_lr=1.0)
    learner = MetaLearner(config, ClassifierHeadConfig(kind=f"{__name__}:Constant"), model).double()
    start, end = learner.adapt(model, episode(n_way=2), generator(0), (0, 20))
    assert start.query_loss_nats == pytest.approx(math.log(1 + math.e) - 0.5)
    assert end.query_loss_nats == pytest.approx(math.log(2), abs=1e-3)  # both classes are as frequent


@pytest.mark.parametrize("name", heads.names())
def test_every_head_keeps_the_contract(name):
    torch_state, head = torch.get_rng_state(), a_head(name)
    logits_QC = logits_of(head)
    assert logits_QC.shape == (5, N_WAY)
    assert logits_QC.dtype == torch.float64
    assert torch.equal(logits_QC, logits_of(head))  # a function of what it is given
    assert torch.equal(logits_QC, logits_of(a_head(name)))
    assert torch.equal(torch.get_rng_state(), torch_state)
    relabelled = logits_of(head, labels_N=(a_task()[1] + 1) % N_WAY)
    assert torch.equal(relabelled, logits_QC) != head.reads_support
    single = a_head(name).float()
    support_ND, labels_N, query_ND = a_task()
    weights = single.start(support_ND.float(), labels_N, N_WAY, torch.Generator().manual_seed(1))
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert torch.allclose(single.logits(weights, query_ND.float()).double(), logits_QC, atol=1e-4)


@pytest.mark.parametrize("name", ["generated", "prototype", "ridge"])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), permutation=st.permutations(range(N_WAY)))
def test_what_reads_the_support_set_does_not_care_what_classes_are_called(name, seed, permutation):
    names = torch.tensor(permutation)
    plain, renamed = logits_of(a_head(name), seed), logits_of(a_head(name), seed, names[a_task(seed)[1]])
    assert torch.allclose(renamed[:, names], plain, atol=1e-10)


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_a_drawn_head_is_another_for_another_generator(name):
    head, (support_ND, labels_N, query_ND) = a_head(name), a_task()
    drawn = [head.start(support_ND, labels_N, N_WAY, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    logits = [head.logits(weights, query_ND) for weights in drawn]
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])


def test_ridge_is_the_least_squares_solution_with_a_free_intercept():
    head, (support_ND, labels_N, query_ND) = a_head("ridge"), a_task(4, n_shot=2)
    with torch.no_grad():
        head.log_penalty.fill_(math.log(0.3))
        head.log_scale.fill_(math.log(2.5))
    found = head.logits(head.start(support_ND, labels_N, N_WAY, torch.Generator()), query_ND).detach().numpy()
    # the same as ordinary least squares with one row more for each weight, which pulls it to zero
    n_examples, penalty = len(labels_N), 0.3 * WIDTH
    rows = np.zeros((n_examples + WIDTH, WIDTH + 1))
    rows[:n_examples, :WIDTH], rows[:n_examples, WIDTH] = support_ND.numpy(), 1.0
    rows[n_examples:, :WIDTH] = math.sqrt(penalty) * np.eye(WIDTH)
    targets = np.zeros((n_examples + WIDTH, N_WAY))
    targets[np.arange(n_examples), labels_N.numpy()] = 1.0
    solution = np.linalg.lstsq(rows, targets, rcond=None)[0]
    assert found == pytest.approx(2.5 * (query_ND.numpy() @ solution[:WIDTH] + solution[WIDTH]), abs=1e-10)


def test_prototype_is_the_distance_to_each_class_mean():
    head, (support_ND, labels_N, query_ND) = a_head("prototype"), a_task(2)
    with torch.no_grad():
        head.log_scale.fill_(math.log(WIDTH))  # as in the paper
    found = logits_of(head, 2)
    for i, row in enumerate(query_ND.tolist()):
        for c in range(N_WAY):
            members = support_ND[labels_N == c].tolist()
            mean = [sum(column) / len(members) for column in zip(*members, strict=True)]
            distance = sum((x - m) ** 2 for x, m in zip(row, mean, strict=True))
            assert found[i, c].item() == pytest.approx(-distance, abs=1e-10)


def test_generated_is_the_mean_of_what_the_network_writes():
    head, (support_ND, labels_N, query_ND) = a_head("generated", num_layers=2, hidden_dim=4), a_task(2)
    twin = nn.Sequential(nn.Linear(WIDTH, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, WIDTH + 1)).double()
    twin.load_state_dict(
        {f"{2 * layer}.{kind}": head.generator[f"{kind}_{layer}"] for layer in range(3) for kind in ("weight", "bias")}
    )
    found = logits_of(head, 2)
    for c in range(N_WAY):
        written = twin(support_ND[labels_N == c]).mean(dim=0)
        assert torch.allclose(found[:, c], query_ND @ written[:WIDTH] + written[WIDTH], atol=1e-12)


def test_mlp_has_the_layers_and_widths_that_were_asked_for():
    head, (support_ND, labels_N, query_ND) = a_head("mlp", num_layers=2, hidden_dim=5), a_task()
    weights = head.start(support_ND, labels_N, N_WAY, torch.Generator().manual_seed(1))
    twin = nn.Sequential(nn.Linear(WIDTH, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, N_WAY)).double()
    twin.load_state_dict(
        {f"{2 * layer}.{kind}": weights[f"{kind}_{layer}"] for layer in range(3) for kind in ("weight", "bias")}
    )
    assert torch.allclose(head.logits(weights, query_ND), twin(query_ND), atol=1e-12)


def test_dropout_leaves_out_its_share_and_keeps_the_mean():
    head = a_head("mlp", num_layers=1, hidden_dim=4000, dropout=0.25)
    x_ND = torch.ones(1, WIDTH, dtype=torch.float64)
    weights = {
        "weight_0": torch.ones(4000, WIDTH, dtype=torch.float64) / WIDTH,
        "bias_0": torch.zeros(4000, dtype=torch.float64),
        "weight_1": torch.ones(1, 4000, dtype=torch.float64) / 4000,
        "bias_1": torch.zeros(1, dtype=torch.float64),
    }
    assert head.logits(weights, x_ND).item() == pytest.approx(1.0)
    thinned = [head.logits(weights, x_ND, torch.Generator().manual_seed(seed)).item() for seed in (0, 0, 1)]
    n_kept = thinned[0] * 4000 * 0.75  # each that is kept counts 1 / 0.75 of 4000
    assert n_kept == pytest.approx(round(n_kept))
    assert abs(n_kept - 3000) < 4 * math.sqrt(4000 * 0.25 * 0.75)
    assert thinned[0] == thinned[1] != thinned[2]


@pytest.mark.parametrize(
    ("method", "deviation"), [("xavier", math.sqrt(2 / 500)), ("kaiming", math.sqrt(2 / 300)), ("normal", 0.02)]
)
def test_matrices_are_drawn_as_their_sources_say(method, deviation):
    matrix = new_matrix(200, 300, method, torch.Generator().manual_seed(0), like=torch.zeros(()))
    n_standard_errors = 4 / math.sqrt(2 * matrix.numel())  # of a normal's deviation; a uniform's is known better
    assert abs(matrix.std().item() / deviation - 1) < n_standard_errors
    assert abs(matrix.mean().item()) < 4 * deviation / math.sqrt(matrix.numel())
    assert (matrix.abs().max().item() <= math.sqrt(3) * deviation + 1e-7) == (method == "xavier")  # only one is uniform


@pytest.mark.parametrize("name", ["generated", "linear", "mlp"])
def test_zero_starts_with_a_uniform_guess_and_still_learns(name):
    head, (support_ND, labels_N, query_ND) = a_head(name, init_method="zero"), a_task()
    weights = head.start(support_ND, labels_N, N_WAY, torch.Generator())
    weights = {key: weight.detach().requires_grad_() for key, weight in weights.items()}
    logits_QC = head.logits(weights, query_ND)
    assert (logits_QC == 0).all()
    gradients = torch.autograd.grad(nn.functional.cross_entropy(logits_QC, labels_N[:5]), list(weights.values()))
    assert any(gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize(
    "options", [{"num_layers": -1}, {"hidden_dim": 0}, {"dropout": 1.0}, {"init_method": "orthogonal"}]
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        ClassifierHeadConfig(**options)
