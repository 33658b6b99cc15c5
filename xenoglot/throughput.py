r"""How much arithmetic a model does, how much of it a device could do, and how much memory training takes.

Floating-point operations (FLOPs) count a multiplication and an addition as two. Training does three times what reading
does: the derivatives by inputs and by weights cost as much as the product itself.
"""

from __future__ import annotations

import re

from xenoglot.config import ModelConfig
from xenoglot.model_sizes import matrix_parameters_of, parameters_of
from xenoglot.transformer.cross_entropy import CHUNK_BYTES

__all__ = ["flops_per_token", "mfu", "peak_flops", "peak_memory_bytes"]

DENSE_BF16_PEAKS: dict[str, float] = {
    # dense: data sheets print twice that in large figures, for matrices of which half is zero
    "B200": 2250e12,  # NVIDIA Blackwell architecture brief, HGX B200, per GPU
    "GH200": 989.4e12,  # NVIDIA GH200 data sheet
    "H200 NVL": 835.5e12,  # NVIDIA H200 data sheet: 1,671 with sparsity
    "H200": 989.4e12,  # NVIDIA H200 data sheet, SXM: 1,979 with sparsity
    "H100 NVL": 835.5e12,  # NVIDIA H100 NVL data sheet: 1,671 with sparsity
    "H100 PCIE": 756e12,  # NVIDIA H100 data sheet, PCIe: 1,513 with sparsity
    "H100": 989.4e12,  # NVIDIA H100 data sheet, SXM: 1,979 with sparsity
    "A100": 312e12,  # NVIDIA A100 data sheet, SXM and PCIe alike
    "A10G": 70e12,  # NVIDIA A10G data sheet
    "A10": 125e12,  # NVIDIA A10 data sheet
    "A40": 149.7e12,  # NVIDIA A40 data sheet
    "L40S": 362e12,  # NVIDIA L40S data sheet: 733 with sparsity
    "L40": 181e12,  # NVIDIA L40 data sheet
    "L4": 121e12,  # NVIDIA L4 data sheet: 242 with sparsity
    "RTX A6000": 154.8e12,  # NVIDIA Ampere GA102 white paper
    "RTX 5090": 209.5e12,  # NVIDIA Blackwell RTX white paper, sums in float32
    "RTX 4090": 165.2e12,  # NVIDIA Ada white paper, sums in float32
    "RTX 3090": 71e12,  # NVIDIA Ampere GA102 white paper, sums in float32
    "MI300X": 1307.4e12,  # AMD Instinct MI300X data sheet
    "MI250X": 383e12,  # AMD Instinct MI250X data sheet, both dies
}
"""Operations a second of whole devices; of two rows that fit a name, the first."""

OTHER_DEVICES = {"MIG", "LAPTOP", "SUPER", "TI", "MOBILE", "D"}
"""Words that make a name another device's, or a part's."""

HALF_PRECISIONS = ("bf16-mixed", "bf16-true", "16-mixed")


def flops_per_token(config: ModelConfig, length: int, *, attention: bool = True) -> float:
    r"""Return the operations of training on one token, the mean over a row.

    .. math::
        6 N + 12 \, L \, D \, \bar s, \qquad \bar s = \frac{T + 1}{2} \text{ if causal, else } T

    N weights of matrices, the embedding not among them (`matrix_parameters_of`); L layers of width D; s the positions
    that a token gathers from. The gated activations, norms and the softmax are left out, as is usual.

    Source: Kaplan et al. 2020, arXiv 2001.08361, section 2.1. Where we differ: PaLM's formula (Chowdhery et al. 2022,
    arXiv 2204.02311, appendix B) counts what a causal model masks as well, and so reports more operations than needed.

    Args:
        config: The sizes.
        length: Tokens of a row, T.
        attention: Whether gathering is counted; if not, 6 N is returned.

    Example:
        >>> config = ModelConfig(d_model=64, n_layers=2, activation_hidden_dim=128, vocab_size=18)
        >>> flops_per_token(config, 256, attention=False)   # 6 (2 (4 * 64^2 + 3 * 64 * 128) + 64 * 18)
        498432.0
        >>> flops_per_token(config, 255) - 498432   # 12 * 2 * 64 * 128
        196608.0
    """
    seen = (length + 1) / 2 if config.attention == "causal" else length
    gathering = 12 * config.n_layers * config.d_model * seen if attention else 0
    return float(6 * matrix_parameters_of(config) + gathering)


def peak_flops(device: str, precision: str) -> float | None:
    """Return the dense operations a second that a device is made for; None if it is not known.

    Args:
        device: Its name, as `torch.cuda.get_device_name` tells it.
        precision: As Fabric names it. Only half precisions are known: float32 has as many peaks as ways to round.

    Example:
        >>> peak_flops("NVIDIA H200", "bf16-mixed")
        989400000000000.0
        >>> peak_flops("NVIDIA H200", "32-true") is None
        True
        >>> peak_flops("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "bf16-mixed") is None
        True
    """
    words = set(re.findall(r"[A-Z0-9]+", device.upper()))
    if precision not in HALF_PRECISIONS or words & OTHER_DEVICES:
        return None
    return next((peak for name, peak in DENSE_BF16_PEAKS.items() if words >= set(name.split())), None)


def mfu(
    config: ModelConfig, length: int, *, tokens_per_second: float, peak_flops_per_second: float | None
) -> float | None:
    """Return model FLOPs utilisation: what training had to compute, as a share of what the devices could have.

    Args:
        config: The sizes.
        length: Tokens of a row.
        tokens_per_second: Of all devices together.
        peak_flops_per_second: Of all devices together; None if it is not known, and so is the share.

    Example:
        >>> config = ModelConfig(d_model=64, n_layers=2, activation_hidden_dim=128, vocab_size=18)
        >>> mfu(config, 255, tokens_per_second=1e6, peak_flops_per_second=1e12)
        0.69504
    """
    if peak_flops_per_second is None:
        return None
    return tokens_per_second * flops_per_token(config, length) / peak_flops_per_second


def peak_memory_bytes(
    config: ModelConfig, *, n_rows: int, length: int, precision: str = "32-true", device_type: str = "cpu"
) -> int:
    r"""Estimate the memory of one device that trains with AdamW, at its peak: after a forward pass.

    For each parameter: the weight, its gradient and two moments, in float32. For each token and layer, what the
    derivatives need:

    .. math::
        8 D + 2 K C + 4 F + H + 2

    numbers: four of width D for the two norms, and their two scales; the four inputs and outputs of attention's
    matrices and products, its keys and values, and a scale for each head; four of the gated network's width F. For the
    loss: one piece of logits where it is taken in pieces (`cross_entropy`), else logits, log-probabilities and
    derivatives of all tokens.

    Assumed: not compiled (compiling keeps less), no share of several devices, and nothing for the allocator, the
    libraries and the data, which is half a gigabyte or so.

    Args:
        config: The sizes.
        n_rows: Rows that go through memory at once.
        length: Tokens of a row.
        precision: As Fabric names it; under half ones, all numbers but those of norms and residuals have two bytes.
        device_type: "cpu", "cuda" or "mps".

    Example:
        >>> config = ModelConfig(d_model=64, n_layers=2, activation_hidden_dim=128, vocab_size=18)
        >>> round(peak_memory_bytes(config, n_rows=32, length=256) / 1e6)   # 1 of it for the parameters
        84
    """
    d_model, n_ids = config.d_model, config.vocab_size or 0
    is_half = precision in HALF_PRECISIONS
    n_tokens, other_bytes = n_rows * length, 2 if is_half else 4
    kv_width = d_model // config.attention_n_heads * config.attention_n_kv_heads
    in_float32 = 4 * d_model + config.attention_n_heads + 2
    others = 4 * d_model + 2 * kv_width + 4 * config.activation_hidden_dim
    layers = config.n_layers * n_tokens * (4 * in_float32 + other_bytes * others)
    ends = n_tokens * 4 * 3 * d_model
    in_pieces = device_type == "cpu" and not is_half
    loss = min(CHUNK_BYTES, 4 * n_tokens * n_ids) if in_pieces else 3 * 4 * n_tokens * n_ids
    return 16 * parameters_of(config) + layers + ends + loss
