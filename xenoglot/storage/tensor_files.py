"""Tensors written to a safetensors file one after the other.

The library's own ``save`` puts all of them together in memory first, and no other thread runs meanwhile: a training
that saves in the background would stand still for a second per gigabyte. Reading is left to the library.

The format: 8 bytes with the header's length, little-endian; the header, JSON, padded to a multiple of 8; and the
numbers. Source: https://github.com/huggingface/safetensors, README, "Format".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, BinaryIO

import torch
from torch import Tensor

__all__ = ["write_tensors"]

ALIGNMENT = 8
NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The format's name of each kind of number."""


def write_tensors(file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors, on any device and in any layout, as a safetensors file.

    Args:
        file: Open for writing.
        tensors: By name; the same tensor under two names is stored twice.
        metadata: Texts to be kept with them.

    Raises:
        OSError: If the file cannot be written.

    Example:
        >>> import io, safetensors.torch
        >>> file = io.BytesIO()
        >>> write_tensors(file, {"ones": torch.ones(2), "step": torch.tensor(7)})
        >>> tensors = safetensors.torch.load(file.getvalue())
        >>> tensors["ones"], tensors["step"]
        (tensor([1., 1.]), tensor(7))
    """
    # The widest numbers first: then each tensor begins at a multiple of its numbers' width, as readers expect.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        tensor, begin = tensors[name], end
        end += tensor.numel() * tensor.element_size()
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % ALIGNMENT)
    file.write(len(raw).to_bytes(8, "little"))
    file.write(raw)
    for name in names:
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        file.write(flat.view(torch.uint8).numpy().data)
