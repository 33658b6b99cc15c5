"""What is written tensor by tensor, the safetensors library reads as it was."""

from __future__ import annotations

import io
import json

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xenoglot.storage.tensor_files import NAMES, write_tensors


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(sorted(NAMES, key=str)))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    n_bytes = torch.Size(shape).numel() * dtype.itemsize
    raw = draw(st.binary(min_size=n_bytes, max_size=n_bytes))
    raw = bytes(byte & 1 for byte in raw) if dtype is torch.bool else raw
    tensor = (torch.frombuffer(bytearray(raw), dtype=dtype) if raw else torch.empty(0, dtype=dtype)).reshape(shape)
    return tensor.T if tensor.ndim == 2 and draw(st.booleans()) else tensor


def bits(tensor: Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    return tensor.dtype, tensor.shape, tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@settings(max_examples=200, deadline=None)
@given(given_tensors=st.dictionaries(st.text(max_size=5).filter(lambda name: name != "__metadata__"), tensors()))
def test_the_library_reads_every_bit(given_tensors: dict[str, Tensor]) -> None:
    file = io.BytesIO()
    write_tensors(file, given_tensors)
    again = safetensors.torch.load(file.getvalue())
    assert {name: bits(tensor) for name, tensor in again.items()} == {
        name: bits(tensor) for name, tensor in given_tensors.items()
    }


def test_every_tensor_begins_at_a_multiple_of_its_width(tmp_path) -> None:
    """Else a reader that maps the file into memory would have to copy."""
    content = {f"{number}": torch.zeros(3, dtype=dtype) for number, dtype in enumerate(NAMES)}
    path = tmp_path / "file.safetensors"
    with path.open("wb") as file:
        write_tensors(file, content, {"format": "pt"})
    raw = path.read_bytes()
    n_header = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + n_header])
    assert header.pop("__metadata__") == {"format": "pt"}
    begins = {name: 8 + n_header + entry["data_offsets"][0] for name, entry in header.items()}
    assert [name for name, begin in begins.items() if begin % content[name].element_size()] == []
    with safetensors.safe_open(path, "pt") as stored:
        assert stored.metadata() == {"format": "pt"}


def test_a_kind_that_the_format_does_not_have_is_refused() -> None:
    with pytest.raises(KeyError, match=r"torch\.complex128"):
        write_tensors(io.BytesIO(), {"x": torch.empty(1, dtype=torch.complex128)})
