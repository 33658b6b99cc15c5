"""Learning dynamics against transformers' Llama, against the update itself, and against bad input."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from xenoglot.batches import TokenBatch
from xenoglot.config import LearningDynamicsConfig, ModelConfig, RunConfig, TrainingConfig, default_config, resolve
from xenoglot.decoder import Decoder
from xenoglot.dynamics import Recorder, dynamics_of
from xenoglot.dynamics_rows import rows_of_corpus, rows_of_held_out, rows_of_languages
from xenoglot.errors import DataError, OptionError
from xenoglot.language_batches import LanguageBatches
from xenoglot.language_rows import LanguageRows
from xenoglot.languages import MetaLMv1
from xenoglot.layer_names import layer_names, matching_layers, pico_name
from xenoglot.objectives.autoregressive import Autoregressive
from xenoglot.text import ByteText

V, T, B = 30, 12, 6
FAMILY = MetaLMv1(vocab_size=8, n_elements=2, element_length=4, separator=True)
PICO_SUFFIXES = ["attention.v_proj", "attention.o_proj", "swiglu.w_2"]


def model_config(**changes: Any) -> ModelConfig:
    sizes = {"d_model": 24, "n_layers": 2, "attention_n_heads": 6, "attention_n_kv_heads": 2}
    return ModelConfig(**{**sizes, "activation_hidden_dim": 40, "max_seq_len": T, "vocab_size": V, **changes})


def trained(config: ModelConfig) -> Decoder:
    """Return a model whose output matrix is not zero any more, so that every gradient is something."""
    model = Decoder(config)
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=rng)
    return model


def random_rows(n_rows: int = B, length: int = T) -> TokenBatch:
    ids_BT = torch.randint(V, (n_rows, length + 1), generator=torch.Generator().manual_seed(1))
    return TokenBatch(inputs_BT=ids_BT[:, :-1], targets_BT=ids_BT[:, 1:])


def llama_s(model: Decoder, batch: TokenBatch) -> tuple[float, dict[str, Tensor], dict[str, Tensor]]:
    """Return the loss, outputs and gradients of every layer as transformers and autograd give them."""
    config = model.config
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=V,
            hidden_size=config.d_model,
            num_hidden_layers=config.n_layers,
            num_attention_heads=config.attention_n_heads,
            num_key_value_heads=config.attention_n_kv_heads,
            intermediate_size=config.activation_hidden_dim,
            max_position_embeddings=config.max_seq_len,
            rms_norm_eps=config.norm_eps,
            rope_theta=config.position_emb_theta,
            tie_word_embeddings=config.tie_word_embeddings,
        )
    )
    llama.load_state_dict(model.state_dict())
    outputs: dict[str, Tensor] = {}
    for name, module in llama.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            module.register_forward_hook(
                lambda _, inputs, output, name=name: outputs.__setitem__(name, output.detach())
            )
    logits_BTV = llama(batch.inputs_BT).logits.double()
    log_probs_BTV = logits_BTV - logits_BTV.logsumexp(-1, keepdim=True)
    loss = -log_probs_BTV.gather(2, batch.targets_BT[..., None]).sum() / batch.targets_BT.numel()
    loss.backward()
    parameters = dict(llama.named_parameters())
    gradients = {name: parameters[f"{name}.weight"].grad for name in outputs if f"{name}.weight" in parameters}
    return loss.item(), outputs, gradients


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True}, {"attention_n_kv_heads": 6}])
@pytest.mark.parametrize("rows_at_once", [1, 4, B])
def test_every_layer_s_outputs_and_gradients_are_transformers(changes: dict[str, Any], rows_at_once: int) -> None:
    model, batch = trained(model_config(**changes)), random_rows()
    layers = layer_names(model)
    if changes.get("tie_word_embeddings"):
        layers.remove("lm_head")  # its weight is the embedding's, under which name transformers has it
    loss, outputs, gradients = llama_s(model, batch)
    taken = dynamics_of(model, layers, batch, sequence_idx=None, rows_at_once=rows_at_once)
    assert taken.loss_nats == pytest.approx(loss, abs=1e-6)
    assert list(taken.activations) == list(taken.gradients) == layers
    for layer in layers:
        torch.testing.assert_close(taken.activations[layer], outputs[layer], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(taken.gradients[layer], gradients[layer], atol=2e-6, rtol=1e-4)
        assert taken.gradients[layer].abs().max() > 1e-4


@pytest.mark.parametrize("position", [-1, 0, 5, -T])
def test_one_position_is_one_of_all(position: int) -> None:
    model, batch = trained(model_config()), random_rows()
    layers = matching_layers(model, PICO_SUFFIXES)
    one, every = (dynamics_of(model, layers, batch, sequence_idx=index) for index in (position, None))
    for layer in layers:
        assert one.activations[layer].shape == (B, every.activations[layer].shape[2])
        assert torch.equal(one.activations[layer], every.activations[layer][:, position])


def test_nothing_of_the_model_is_changed() -> None:
    model = trained(model_config())
    model.train()
    for number, weight in enumerate(model.parameters()):
        weight.grad = torch.full_like(weight, number) if number % 2 else None
    before = {name: value.clone() for name, value in [*model.named_parameters(), *model.named_buffers()]}
    gradients = [None if weight.grad is None else weight.grad.clone() for weight in model.parameters()]
    state, layers = torch.get_rng_state(), layer_names(model)
    dynamics_of(model, layers, random_rows(), with_attention=True)
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in [*model.named_parameters(), *model.named_buffers()])
    for weight, gradient in zip(model.parameters(), gradients, strict=True):
        assert (weight.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(weight.grad, gradient)
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())


def recorder(options: dict[str, Any], model: ModelConfig) -> Recorder:
    rows = LanguageRows(family=FAMILY, seed=1, first=0, n_rows=4, length=T)
    return Recorder(
        LearningDynamicsConfig(enabled=True, **options),
        model=model,
        training=TrainingConfig(max_steps=100),
        device=torch.device("cpu"),
        objective=Autoregressive(),
        n_parts=1,
        batches=LanguageBatches(family=FAMILY, batch_size=6, length=T, seed=0),
        validation=rows_of_languages(rows, "four rows"),
    )


def test_what_is_kept_beside_the_layers() -> None:
    """Weights of another kind are read as they are, in float32; attention and the optimizer's state are there."""
    config = model_config(vocab_size=FAMILY.n_tokens)
    model = Decoder(config).to(torch.bfloat16)
    remembered = {f"{name}:exp_avg": torch.ones_like(weight) for name, weight in model.named_parameters()}
    options = {"attention_patterns": True, "optimizer_state": True, "sequence_idx": None, "layer_suffixes": ("o_proj",)}
    recorded = recorder(options, config).record(7, model.state_dict(), remembered)
    files = {Path(path).stem: tensors for path, tensors in recorded.tensors.items()}
    layers = [f"model.layers.{i}.self_attn.o_proj" for i in range(2)]
    assert set(files) == {"validation", "train", "weights", "optimizer"}
    assert set(files["optimizer"]) == {f"exp_avg/{layer}" for layer in layers}
    for layer in layers:
        stored = files["weights"][f"weights/{layer}"]
        assert stored.dtype == torch.float32
        assert torch.equal(stored, model.get_submodule(layer).weight.float())
        assert files["train"][f"activations/{layer}"].shape == (6, T, 24)
    for name, n_rows in (("validation", 4), ("train", 6)):
        attention = files[name]["attention/model.layers.1"]
        assert attention.shape == (n_rows, 6, T, T)
        torch.testing.assert_close(attention.sum(-1), torch.ones(n_rows, 6, T))
    facts = json.loads(recorded.files["learning_dynamics/dynamics.json"])
    assert facts["step"] == 7
    assert facts["layers"] == {layer: f"layers.{i}.attention.o_proj" for i, layer in enumerate(layers)}
    assert facts["batches"]["validation"]["loss_nats"] == pytest.approx(math.log(FAMILY.n_tokens), abs=1e-5)


def test_the_rows_of_a_step_are_those_that_it_reads_and_their_floor_is_the_languages() -> None:
    batches = LanguageBatches(family=FAMILY, batch_size=6, length=T, seed=5)
    config = model_config(vocab_size=FAMILY.n_tokens)
    recorded = recorder({}, config)
    recorded._batches = batches
    tensors, facts = recorded.record(11, trained(config).state_dict(), {}), None
    train = tensors.tensors["learning_dynamics/train.safetensors"]
    assert torch.equal(train["batch/inputs"].long(), batches(11).inputs_BT)
    assert torch.equal(train["batch/targets"].long(), batches(11).targets_BT)
    facts = json.loads(tensors.files["learning_dynamics/dynamics.json"])["batches"]["train"]
    described = facts["languages"]
    family = MetaLMv1(**described["options"])
    for row, inputs in enumerate(train["batch/inputs"].numpy()):
        language = family.draw(described["seed"], described["first"] + row)
        floor = language.nats(inputs, train["batch/targets"][row].numpy())
        np.testing.assert_allclose(train["batch/floor_nats"][row].numpy(), floor, atol=1e-5)


def test_held_out_rows_are_held_out_and_chosen_once() -> None:
    text = ByteText(bytes(range(200)) * 30, length=16)
    first, again = (rows_of_held_out(text, n_rows=5, seed=4) for _ in range(2))
    assert torch.equal(first.batch.inputs_BT, again.batch.inputs_BT)
    held_out = next(iter(text.held_out_windows()))[0]
    rows = {row.tobytes() for row in held_out}
    assert len({row.int().numpy().tobytes() for row in first.batch.inputs_BT} & rows) == 5
    assert len(rows_of_held_out(text, n_rows=10**4, seed=4).batch.inputs_BT) == len(held_out)


def test_rows_of_another_text(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    tokenizer = ByteText(b"x" * 400, length=4).tokenizer
    path = tmp_path / "validation.txt"
    path.write_text("abcdefghijkl")
    rows = rows_of_corpus(str(path), tokenizer, n_rows=2, length=4, n_tokens=257)
    assert rows.batch.inputs_BT.tolist() == [[0, 98, 99, 100], [101, 102, 103, 104]]
    assert rows.batch.targets_BT.tolist() == [[98, 99, 100, 101], [102, 103, 104, 105]]
    ids = tmp_path / "ids.parquet"
    pq.write_table(pa.table({"input_ids": [[1, 2, 3, 4, 5], [6, 7], [8, 9, 1, 2, 3]]}), ids)
    rows = rows_of_corpus(str(ids), None, n_rows=9, length=4, n_tokens=10)
    assert rows.batch.inputs_BT.tolist() == [[1, 2, 3, 4], [8, 9, 1, 2]]
    with pytest.raises(DataError, match="got id 9; allowed: 0 to 8"):
        rows_of_corpus(str(ids), None, n_rows=9, length=4, n_tokens=9)
    with pytest.raises(DataError, match="got text; allowed: ids"):
        rows_of_corpus(str(path), None, n_rows=2, length=4, n_tokens=257)
    with pytest.raises(DataError, match="got less than 100 tokens"):
        rows_of_corpus(str(path), tokenizer, n_rows=2, length=99, n_tokens=257)


# Names


def test_both_systems_of_names_mean_the_same_layers() -> None:
    model = Decoder(model_config())
    ours = ["self_attn.v_proj", "self_attn.o_proj", "mlp.down_proj"]
    assert matching_layers(model, PICO_SUFFIXES) == matching_layers(model, ours)
    assert len({pico_name(layer) for layer in layer_names(model)}) == len(layer_names(model)) == 2 * 9 + 3
    assert matching_layers(model, ["layers.1.swiglu.w_0"]) == ["model.layers.1.mlp.gate_proj"]
    assert matching_layers(model, ["de_embedding_proj", "output_norm"]) == ["model.norm", "lm_head"]


@pytest.mark.parametrize(
    ("suffix", "said"),
    [
        ("attention.v_prj", "Did you mean 'attention.v_proj'"),
        ("swiglu.w2", "Did you mean 'swiglu.w_2'"),
        ("self_attn.vproj", "Did you mean 'self_attn.v_proj'"),
        ("proj", "Did you mean '[a-z]_proj'"),  # the end of a word is no word
        ("completely.else", "There are attention.k_proj, "),
        ("layers.7.swiglu.w_2", "Did you mean 'layers.1.swiglu.w_2'|Did you mean 'layers.0.swiglu.w_2'"),
        ("", "There are"),
    ],
)
def test_a_suffix_that_matches_nothing_is_refused_with_the_nearest(suffix: str, said: str) -> None:
    with pytest.raises(OptionError, match=f"layer_suffixes: got {suffix!r}; .*({said})"):
        matching_layers(Decoder(model_config()), ["swiglu.w_2", suffix])


# Steps


@settings(max_examples=60, deadline=None)
@given(n_times=st.integers(2, 80), last=st.integers(1, 3000))
def test_log_spaced_steps_are_so_many_and_further_and_further_apart(n_times: int, last: int) -> None:
    config = LearningDynamicsConfig(enabled=True, n_log_spaced=n_times)
    steps = [step for step in range(last + 1) if config.is_due(step, n_steps=last, is_saved=False)]
    assert len(steps) == min(n_times, last + 1)
    assert (steps[0], steps[-1]) == (0, last)
    ratios = [after / before for before, after in itertools.pairwise(steps[1:])]
    coarse = [step for step in steps[1:] if step >= 60]  # below, they must be whole numbers apart
    if len(coarse) > 3:
        later = [after / before for before, after in itertools.pairwise(coarse)]
        assert max(later) - min(later) < 0.05 * max(later)
    assert not ratios or min(ratios) > 1


def test_other_schedules() -> None:
    def steps(**options: Any) -> list[int]:
        config = LearningDynamicsConfig(**{"enabled": True, **options})
        return [step for step in range(11) if config.is_due(step, n_steps=10, is_saved=step in (4, 8, 10))]

    assert steps() == [0, 4, 8, 10]
    assert steps(every_n_steps=3) == [0, 3, 6, 9, 10]
    assert steps(steps=(7, 2)) == [2, 7]
    assert steps(enabled=False, every_n_steps=1) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"every_n_steps": 2, "steps": [1]}, "steps: got \\(1,\\); allowed: none where every_n_steps is given"),
        ({"steps": [2, 2000]}, "learning_dynamics.steps: got 2000; allowed: at most training.max_steps, 1500"),
        ({"steps": [-1]}, "learning_dynamics.steps: got \\[-1\\]; allowed: a list, each of it a whole number"),
        ({"sequence_idx": 64}, "learning_dynamics.sequence_idx: got 64; allowed: from -64 to 63, as the shortest rows"),
        ({"layer_suffixes": []}, "learning_dynamics.layer_suffixes: got \\[\\]; allowed: at least one"),
        ({"layer_suffixes": "o_proj"}, "learning_dynamics.layer_suffixes: got 'o_proj'; allowed: a list, each of it"),
        ({"step": 3}, "Did you mean 'checkpointing.learning_dynamics.steps'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        resolve({"checkpointing": {"learning_dynamics": {"enabled": True, **options}}})


def test_they_are_off_unless_asked_for() -> None:
    config: RunConfig = default_config()
    assert not config.checkpointing.learning_dynamics.enabled
    assert config.checkpointing.learning_dynamics.layer_suffixes == tuple(PICO_SUFFIXES)
