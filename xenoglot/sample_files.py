"""What a file of samples looks like inside: text, ``.npy`` or ``.parquet``.

Each format turns a chunk of rows into a payload (pure, so that any process can do it) and writes payloads in order.

- Text: one line a sample, tab-separated ``input,target`` pairs in decimal: the format of the earlier systems.
- ``.npy``: int32 [N, 2, L]; ``[:, 0]`` are the inputs, ``[:, 1]`` the targets.
- ``.parquet``: columns ``inputs``, ``targets`` (lists of int32) and, if asked for, ``floor_nats`` (lists of float32).
"""

from __future__ import annotations

import contextlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, BinaryIO, ClassVar, TypeAlias

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from xenoglot.errors import MissingExtraError, OptionError, UnknownNameError
from xenoglot.kernels import compiled, run_rows
from xenoglot.languages.base import Batch, Tokens

__all__ = ["FORMATS", "NpyFormat", "ParquetFormat", "SampleFormat", "TextFormat", "format_of", "text_of"]


Write: TypeAlias = Callable[[Any], object]


@dataclass(frozen=True, kw_only=True)
class SampleFormat(ABC):
    """One way to write rows into a file.

    Attributes:
        length: Tokens a row, L.
        floor: Whether each token's floor is written too.
        threads: At most this many threads; as many as there are CPUs if None.
    """

    name: ClassVar[str]
    ending: ClassVar[str]

    length: int
    floor: bool = False
    threads: int | None = None

    @abstractmethod
    def encode(self, batch: Batch) -> Any:
        """Turn a chunk of rows into a payload."""

    @abstractmethod
    def writer(self, file: BinaryIO, n_rows: int) -> contextlib.AbstractContextManager[Write]:
        """Begin a file of ``n_rows`` rows; calling the result with each payload in turn fills it."""


class TextFormat(SampleFormat):
    """One line a sample, tab-separated ``input,target`` pairs."""

    name: ClassVar[str] = "txt"
    ending: ClassVar[str] = ".txt"

    def encode(self, batch: Batch) -> list[NDArray[np.uint8]]:
        return text_of(batch.inputs, batch.targets, self.threads)

    @contextlib.contextmanager
    def writer(self, file: BinaryIO, n_rows: int) -> Iterator[Write]:
        yield lambda pieces: [file.write(piece) for piece in pieces]


class NpyFormat(SampleFormat):
    """int32 [N, 2, L], written from front to back."""

    name: ClassVar[str] = "npy"
    ending: ClassVar[str] = ".npy"

    def encode(self, batch: Batch) -> NDArray[np.int32]:
        return np.stack([batch.inputs, batch.targets], axis=1).astype("<i4", copy=False)

    @contextlib.contextmanager
    def writer(self, file: BinaryIO, n_rows: int) -> Iterator[Write]:
        header = {"descr": "<i4", "fortran_order": False, "shape": (n_rows, 2, self.length)}
        np.lib.format.write_array_header_1_0(file, header)
        yield lambda rows: file.write(rows.data)


@dataclass(frozen=True, kw_only=True)
class ParquetFormat(SampleFormat):
    """Columns of lists; a row group a chunk."""

    name: ClassVar[str] = "parquet"
    ending: ClassVar[str] = ".parquet"

    def __post_init__(self) -> None:
        if importlib.util.find_spec("pyarrow") is None:
            raise MissingExtraError("pyarrow", extra="data", purpose="writing parquet")

    def encode(self, batch: Batch) -> list[NDArray[Any]]:
        return [batch.inputs, batch.targets, *([batch.floor_nats] if self.floor else [])]

    @contextlib.contextmanager
    def writer(self, file: BinaryIO, n_rows: int) -> Iterator[Write]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        fields = [("inputs", pa.list_(pa.int32())), ("targets", pa.list_(pa.int32()))]
        fields += [("floor_nats", pa.list_(pa.float32()))] if self.floor else []
        schema = pa.schema(fields)

        def columns(arrays: list[NDArray[Any]]) -> Any:
            offsets = np.arange(0, arrays[0].size + 1, self.length, dtype=np.int32)
            lists = [pa.ListArray.from_arrays(offsets, array.ravel()) for array in arrays]
            return pa.Table.from_arrays(lists, schema=schema)

        with pq.ParquetWriter(file, schema, compression="zstd") as parquet:
            yield lambda arrays: parquet.write_table(columns(arrays))


FORMATS: dict[str, type[SampleFormat]] = {
    sample_format.name: sample_format for sample_format in (TextFormat, NpyFormat, ParquetFormat)
}


def format_of(path: PurePath, name: str | None, floor: bool) -> type[SampleFormat]:
    """Return the format that was named, or else the one that the path's ending says: text unless it is known.

    Raises:
        UnknownNameError: If no format has that name.
        OptionError: If the floor is asked for in a format that has no place for it.
    """
    by_ending = {sample_format.ending: sample_format for sample_format in FORMATS.values()}
    if name is not None and name not in FORMATS:
        raise UnknownNameError("format", name, FORMATS)
    chosen = FORMATS[name] if name else by_ending.get(path.suffix.lower(), TextFormat)
    if floor and chosen is not ParquetFormat:
        raise OptionError("floor", True, f"false for {chosen.name}", "Only a .parquet file has a column for the floor.")
    return chosen


# --- text ------------------------------------------------------------------------------------------------------------
#
# A number below 10^4 is one look-up and one 8-byte store of its digits and the sign after it; the next store begins
# where the last one's characters end, and so overwrites what was stored too much.

BASE = 10_000
STORE_BYTES = 8


def text_of(inputs: Tokens, targets: Tokens, threads: int | None = None) -> list[NDArray[np.uint8]]:
    r"""Write rows as text: ``input,target`` pairs with tabs between them, one line a row.

    Args:
        inputs: int32 [B, L], not negative.
        targets: int32 [B, L], not negative.
        threads: At most this many threads; as many as there are CPUs if None.

    Returns:
        Pieces of ASCII, to be written one behind the other.

    Example:
        >>> inputs, targets = np.array([[1, 2], [30, 4]], np.int32), np.array([[2, 7], [4, 500]], np.int32)
        >>> b"".join(piece.tobytes() for piece in text_of(inputs, targets))
        b'1,2\t2,7\n30,4\t4,500\n'
    """
    most_digits = len(str(max(int(inputs.max()), int(targets.max()))))
    row_bytes = 2 * (most_digits + 1) * inputs.shape[1]
    pieces: dict[int, NDArray[np.uint8]] = {}

    def work(first: int, last: int) -> None:
        room = np.empty((last - first) * row_bytes + STORE_BYTES, np.uint8)
        n_bytes = _write_text(inputs[first:last], targets[first:last], _COMMA, _TAB, _PADDED, _LENGTHS, room)
        pieces[first] = room[:n_bytes]

    run_rows(work, n_rows=len(inputs), length=inputs.shape[1], threads=threads)
    return [pieces[first] for first in sorted(pieces)]


def _words(texts: list[str]) -> NDArray[np.uint64]:
    """Return each text as the eight bytes of one word, in the machine's own byte order."""
    return np.frombuffer("".join(text.ljust(STORE_BYTES, "\0") for text in texts).encode(), np.uint64)


_COMMA = _words([f"{number}," for number in range(BASE)])
_TAB = _words([f"{number}\t" for number in range(BASE)])
_PADDED = _words([f"{number:04d}" for number in range(BASE)])
_LENGTHS = np.array([len(f"{number},") for number in range(BASE)])


@intrinsic  # type: ignore[untyped-decorator]
def _store_word(typing_context: Any, room: Any, position: Any, word: Any) -> Any:
    """Store eight bytes at any position of a byte array: NumPy's views allow aligned ones only."""

    def build(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.gep(array.data, [arguments[1]])
        store = builder.store(arguments[2], builder.bitcast(place, ir.IntType(64).as_pointer()))
        store.align = 1
        return context.get_dummy_value()

    return types.void(room, types.int64, types.uint64), build


@compiled
def _write_text(inputs: Any, targets: Any, comma: Any, tab: Any, padded: Any, lengths: Any, room: Any) -> int:
    position = 0
    for row in range(len(inputs)):
        for t in range(inputs.shape[1]):
            # Spelt out twice: handing arrays to a function costs more than the two look-ups.
            number = inputs[row, t]
            if number < BASE:
                _store_word(room, position, comma[number])
                position += lengths[number]
            else:
                position = _write_large(number, comma, ord(","), padded, lengths, room, position)
            number = targets[row, t]
            if number < BASE:
                _store_word(room, position, tab[number])
                position += lengths[number]
            else:
                position = _write_large(number, tab, ord("\t"), padded, lengths, room, position)
        room[position - 1] = ord("\n")
    return position


@compiled
def _write_large(number: int, signed: Any, sign: int, padded: Any, lengths: Any, room: Any, position: int) -> int:
    """Write a number of five to ten digits, and the sign after it."""
    head = number // BASE
    top = head // BASE if head >= BASE else head
    _store_word(room, position, signed[top])
    position += lengths[top] - 1  # without the sign: it comes last
    if head >= BASE:
        _store_word(room, position, padded[head % BASE])
        position += 4
    _store_word(room, position, padded[number % BASE])
    room[position + 4] = sign
    return position + 5
