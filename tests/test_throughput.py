"""Operations against torch's own counter, memory against what autograd really keeps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from xenoglot.config import ModelConfig
from xenoglot.decoder import Decoder
from xenoglot.throughput import flops_per_token, mfu, peak_flops, peak_memory_bytes


def config_of(n_layers: int = 2, n_kv_heads: int = 2, attention: str = "causal", vocab_size: int = 50) -> ModelConfig:
    return ModelConfig(
        d_model=32,
        n_layers=n_layers,
        attention_n_heads=4,
        attention_n_kv_heads=n_kv_heads,
        activation_hidden_dim=72,
        max_seq_len=64,
        vocab_size=vocab_size,
        attention=attention,
    )


@settings(max_examples=6, deadline=None)
@given(n_layers=st.integers(1, 3), n_kv_heads=st.sampled_from([1, 2, 4]), length=st.integers(1, 40))
def test_operations_are_what_torch_counts(n_layers, n_kv_heads, length):
    config = config_of(n_layers, n_kv_heads, "bidirectional")
    # its counter knows products, but not the fused attention of CPUs
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel([SDPBackend.MATH]):
        Decoder(config)(torch.zeros(3, length, dtype=torch.long))
    assert flops_per_token(config, length) == 3 * counter.get_total_flops() / (3 * length)  # training: three times


def test_matrices_cost_in_training_what_torch_counts():
    config = config_of()
    tokens = torch.zeros(3, 20, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(Decoder(config)(tokens).flatten(0, 1), tokens.flatten()).backward()
    products = {op: flops for op, flops in counter.get_flop_counts()["Global"].items() if "attention" not in str(op)}
    assert flops_per_token(config, 20, attention=False) == sum(products.values()) / 60


def test_a_causal_model_gathers_from_half():
    length = 33
    pairs = sum(1 for t in range(length) for s in range(length) if s <= t)
    causal, every = (
        flops_per_token(config_of(attention=attention), length)
        - flops_per_token(config_of(attention=attention), length, attention=False)
        for attention in ("causal", "bidirectional")
    )
    assert causal / every == pytest.approx(pairs / length**2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835.5e12),
        ("NVIDIA H200", 989.4e12),
        ("NVIDIA GH200 480GB", 989.4e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA GeForce RTX 4090", 165.2e12),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA GeForce GTX 1080", None),
        ("cpu", None),
        ("", None),
    ],
)
def test_peaks_are_dense_and_of_whole_known_devices(name, expected):
    assert peak_flops(name, "bf16-mixed") == expected
    assert peak_flops(name, "32-true") is None


def test_utilisation_is_a_share_of_the_peak():
    config = config_of()
    assert mfu(config, 64, tokens_per_second=1e6, peak_flops_per_second=None) is None
    whole = 1e15 / flops_per_token(config, 64)
    assert mfu(config, 64, tokens_per_second=whole / 4, peak_flops_per_second=1e15) == pytest.approx(0.25)


def kept_bytes(config: ModelConfig, n_rows: int, length: int) -> int:
    """What autograd keeps of a forward pass, each piece of memory once, the parameters left out."""
    decoder, tokens = Decoder(config), torch.zeros(n_rows, length, dtype=torch.long)
    own = {weight.untyped_storage().data_ptr() for weight in decoder.parameters()}
    pieces, alive = {}, []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(tensor)  # so that no memory is used twice
        pieces[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        decoder(tokens, targets=tokens)
    return sum(size for at, size in pieces.items() if at not in own)


@pytest.mark.parametrize("n_kv_heads", [1, 4])
def test_a_layer_keeps_what_is_stated(n_kv_heads):
    three, one = config_of(3, n_kv_heads), config_of(1, n_kv_heads)
    kept = kept_bytes(three, 5, 40) - kept_bytes(one, 5, 40)
    stated = [peak_memory_bytes(config, n_rows=5, length=40) for config in (three, one)]
    weights = sum(weight.numel() for weight in Decoder(three).parameters())
    weights -= sum(weight.numel() for weight in Decoder(one).parameters())
    assert stated[0] - stated[1] - 16 * weights == kept


def test_memory_of_the_loss_depends_on_where_it_is_taken():
    config = config_of(vocab_size=50_000)
    in_pieces = peak_memory_bytes(config, n_rows=64, length=64)
    whole = peak_memory_bytes(config, n_rows=64, length=64, device_type="cuda")
    half = peak_memory_bytes(config, n_rows=64, length=64, device_type="cuda", precision="bf16-mixed")
    assert whole - in_pieces == 3 * 4 * 64 * 64 * 50_000 - 2**24
    assert in_pieces < half < whole
