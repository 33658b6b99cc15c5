"""Adapting decoders: exact gradients by finite differences, steps by a plain optimizer, and nothing left behind."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_tasks import decoder, episode, language_episode
from torch.nn.attention import SDPBackend, sdpa_kernel

from xenoglot.adaptation import AdaptationConfig, ClassifierHeadConfig, Descent, MetaLearner, meta_learner
from xenoglot.adaptation.descent import twice_differentiable_attention
from xenoglot.adaptation.tasks import FeatureTask
from xenoglot.errors import DataError, OptionError
from xenoglot.rng import generator
from xenoglot.transformer import blocks

EXACT = ("exact", "checkpoint", "adjoint")
BY_STEPS = ("linear", "mlp", "generated")
CLOSED_FORM = ("ridge", "prototype")


def a_learner(model, kind="linear", head_options=None, **options):
    config = AdaptationConfig(**({"inner_steps": 2, "inner_lr": 0.05} | options))
    head = None if kind is None else ClassifierHeadConfig(kind=kind, **(head_options or {}))
    return MetaLearner(config, head, model).double()


def a_task(kind, seed=0):
    return language_episode(seed) if kind is None else episode(seed)


def loss_of(learner, model, task):
    return learner(model, task, generator(0, "test")).loss


def shared_weights(learner, model):
    named = itertools.chain(model.named_parameters(), learner.named_parameters(prefix="learner"))
    return dict(named)


def gradients_of(learner, model, task):
    """Return the meta-gradient by name; zeros where there is none."""
    weights = shared_weights(learner, model)
    found = torch.autograd.grad(loss_of(learner, model, task), list(weights.values()), allow_unused=True)
    pairs = zip(weights.items(), found, strict=True)
    return {name: torch.zeros_like(weight) if value is None else value for (name, weight), value in pairs}


def slope_along(learner, model, task, direction, size=2e-5):
    """Differentiate along a direction by a central difference of fourth order."""
    weights = shared_weights(learner, model)
    values = {}
    for factor in (-2, -1, 1, 2):
        with torch.no_grad():
            for name, weight in weights.items():
                weight.add_(direction[name], alpha=factor * size)
        values[factor] = loss_of(learner, model, task).item()
        with torch.no_grad():
            for name, weight in weights.items():
                weight.sub_(direction[name], alpha=factor * size)
    return (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * size)


def check_against_differences(learner, model, task):
    gradients = gradients_of(learner, model, task)
    rng = torch.Generator().manual_seed(0)
    for _ in range(2):
        direction = {name: torch.randn(value.shape, generator=rng).double() for name, value in gradients.items()}
        expected = slope_along(learner, model, task, direction)
        found = sum((gradients[name] * direction[name]).sum() for name in gradients).item()
        assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("adapts", ["head", "all", "all !head", "top-1", "head *.self_attn.*"])
@pytest.mark.parametrize("order", EXACT)
def test_the_meta_gradient_is_exact_whatever_adapts(order, adapts):
    model = decoder()
    options = {"learn_inner_lr": "per-layer-and-step", "inner_clip_norm": 0.5}
    check_against_differences(a_learner(model, adapts=adapts, order=order, **options), model, episode())


@pytest.mark.parametrize("kind", [*BY_STEPS, *CLOSED_FORM])
def test_the_meta_gradient_is_exact_with_every_head(kind):
    model = decoder()
    head_options = {"dropout": 0.3, "hidden_dim": 7, "num_layers": 1}
    check_against_differences(a_learner(model, kind, head_options, learn_inner_lr="per-step"), model, episode())


@pytest.mark.parametrize("kind", ["mlp", "generated"])
@pytest.mark.parametrize("rates", ["per-layer", "per-parameter"])
def test_the_meta_gradient_is_exact_with_heads_and_all_weights_together(kind, rates):
    model, head_options = decoder(), {"dropout": 0.3, "hidden_dim": 7, "num_layers": 1}
    learner = a_learner(model, kind, head_options, adapts="all", order="adjoint", learn_inner_lr=rates)
    check_against_differences(learner, model, episode())


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("order", EXACT)
def test_the_meta_gradient_is_exact_for_languages(order, tied):
    model = decoder(tie_word_embeddings=tied)
    learner = a_learner(model, None, adapts="all", order=order, learn_inner_lr="per-layer")
    check_against_differences(learner, model, language_episode())


@pytest.mark.parametrize("readout", ["final", "mask", "mask-bidirectional"])
def test_the_meta_gradient_is_exact_at_every_readout(readout):
    model = decoder()
    check_against_differences(a_learner(model, adapts="top-1", readout=readout), model, episode())


@settings(max_examples=6, deadline=None)
@given(
    kind=st.sampled_from([*BY_STEPS, None]),
    adapts=st.sampled_from(["head", "all", "top-1", "all !*.mlp.*"]),
    rates=st.sampled_from(["none", "per-layer", "per-parameter", "per-step", "per-layer-and-step"]),
    inner_steps=st.integers(1, 4),
    inner_clip_norm=st.sampled_from([None, 0.3]),
    seed=st.integers(0, 100),
)
def test_exact_checkpoint_and_adjoint_agree(kind, adapts, rates, inner_steps, inner_clip_norm, seed):
    model, task, found = decoder(), a_task(kind, seed), {}
    for order in EXACT:
        learner = a_learner(
            model,
            kind,
            adapts=adapts,
            order=order,
            learn_inner_lr=rates,
            inner_steps=inner_steps,
            inner_clip_norm=inner_clip_norm,
        )
        found[order] = gradients_of(learner, model, task)
    for order in ("checkpoint", "adjoint"):
        for name, gradient in found["exact"].items():
            assert torch.allclose(found[order][name], gradient, rtol=1e-10, atol=1e-12), name


def test_truncated_goes_from_first_to_exact():
    model, task = decoder(), episode()
    found = {
        n_exact: gradients_of(
            a_learner(model, adapts="all", inner_steps=3, order="truncated", truncated_steps=n_exact), model, task
        )
        for n_exact in (0, 1, 3)
    }
    first = gradients_of(a_learner(model, adapts="all", inner_steps=3, order="first"), model, task)
    exact = gradients_of(a_learner(model, adapts="all", inner_steps=3, order="exact"), model, task)
    for name in first:
        assert torch.allclose(found[0][name], first[name], atol=1e-14)
        assert torch.allclose(found[3][name], exact[name], atol=1e-14)
    assert any(not torch.allclose(found[1][name], exact[name], atol=1e-6) for name in first)
    assert any(not torch.allclose(found[1][name], first[name], atol=1e-6) for name in first)


def plain_loss(model, head_weights, examples):
    """The loss of a linear head on the final tokens, with none of the package's own reading."""
    hidden_NTD = model.model(examples.token_ids_NT)
    rows = [hidden_NTD[i, length - 1] for i, length in enumerate(examples.lengths_N.tolist())]
    logits_NC = torch.stack(rows) @ head_weights["weight"].T + head_weights["bias"]
    return F.cross_entropy(logits_NC, examples.labels_N)


def by_a_plain_optimizer(model, learner, task, n_steps, rate):
    """Adapt a copy of the decoder, and the head that the learner starts from, by torch's own SGD."""
    start = next(learner.adapt(model, task, generator(0, "test"), (0,))).weights
    head = {name: start[f"head.{name}_0"].clone().requires_grad_() for name in ("weight", "bias")}
    own = copy.deepcopy(model)
    optimizer = torch.optim.SGD([*own.model.parameters(), *head.values()], lr=rate)
    for _ in range(n_steps):
        optimizer.zero_grad()
        plain_loss(own, head, task.support).backward()
        optimizer.step()
    optimizer.zero_grad()
    loss = plain_loss(own, head, task.query)
    loss.backward()
    return own, loss.item()


@pytest.mark.parametrize("order", ["first", *EXACT])
def test_without_steps_it_is_the_plain_gradient(order):
    model, task = decoder(), episode()
    learner = a_learner(model, adapts="all", order=order, inner_steps=0)
    own, loss = by_a_plain_optimizer(model, learner, task, n_steps=0, rate=0.05)
    assert loss_of(learner, model, task).item() == pytest.approx(loss, abs=1e-14)
    gradients = gradients_of(learner, model, task)
    for name, weight in own.named_parameters():
        expected = torch.zeros_like(weight) if weight.grad is None else weight.grad
        assert torch.allclose(gradients[name], expected, rtol=1e-12, atol=1e-15), name


@pytest.mark.parametrize("order", ["first", "reptile", *EXACT])
def test_steps_are_those_of_a_plain_optimizer(order):
    model, task = decoder(), episode()
    learner = a_learner(model, adapts="all", order=order, inner_steps=3)
    own, loss = by_a_plain_optimizer(model, learner, task, n_steps=3, rate=0.05)
    result = learner(model, task, generator(0, "test"))
    assert result.loss.item() == pytest.approx(loss, abs=1e-12)
    assert result.metrics["query_loss_nats"].item() == pytest.approx(loss, abs=1e-12)
    last = list(learner.adapt(model, task, generator(0, "test"), (0, 3)))[-1]
    assert last.query_loss_nats == pytest.approx(loss, abs=1e-12)
    for name, weight in own.model.named_parameters():
        assert torch.allclose(last.weights[f"model.{name}"], weight, atol=1e-13)
    gradients = gradients_of(learner, model, task)
    before = dict(model.named_parameters())
    for name, weight in own.named_parameters():
        if (
            weight.grad is not None and order == "first"
        ):  # the gradient at the adapted weights: Finn et al., section 5.2
            assert torch.allclose(gradients[name], weight.grad, atol=1e-13), name
        if weight.grad is not None and order == "reptile":
            assert torch.allclose(gradients[name], before[name] - weight, atol=1e-13), name


def test_several_tasks_share_one_backward_pass():
    model = decoder()
    learner = a_learner(model, adapts="all", order="adjoint", learn_inner_lr="per-layer")
    single = [gradients_of(learner, model, episode(seed)) for seed in (0, 1)]
    sum(loss_of(learner, model, episode(seed)) / 2 for seed in (0, 1)).backward()
    for name, weight in shared_weights(learner, model).items():
        expected = (single[0][name] + single[1][name]) / 2
        assert torch.allclose(expected if weight.grad is None else weight.grad, expected, atol=1e-14), name


@pytest.mark.parametrize(
    ("order", "kind", "adapts"),
    [
        *itertools.product(["first", "truncated", *EXACT], ["mlp"], ["head", "all"]),
        *itertools.product(["first", "truncated", *EXACT], [None], ["all"]),
        *itertools.product(["reptile"], ["mlp", None], ["all"]),
        ("exact", "ridge", "head"),
    ],
)
def test_nothing_is_left_behind(order, kind, adapts):
    model, task = decoder(), a_task(kind)
    learner = a_learner(model, kind, {"dropout": 0.5}, order=order, adapts=adapts)
    state = {name: value.clone() for name, value in [*model.state_dict().items(), *learner.state_dict().items()]}
    for weight in shared_weights(learner, model).values():
        weight.grad = torch.full_like(weight, 0.25)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    result = learner(model, task, generator(0, "test"))
    list(learner.adapt(model, task, generator(0, "test"), (0, 2)))
    assert all((weight.grad == 0.25).all() for weight in shared_weights(learner, model).values())
    assert result.loss.shape == ()
    assert all(value.shape == () and not value.requires_grad for value in result.metrics.values())
    result.loss.backward()
    after = dict([*model.state_dict().items(), *learner.state_dict().items()])
    assert all(torch.equal(after[name], value) for name, value in state.items())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert torch.is_grad_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()


class Watched:
    """Notes each call of attention, and whether its fused kernels were allowed."""

    def __init__(self, monkeypatch):
        self.fast: list[bool] = []
        plain = F.scaled_dot_product_attention

        def attention(*tensors, **options):
            self.fast.append(torch.backends.cuda.flash_sdp_enabled())
            return plain(*tensors, **options)

        monkeypatch.setattr(blocks.F, "scaled_dot_product_attention", attention)


@pytest.mark.parametrize(("order", "n_encodings"), [("first", 2), ("exact", 1), ("checkpoint", 1), ("adjoint", 1)])
def test_with_the_head_alone_every_sentence_is_encoded_once_under_fast_attention(order, n_encodings, monkeypatch):
    model, watched = decoder(), Watched(monkeypatch)
    loss_of(a_learner(model, order=order, inner_steps=7), model, episode()).backward()
    assert watched.fast == [True] * 2 * n_encodings  # two layers; first order reads both sets apart


def test_attention_is_slow_exactly_where_it_is_differentiated_twice(monkeypatch):
    model, watched = decoder(), Watched(monkeypatch)
    loss_of(a_learner(model, adapts="all", order="exact", inner_steps=3), model, episode())
    assert watched.fast == [False] * 2 * 3 + [True] * 2 * 2  # three steps; query and support afterwards
    watched.fast.clear()
    loss = loss_of(a_learner(model, adapts="all", order="adjoint", inner_steps=3), model, episode())
    assert watched.fast == [True] * 2 * 5
    watched.fast.clear()
    loss.backward()
    assert watched.fast == [False] * 2 * 3
    watched.fast.clear()
    loss_of(a_learner(model, adapts="all", order="first", inner_steps=3), model, episode()).backward()
    assert all(watched.fast)


def test_the_exact_gradient_of_a_head_is_the_same_under_flash_attention_and_plain_products():
    model, task, found = decoder(), episode(), []
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH):
        with sdpa_kernel([backend]):
            found.append(gradients_of(a_learner(model, "mlp"), model, task))
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-12) for name in found[0])


def test_fused_attention_has_no_second_derivative_yet():
    """If this fails, torch has learned it, and `twice_differentiable_attention` can go."""
    q = torch.randn(1, 1, 4, 8, requires_grad=True)
    for context, works in (
        (sdpa_kernel([SDPBackend.FLASH_ATTENTION]), False),
        (twice_differentiable_attention(), True),
    ):
        with context:
            [slope] = torch.autograd.grad(
                F.scaled_dot_product_attention(q, q, q, is_causal=True).square().sum(), q, create_graph=True
            )
        if works:
            assert torch.autograd.grad(slope.sum(), q)[0].isfinite().all()
        else:
            with pytest.raises(RuntimeError, match="not implemented"):
                torch.autograd.grad(slope.sum(), q)


@pytest.mark.parametrize("kind", [*BY_STEPS, None])
def test_adapting_goes_past_the_training_depth_and_learns(kind):
    model, task = decoder(), a_task(kind, 2)
    learner = a_learner(model, kind, adapts="all", inner_steps=2, inner_lr=0.1)
    path = list(learner.adapt(model, task, generator(0, "test")))
    assert [point.n_steps for point in path] == [0, 1, 2, 5, 10, 20, 50]
    assert path[2].query_loss_nats == pytest.approx(loss_of(learner, model, task).item(), abs=1e-12)
    assert path[-1].support_loss_nats < path[2].support_loss_nats < path[0].support_loss_nats
    assert path[-1].support_accuracy > path[0].support_accuracy
    assert not any(weight.requires_grad for weight in path[-1].weights.values())


def test_a_head_in_closed_form_is_the_same_after_any_number_of_steps():
    model, task = decoder(), episode(n_way=3, k_shot=4)
    learner = a_learner(model, "ridge")
    path = list(learner.adapt(model, task, generator(0, "test"), (0, 5)))
    assert path[0].query_loss_nats == path[1].query_loss_nats
    assert path[0].query_loss_nats == pytest.approx(loss_of(learner, model, task).item(), abs=1e-12)


def test_what_is_reported_is_what_was_measured():
    model, task = decoder(), episode(1)
    metrics = a_learner(model, "mlp", inner_steps=5)(model, task, generator(0, "test")).metrics
    path = list(a_learner(model, "mlp", inner_steps=5).adapt(model, task, generator(0, "test"), (0, 5)))
    for ending, point in (("_before", path[0]), ("", path[1])):
        for name in ("support_loss_nats", "support_accuracy", "query_loss_nats", "query_accuracy"):
            assert metrics[name + ending].item() == pytest.approx(getattr(point, name), abs=1e-12)
    assert metrics["chance_accuracy"].item() == pytest.approx(1 / 3)
    assert metrics["inner_gradient_norm"].item() > 0


def test_without_its_support_set_a_task_cannot_be_solved():
    """Permuted support labels leave chance: nothing but the support set says which class is which."""
    model = decoder()
    learner = a_learner(model, "ridge")
    honest, permuted = [], []
    for seed in range(60):
        task = episode(seed, n_way=3, k_shot=4, q_query=4)
        rng = np.random.Generator(np.random.Philox(key=seed))
        shuffled = torch.from_numpy(rng.permutation(task.support.labels_N.numpy()))
        lied = copy.copy(task.support)
        object.__setattr__(lied, "labels_N", shuffled)
        other = copy.copy(task)
        object.__setattr__(other, "support", lied)
        for one, found in ((task, honest), (other, permuted)):
            found.append(learner(model, one, generator(0, "test")).metrics["query_accuracy"].item())
    assert np.mean(honest) > 0.8
    assert abs(np.mean(permuted) - 1 / 3) < 4 * np.std(permuted) / np.sqrt(60)


def test_dropout_is_another_at_each_step_and_the_same_when_a_step_is_computed_again():
    model, rng = decoder(), torch.Generator().manual_seed(1)
    features = {part: torch.randn(6, 8, generator=rng).double() for part in ("support", "query")}
    head = a_learner(model, "mlp", {"dropout": 0.5}).head
    task = FeatureTask.of_features(*features.values(), episode(), head=head, rng=generator(0))
    steps = [task.logits(task.weights, task.given, "support", step) for step in (0, 0, 1)]
    assert torch.equal(steps[0], steps[1])
    assert not torch.equal(steps[0], steps[2])
    other = FeatureTask.of_features(*features.values(), episode(), head=head, rng=generator(1))
    assert not torch.equal(steps[0], other.logits(task.weights, task.given, "support", 0))
    whole = task.logits(task.weights, task.given, "support")
    assert not torch.equal(steps[0], whole)
    assert torch.equal(task.judge(task.weights, "support")[0], F.cross_entropy(whole, task.targets("support")))


@pytest.mark.parametrize("order", EXACT)
def test_half_precision_is_the_same_going_back_as_going_there(order):
    seen = []

    def loss(weights, given, step):
        product = given["x"] @ weights["w"]
        seen.append(product.dtype)
        return product.square().mean()

    w, x = torch.ones(4, 4, requires_grad=True), torch.ones(2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found = Descent(loss=loss).run({"w": w}, {"x": x}, [{"w": torch.tensor(0.1)}] * 2, order=order)
    found.weights["w"].sum().backward()
    assert w.grad.dtype == torch.float32
    assert set(seen) == {torch.bfloat16}


def test_a_compiled_model_adapts_its_head_by_the_exact_gradient():
    task, plain, compiled = episode(), decoder(), decoder()
    compiled.model.compile(backend="aot_eager")
    gradients = [gradients_of(a_learner(model, "mlp"), model, task) for model in (plain, compiled)]
    assert all(torch.allclose(gradients[0][name], gradients[1][name], atol=1e-12) for name in gradients[0])


def test_what_cannot_be_done_is_refused_by_name(monkeypatch):
    model, task = decoder(), episode()
    learner = a_learner(model, adapts="all", order="adjoint")
    with pytest.raises(OptionError, match=r"decoder: got 'OptimizedModule'.*module\._orig_mod"):
        learner(torch.compile(model, backend="eager"), task, generator(0))
    with pytest.raises(OptionError, match="bare Decoder"):
        learner(torch.nn.Sequential(model), task, generator(0))
    model.compile(backend="eager")
    with pytest.raises(OptionError, match="adapts: got 'all'; allowed: head, where the decoder is compiled"):
        learner(model, task, generator(0))
    model = decoder()
    with monkeypatch.context() as patched:
        patched.setattr(meta_learner, "DTensor", torch.nn.Parameter)  # as if the weights were cut up
        with pytest.raises(OptionError, match="strategy: got 'fsdp'"):
            a_learner(model)
    with pytest.raises(DataError, match="language 0: got a language"):
        a_learner(model)(model, language_episode(), generator(0))
    with pytest.raises(DataError, match="synthetic task 0: got labelled sentences"):
        a_learner(model, None, adapts="all")(model, task, generator(0))
    for n_steps in ([], [-1, 2], [3, 3], [2, 1]):
        with pytest.raises(OptionError, match="n_steps"):
            next(a_learner(model).adapt(model, task, generator(0), n_steps))


@pytest.mark.parametrize(
    ("kind", "options", "complaint"),
    [
        ("ridge", {"adapts": "all"}, "adapts.*a ridge head solves for its weights at once"),
        ("linear", {"order": "reptile"}, "adapts.*more than the head"),
        ("generated", {"order": "reptile", "adapts": "all"}, "order.*generated"),
        ("linear", {"order": "reptile", "adapts": "all", "learn_inner_lr": "per-step"}, "learn_inner_lr.*reptile"),
        ("linear", {"adapts": "top-3"}, "adapts: got 'top-3'.*layers.0, layers.1"),
        ("linear", {"adapts": "!head"}, "Something must adapt"),
        ("linear", {"adapts": "*.self_atn.*"}, "No weight is called so"),
        ("linear", {"inner_lr": -0.1}, "inner_lr"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(kind, options, complaint):
    with pytest.raises(OptionError, match=complaint):
        a_learner(decoder(), kind, **options)
