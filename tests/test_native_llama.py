"""What a Llama folder means is what `transformers` computes from it: logits, hidden states, greedy writing."""

from __future__ import annotations

import pytest
import torch
from decoders import shaken
from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot.config import ModelConfig
from xenoglot.decoder import Decoder

transformers = pytest.importorskip("transformers")


def twin_of(decoder: Decoder) -> torch.nn.Module:
    """The peer's model, from sizes and weights given by hand: nothing of our folder or its reading is used."""
    config = decoder.config
    twin = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=config.d_model,
            num_hidden_layers=config.n_layers,
            num_attention_heads=config.attention_n_heads,
            num_key_value_heads=config.attention_n_kv_heads,
            intermediate_size=config.activation_hidden_dim,
            max_position_embeddings=config.max_seq_len,
            vocab_size=config.vocab_size,
            rms_norm_eps=config.norm_eps,
            rope_theta=config.position_emb_theta,  # the name in transformers 4, which 5 still takes
            tie_word_embeddings=config.tie_word_embeddings,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    twin.load_state_dict(decoder.state_dict())
    return twin.eval()


def ids_of(config: ModelConfig, *shape: int) -> torch.Tensor:
    return torch.randint(0, config.vocab_size, shape, generator=torch.Generator().manual_seed(1))


@settings(max_examples=12, deadline=None)
@given(
    heads=st.sampled_from([(1, 1, 8), (4, 2, 6), (6, 2, 16), (2, 2, 64)]),
    n_layers=st.integers(1, 3),
    theta=st.sampled_from([500.0, 10_000.0, 500_000.0, 1e6]),
    max_seq_len=st.sampled_from([1, 7, 64, 512]),
    tied=st.booleans(),
    scale=st.sampled_from([1.0, 3.0]),
)
def test_logits_are_those_of_transformers(heads, n_layers, theta, max_seq_len, tied, scale):
    n_heads, n_kv_heads, head_size = heads
    config = ModelConfig(
        d_model=n_heads * head_size,
        n_layers=n_layers,
        attention_n_heads=n_heads,
        attention_n_kv_heads=n_kv_heads,
        activation_hidden_dim=40,
        max_seq_len=max_seq_len,
        vocab_size=53,
        position_emb_theta=theta,
        tie_word_embeddings=tied,
    )
    decoder, ids = shaken(config, scale), ids_of(config, 2, max_seq_len)
    with torch.no_grad():
        torch.testing.assert_close(decoder(ids), twin_of(decoder)(ids).logits, atol=1e-5, rtol=0)


SMALL = ModelConfig(
    d_model=32,
    n_layers=3,
    attention_n_heads=4,
    attention_n_kv_heads=2,
    activation_hidden_dim=48,
    max_seq_len=40,
    vocab_size=29,
    position_emb_theta=500.0,
)


def test_far_positions_with_large_weights_are_those_of_transformers():
    """Angles rounded otherwise differ here: 4,000 positions, a base of 500, tied weights five times as large."""
    config = ModelConfig(
        d_model=32, n_layers=2, max_seq_len=4096, vocab_size=53, position_emb_theta=500.0, tie_word_embeddings=True
    )
    decoder, ids = shaken(config, 5.0), ids_of(config, 1, 4096)
    with torch.no_grad():
        torch.testing.assert_close(decoder(ids), twin_of(decoder)(ids).logits, atol=1e-5, rtol=0)


def test_hidden_states_are_counted_as_transformers_counts_them():
    decoder, ids = shaken(SMALL, 1.0), ids_of(SMALL, 2, 12)
    with torch.no_grad():
        expected = twin_of(decoder)(ids, output_hidden_states=True).hidden_states
        states = decoder.hidden_states(ids)
    assert len(states) == len(expected) == SMALL.n_layers + 1
    for ours, theirs in zip(states, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_writing_is_that_of_transformers(use_cache):
    decoder, prompts = shaken(SMALL, 3.0), ids_of(SMALL, 5, 8)
    twin = twin_of(decoder)
    free = twin.generate(prompts, max_new_tokens=30, do_sample=False, pad_token_id=0)
    stop = int(free[0, 12])  # so that one row at least ends early
    expected = twin.generate(prompts, max_new_tokens=30, do_sample=False, pad_token_id=0, eos_token_id=stop)
    got = decoder.generate(prompts, max_new_tokens=30, temperature=0, stop_ids=[stop], use_cache=use_cache)
    assert torch.equal(got, expected)
    assert (got[0, 13:] == 0).all()
    assert (got[:, 8:] != 0).any(dim=0).sum() > 5


@pytest.mark.parametrize("tied", [False, True])
def test_a_saved_folder_opens_as_a_native_llama(tmp_path, tied):
    config = ModelConfig(
        d_model=32, n_layers=2, max_seq_len=64, vocab_size=53, position_emb_theta=500.0, tie_word_embeddings=tied
    )
    decoder, ids = shaken(config, 1.0), ids_of(config, 2, 64)
    decoder.save_pretrained(tmp_path)
    opened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(opened(ids).logits, decoder(ids), atol=1e-5, rtol=0)


def test_a_bidirectional_folder_does_not_open_as_a_causal_llama(tmp_path):
    config = ModelConfig(d_model=16, n_layers=1, vocab_size=11, attention="bidirectional")
    decoder = shaken(config, 1.0)
    decoder.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="xenoglot_bidirectional"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert Decoder.from_pretrained(tmp_path).config == config


def test_a_folder_that_transformers_wrote_is_read(tmp_path):
    decoder, ids = shaken(SMALL, 1.0), ids_of(SMALL, 2, 40)
    twin_of(decoder).save_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(Decoder.from_pretrained(tmp_path)(ids), decoder(ids))
