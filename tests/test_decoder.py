"""The decoder against a plain NumPy twin that loops over rows, heads and positions, written from the formulas."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
import safetensors.torch
import torch
from decoders import random_decoder
from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot.config import ModelConfig
from xenoglot.decoder import Decoder
from xenoglot.errors import DataError, OptionError, OutputError

TINY = ModelConfig(
    d_model=16,
    n_layers=2,
    attention_n_heads=4,
    attention_n_kv_heads=2,
    activation_hidden_dim=24,
    max_seq_len=12,
    vocab_size=11,
    position_emb_theta=100.0,
)


def ids(*shape: int, seed: int = 0, below: int = 11) -> torch.Tensor:
    return torch.randint(0, below, shape, generator=torch.Generator().manual_seed(seed))


# --- the twin ---------------------------------------------------------------------------------------------------------


def twin_norm(x, gain, eps):
    return x / math.sqrt(sum(v * v for v in x) / len(x) + eps) * gain


def twin_rotate(head, position, theta):
    """Turn the pair (i, i + C/2) as a complex number, by e^(i t f_i)."""
    half = len(head) // 2
    turned = head.copy()
    for i in range(half):
        number = complex(head[i], head[i + half]) * np.exp(1j * position * theta ** (-2 * i / len(head)))
        turned[i], turned[i + half] = number.real, number.imag
    return turned


def twin_attention(x, weights, prefix, config):
    size = config.d_model // config.attention_n_heads
    group = config.attention_n_heads // config.attention_n_kv_heads
    q, k, v = (x @ weights[f"{prefix}.{name}_proj.weight"].T for name in "qkv")
    out = np.zeros((len(x), config.d_model))
    for head in range(config.attention_n_heads):
        mine, shared = slice(head * size, (head + 1) * size), slice(head // group * size, (head // group + 1) * size)
        for t in range(len(x)):
            query = twin_rotate(q[t, mine], t, config.position_emb_theta)
            seen = t + 1 if config.attention == "causal" else len(x)
            scores = [query @ twin_rotate(k[s, shared], s, config.position_emb_theta) for s in range(seen)]
            scores = np.exp(np.array(scores) / math.sqrt(size))
            out[t, mine] = sum(score * v[s, shared] for s, score in enumerate(scores / scores.sum()))
    return out @ weights[f"{prefix}.o_proj.weight"].T


def twin_logits(tokens, decoder):
    weights = {name: weight.detach().double().numpy() for name, weight in decoder.state_dict().items()}
    config = decoder.config
    x = np.stack([weights["model.embed_tokens.weight"][token] for token in tokens])
    for layer in range(config.n_layers):
        at = f"model.layers.{layer}"
        gain = weights[f"{at}.input_layernorm.weight"]
        normed = np.stack([twin_norm(row, gain, config.norm_eps) for row in x])
        x = x + twin_attention(normed, weights, f"{at}.self_attn", config)
        gain = weights[f"{at}.post_attention_layernorm.weight"]
        normed = np.stack([twin_norm(row, gain, config.norm_eps) for row in x])
        gate, up = (normed @ weights[f"{at}.mlp.{name}_proj.weight"].T for name in ("gate", "up"))
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weights[f"{at}.mlp.down_proj.weight"].T
    x = np.stack([twin_norm(row, weights["model.norm.weight"], config.norm_eps) for row in x])
    return x @ weights["lm_head.weight"].T


@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
@pytest.mark.parametrize(("tied", "attention"), [(False, "causal"), (True, "causal"), (False, "bidirectional")])
def test_logits_are_those_of_the_twin(n_kv_heads, tied, attention):
    config = ModelConfig(
        d_model=16,
        n_layers=2,
        attention_n_heads=4,
        attention_n_kv_heads=n_kv_heads,
        activation_hidden_dim=24,
        max_seq_len=12,
        vocab_size=11,
        position_emb_theta=100.0,
        norm_eps=1e-3,
        tie_word_embeddings=tied,
        attention=attention,
    )
    decoder, tokens = random_decoder(config), ids(2, 12)
    expected = np.stack([twin_logits(row.tolist(), decoder) for row in tokens])
    np.testing.assert_allclose(decoder(tokens).detach().numpy(), expected, atol=2e-5)


# --- what a decoder is ------------------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(position=st.integers(0, 11), seed=st.integers(0, 99))
def test_later_tokens_change_nothing_earlier(position, seed):
    decoder, tokens = random_decoder(TINY), ids(1, 12, seed=seed)
    changed = tokens.clone()
    changed[0, position] = (changed[0, position] + 1) % 11
    before, after = decoder(tokens)[0], decoder(changed)[0]
    torch.testing.assert_close(before[:position], after[:position], rtol=0, atol=0)
    assert (before[position:] != after[position:]).any(dim=1).all()


def test_products_of_turned_vectors_see_distances_not_positions():
    rng = torch.Generator().manual_seed(1)
    rotate = Decoder(TINY).model.rotate
    q_THC, k_THC = (rotate(torch.randn(1, 1, 16, generator=rng).expand(1, 12, 16))[0] for _ in range(2))
    scores = q_THC[0] @ k_THC[0].T
    for distance in range(12):
        diagonal = scores.diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=0)
    assert scores[:, 0].std() > 0.01


def test_every_weight_gets_a_gradient():
    decoder = random_decoder(TINY)
    torch.nn.functional.cross_entropy(decoder(ids(4, 12)).flatten(0, 1), ids(48, seed=1)).backward()
    for name, weight in decoder.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name


def test_gradients_are_finite_differences():
    decoder = random_decoder(TINY).double()
    tokens, targets = ids(2, 12), ids(24, seed=1)

    def loss() -> torch.Tensor:
        return torch.nn.functional.cross_entropy(decoder(tokens).flatten(0, 1), targets)

    loss().backward()
    rng = torch.Generator().manual_seed(5)
    for name, weight in decoder.named_parameters():
        direction = torch.randn(weight.shape, generator=rng, dtype=torch.float64)
        expected = float((weight.grad * direction).sum())
        with torch.no_grad():
            weight += 1e-5 * direction
            above = float(loss())
            weight -= 2e-5 * direction
            below = float(loss())
            weight += 1e-5 * direction
        assert (above - below) / 2e-5 == pytest.approx(expected, rel=1e-3, abs=1e-6), name


def test_with_targets_it_is_the_mean_loss():
    decoder, tokens, targets = random_decoder(TINY), ids(3, 12), ids(3, 12, seed=1)
    logits = np.stack([twin_logits(row.tolist(), decoder) for row in tokens])
    losses = np.log(np.exp(logits).sum(2)) - np.take_along_axis(logits, targets.numpy()[..., None], 2)[..., 0]
    assert decoder(tokens, targets=targets).item() == pytest.approx(losses.mean(), abs=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = decoder(tokens, targets=targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(losses.mean(), rel=0.02)


def test_hidden_states_lead_to_the_logits():
    decoder, tokens = random_decoder(TINY), ids(2, 12)
    states = decoder.hidden_states(tokens)
    assert [state.shape for state in states] == [(2, 12, 16)] * 3
    assert torch.equal(states[0], decoder.model.embed_tokens(tokens))
    assert torch.equal(decoder.lm_head(states[-1]), decoder(tokens))
    assert states[1].requires_grad


# --- other types, other weights ---------------------------------------------------------------------------------------


def test_angles_stay_exact_when_the_weights_are_not():
    config = ModelConfig(d_model=16, n_layers=1, attention_n_heads=1, attention_n_kv_heads=1, vocab_size=11)
    exact, rounded = Decoder(config), Decoder(config).to(torch.bfloat16)
    assert rounded.lm_head.weight.dtype == torch.bfloat16
    assert torch.equal(rounded.model.rotate.cos_TD, exact.model.rotate.cos_TD)
    assert rounded(ids(1, 256)).dtype == torch.bfloat16
    q_BTD = torch.randn(1, 256, 16, generator=torch.Generator().manual_seed(1)).bfloat16()
    turned, expected = rounded.model.rotate(q_BTD), exact.model.rotate(q_BTD.float())
    assert turned.dtype == torch.bfloat16
    assert torch.equal(turned, expected.bfloat16())  # one rounding, at the end


def test_under_autocast_logits_are_near():
    decoder, tokens = random_decoder(TINY), ids(2, 12)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = decoder(tokens)
    exact = decoder(tokens).detach()
    assert logits.dtype == torch.bfloat16
    assert float((logits - exact).square().mean().sqrt()) < 0.03 * float(exact.std())


def test_other_weights_can_be_put_in_for_one_call():
    decoder, tokens = random_decoder(TINY), ids(2, 12)
    other = random_decoder(TINY, seed=4)
    logits = torch.func.functional_call(decoder, dict(other.named_parameters()), (tokens,))
    assert torch.equal(logits, other(tokens))
    loss = torch.func.functional_call(decoder, dict(other.named_parameters()), (tokens,), {"targets": tokens})
    loss.backward()
    assert all(weight.grad is None for weight in decoder.parameters())
    assert all(weight.grad is not None for weight in other.parameters())


def test_compiling_finds_one_graph_with_the_same_derivatives():
    decoder, tokens = random_decoder(TINY), ids(2, 12)
    compiled = torch.compile(decoder, backend="aot_eager", fullgraph=True, dynamic=False)
    found = {}
    for name, called in {"eager": decoder, "compiled": compiled}.items():
        decoder.zero_grad()
        loss = called(tokens, targets=tokens)
        loss.backward()
        found[name] = [loss.detach(), *(weight.grad.clone() for weight in decoder.parameters())]
    torch.testing.assert_close(found["compiled"], found["eager"])


@pytest.mark.parametrize("tied", [False, True])
def test_a_deep_copy_is_another_model(tied):
    config = ModelConfig(d_model=16, n_layers=1, max_seq_len=12, vocab_size=11, tie_word_embeddings=tied)
    decoder = random_decoder(config)
    copied = copy.deepcopy(decoder)
    before = decoder(ids(2, 12))
    with torch.no_grad():
        copied.model.embed_tokens.weight.zero_()
    assert torch.equal(decoder(ids(2, 12)), before)
    assert not torch.equal(copied(ids(2, 12)), before)
    assert (copied.lm_head.weight is copied.model.embed_tokens.weight) == tied


# --- the start --------------------------------------------------------------------------------------------------------


def test_a_new_decoder_guesses_uniformly():
    assert (Decoder(TINY)(ids(2, 12)) == 0).all()


def test_initial_weights_have_the_stated_deviations():
    config = ModelConfig(d_model=128, n_layers=2, activation_hidden_dim=256, vocab_size=512)
    weights = Decoder(config).state_dict()
    expected = {
        "model.embed_tokens.weight": 1.0,
        "model.layers.0.self_attn.q_proj.weight": 1 / math.sqrt(128),
        "model.layers.1.mlp.up_proj.weight": 1 / math.sqrt(128),
        "model.layers.1.self_attn.o_proj.weight": 1 / math.sqrt(128 * 4),
        "model.layers.0.mlp.down_proj.weight": 1 / math.sqrt(256 * 4),
    }
    for name, deviation in expected.items():
        assert float(weights[name].std()) == pytest.approx(deviation, rel=0.05), name
    assert (weights["model.norm.weight"] == 1).all()


def test_tied_embeddings_start_small_enough_for_logits():
    config = ModelConfig(d_model=128, n_layers=1, vocab_size=512, tie_word_embeddings=True)
    decoder = Decoder(config)
    assert decoder.lm_head.weight is decoder.model.embed_tokens.weight
    assert float(decoder.lm_head.weight.detach().std()) == pytest.approx(1 / math.sqrt(128), rel=0.05)


def test_the_start_depends_on_the_given_generator_only():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = Decoder(TINY, torch.Generator().manual_seed(7)).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second = Decoder(TINY, torch.Generator().manual_seed(7)).state_dict()
    other = Decoder(TINY, torch.Generator().manual_seed(8)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


# --- folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
def test_a_saved_folder_reads_back_exactly(tmp_path, tied):
    config = ModelConfig(
        d_model=16, n_layers=1, attention_n_heads=4, attention_n_kv_heads=2, vocab_size=11, tie_word_embeddings=tied
    )
    decoder = random_decoder(config)
    decoder.save_pretrained(tmp_path / "model")
    again = Decoder.from_pretrained(tmp_path / "model")
    assert again.config == config
    assert torch.equal(decoder(ids(2, 12)), again(ids(2, 12)))
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]


def test_a_saved_folder_has_native_llama_names(tmp_path):
    random_decoder(TINY).save_pretrained(tmp_path)
    layer = ["input_layernorm", "mlp.down_proj", "mlp.gate_proj", "mlp.up_proj", "post_attention_layernorm"]
    layer += [f"self_attn.{name}_proj" for name in "koqv"]
    expected = {f"model.layers.{number}.{name}.weight" for number in range(2) for name in layer}
    expected |= {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    assert safetensors.torch.load_file(tmp_path / "model.safetensors").keys() == expected
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["architectures"] == ["LlamaForCausalLM"]
    assert (stored["hidden_size"], stored["num_key_value_heads"], stored["head_dim"]) == (16, 2, 4)
    assert stored["rope_theta"] == stored["rope_parameters"]["rope_theta"] == 100.0


def test_a_folder_says_the_type_of_its_weights(tmp_path):
    for dtype, name in {torch.float32: "float32", torch.bfloat16: "bfloat16"}.items():
        random_decoder(TINY).to(dtype).save_pretrained(tmp_path)
        assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == name
        assert {weight.dtype for weight in safetensors.torch.load_file(tmp_path / "model.safetensors").values()} == {
            dtype
        }


def test_an_older_description_is_read_too(tmp_path):
    decoder = random_decoder(TINY)
    decoder.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored["rope_theta"], stored["head_dim"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    assert torch.equal(Decoder.from_pretrained(tmp_path)(ids(2, 12)), decoder(ids(2, 12)))


def test_missing_unknown_and_misshapen_weights_are_all_listed(tmp_path):
    decoder = random_decoder(TINY)
    decoder.save_pretrained(tmp_path)
    weights = decoder.state_dict()
    weights["model.norm.bias"] = torch.zeros(16)
    weights["lm_head.weight"] = torch.zeros(3, 16)
    del weights["model.layers.1.mlp.up_proj.weight"]
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(DataError) as caught:
        Decoder.from_pretrained(tmp_path)
    message = str(caught.value)
    assert "missing: model.layers.1.mlp.up_proj.weight" in message
    assert "unknown: model.norm.bias" in message
    assert "lm_head.weight [3, 16] instead of [11, 16]" in message


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "gpt2"}, "model_type"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"attention_bias": True}, "attention_bias"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 100.0}}, "rope_type"),
        ({"head_dim": 8}, "head_dim"),
    ],
)
def test_models_of_another_kind_are_refused(tmp_path, change, named):
    random_decoder(TINY).save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**stored, **change}))
    with pytest.raises(DataError, match=named):
        Decoder.from_pretrained(tmp_path)


def test_unreadable_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"config\.json"):
        Decoder.from_pretrained(tmp_path)
    random_decoder(TINY).save_pretrained(tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:-7])
    with pytest.raises(DataError, match=r"model\.safetensors"):
        Decoder.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(DataError, match=r"config\.json"):
        Decoder.from_pretrained(tmp_path)


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="folder"):
        random_decoder(TINY).save_pretrained(tmp_path / "file" / "model")


def test_bad_sizes_and_inputs_are_refused():
    with pytest.raises(OptionError, match="vocab_size"):
        Decoder(ModelConfig())
    with pytest.raises(OptionError, match="d_model"):
        ModelConfig(d_model=20, attention_n_heads=4, attention_n_kv_heads=4)
    with pytest.raises(OptionError, match="attention_n_kv_heads"):
        ModelConfig(attention_n_heads=4, attention_n_kv_heads=3)
    with pytest.raises(DataError, match="12"):
        Decoder(TINY)(ids(1, 13))
    with pytest.raises(DataError, match="shape"):
        Decoder(TINY)(ids(5))
    with pytest.raises(DataError, match="targets"):
        Decoder(TINY)(ids(1, 5), targets=ids(1, 4))
