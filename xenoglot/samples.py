"""Samples that `xenoglot generate` wrote, as rows to learn from: text, ``.npy`` or ``.parquet``, one file or shards.

``.npy`` is read where it stands. Text and parquet have no rows that can be found without reading all before them, so
they go into files of tokens once, as int32 [N, 2, L] too.

Shapes: N rows, L tokens of a row.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xenoglot.corpus.prepared import made_folder
from xenoglot.corpus.text_files import sha256_of
from xenoglot.corpus.token_files import TokenFile, found_token_file, write_token_file
from xenoglot.errors import DataError, MissingExtraError, OptionError
from xenoglot.held_out import FEWEST_ROWS, measured_rows, training_part
from xenoglot.languages.base import Nats, Tokens
from xenoglot.permutation import EpochOrder

__all__ = ["StoredSamples"]

Pairs: TypeAlias = NDArray[Any]  # [N, 2, L]: inputs and targets

ENDINGS = (".txt", ".npy", ".parquet")
LAYOUT = 1  # of the files that text and parquet are turned into
ROWS_AT_ONCE = 256
SCANNED_TOKENS = 1 << 20
LINE = re.compile(rb"\d{1,10},\d{1,10}(?:\t\d{1,10},\d{1,10})*")


class StoredSamples:
    """Rows of files, as they are; the last tenth of the rows is held out.

    Args:
        path: A file, or a folder whose ``.txt``, ``.npy`` and ``.parquet`` files are read in the order of their names.
        cache_dir: Where text and parquet are kept as tokens.
        n_tokens: How many ids there may be; one more than the largest that occurs if None.
        max_length: Tokens that a row may have at most; any number if None.

    Attributes:
        length: Tokens of a row, L.
        n_tokens: How many ids there are.
        source: What to call the samples in messages.
        sha256: Digest of all rows, whatever the format and the shards.

    Raises:
        DataError: If there is no such file, or it holds no samples, or too few, or rows of different lengths, or an id
            beyond the allowed ones.
        OptionError: If the rows are longer than ``max_length``.
        MissingExtraError: If there is parquet without `pyarrow`.

    Example:
        >>> import tempfile, xenoglot
        >>> from xenoglot.generate import write_samples
        >>> family = xenoglot.languages.get("metalm-v1")(vocab_size=16)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = write_samples(family, f"{folder}/a.npy", samples=40, length=8, seed=0, shards=4)
        ...     samples = StoredSamples(folder, cache_dir=f"{folder}/.tokens")
        ...     inputs, targets = samples.rows(range(32), seed=0)
        >>> inputs.shape, targets.shape, samples.length
        ((32, 8), (32, 8), 8)
    """

    def __init__(
        self, path: str | Path, *, cache_dir: str | Path, n_tokens: int | None = None, max_length: int | None = None
    ) -> None:
        self._files = files = _files_of(Path(path))
        self._shards = [_opened(file, Path(cache_dir)) for file in files]
        self.source = str(path)
        self.length = int(self._shards[0].shape[2])
        for file, shard in zip(files, self._shards, strict=True):
            if shard.shape[2] != self.length:
                raise DataError(f"{file}: got rows of {shard.shape[2]} tokens; those of {files[0]} have {self.length}.")
        if max_length is not None and self.length > max_length:
            raise OptionError(
                "model.max_seq_len", max_length, f"at least {self.length}, the tokens of a row of {self.source}"
            )
        self._edges = np.cumsum([0, *map(len, self._shards)])
        n_rows = int(self._edges[-1])
        if n_rows < FEWEST_ROWS:
            raise DataError(
                f"{self.source}: got {n_rows} rows; allowed: at least {FEWEST_ROWS}, a tenth of them held out."
            )
        self._n_training = training_part(n_rows)
        largest, self.sha256 = _scanned(files, self._shards, n_tokens)
        self.n_tokens = largest + 1 if n_tokens is None else n_tokens

    def rows(self, numbers: Sequence[int] | NDArray[np.int64], seed: int) -> tuple[Tokens, Tokens]:
        """Read rows of the training part: every epoch all of them, in a random order of its own.

        Args:
            numbers: Which of the seed's rows; they go on without end, from epoch to epoch.
            seed: 0 to 2^63 - 1.

        Returns:
            Inputs and targets, int32 [B, L].
        """
        _, rows = EpochOrder(self._n_training, seed)(numbers)
        return self._read(rows.tolist())

    def held_out_windows(self) -> Iterator[tuple[Tokens, Tokens]]:
        """Read the held-out rows, or as many of them as have 2^20 tokens: inputs and targets [N, L]."""
        yield self._read(self._held_out.tolist())

    def held_out_floor_nats(self) -> Nats | None:
        """Read the floor of the same rows, float32 [N, L]; None unless every file keeps it, as parquet can."""
        parts = []
        for file, first, last in zip(self._files, self._edges[:-1], self._edges[1:], strict=True):
            wanted = self._held_out[(self._held_out >= first) & (self._held_out < last)] - first
            part = _floor_of_parquet(file, wanted) if file.suffix.lower() == ".parquet" else None
            if part is None:
                return None
            parts.append(part)
        return np.concatenate(parts).reshape(-1, self.length)

    @property
    def _held_out(self) -> NDArray[np.int64]:
        return self._n_training + measured_rows(int(self._edges[-1]) - self._n_training, self.length)

    def token_bytes(self, token: int) -> bytes:
        """Return nothing: the ids stand for no text."""
        return b""

    def tokenizer_files(self) -> dict[str, bytes]:
        """Return nothing: there is no tokenizer."""
        return {}

    def _read(self, rows: Iterable[int]) -> tuple[Tokens, Tokens]:
        """Copy rows by their numbers over all shards."""
        found = []
        for row in rows:
            shard = int(np.searchsorted(self._edges, row, side="right")) - 1
            found.append(self._shards[shard][row - self._edges[shard]])
        pairs = np.stack(found).astype(np.int32)
        return pairs[:, 0], pairs[:, 1]


def _files_of(path: Path) -> list[Path]:
    if not path.exists():
        raise DataError(f"{path}: there are no such samples. Name a file that `xenoglot generate` wrote, or a folder.")
    if not path.is_dir():
        return [path]
    shown = [file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")]
    files = sorted(file for file in shown if file.suffix.lower() in ENDINGS)
    if not files:
        raise DataError(f"{path}: got a folder without samples; allowed: {', '.join(ENDINGS)} files in it.")
    return files


def _scanned(files: list[Path], shards: list[Pairs], n_tokens: int | None) -> tuple[int, str]:
    """Look at every id once, and return the largest and the digest of all rows."""
    digest, largest = hashlib.sha256(), 0
    most = 2**31 if n_tokens is None else n_tokens
    for file, shard in zip(files, shards, strict=True):
        rows_at_once = max(1, SCANNED_TOKENS // (2 * shard.shape[2]))
        for first in range(0, len(shard), rows_at_once):
            pairs = np.asarray(shard[first : first + rows_at_once])
            beyond = np.argwhere((pairs < 0) | (pairs >= most))
            if len(beyond):
                row, side, place = beyond[0]
                raise DataError(
                    f"{file}, row {first + row}: {('input', 'target')[side]} {place} is {pairs[row, side, place]}; "
                    f"allowed: ids from 0 to {most - 1}."
                )
            largest = max(largest, int(pairs.max()))
            digest.update(np.ascontiguousarray(pairs, "<i4").data)
    return largest, digest.hexdigest()


# --- formats ---------------------------------------------------------------------------------------------------------


def _opened(path: Path, cache_dir: Path) -> Pairs:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _opened_npy(path)
    read = _pairs_of_parquet if suffix == ".parquet" else _pairs_of_text
    return _as_tokens(path, cache_dir, read).tokens


def _opened_npy(path: Path) -> Pairs:
    try:
        pairs: Pairs = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: it cannot be read as .npy: {error}.") from error
    if pairs.ndim != 3 or pairs.shape[1] != 2 or 0 in pairs.shape or not np.issubdtype(pairs.dtype, np.integer):
        raise DataError(f"{path}: got {pairs.dtype} of shape {pairs.shape}; allowed: whole numbers [N, 2, L].")
    return pairs


def _as_tokens(path: Path, cache_dir: Path, read: Callable[[Path], Iterator[Pairs]]) -> TokenFile:
    """Return the rows of a file as a file of tokens, made now or earlier."""
    source = sha256_of(path)
    name = hashlib.sha256(f"samples {LAYOUT} {path.suffix.lower()} {source}".encode()).hexdigest()[:32]
    target = made_folder(cache_dir) / f"{name}.tokens"
    if (found := found_token_file(target)) is not None:
        return found
    pieces = read(path)
    first = next(pieces, None)
    if first is None:
        raise DataError(f"{path}: got an empty file; allowed: samples, such as `xenoglot generate` writes.")

    def all_pieces() -> Iterator[Pairs]:
        yield first
        for piece in pieces:
            if piece.shape[2] != first.shape[2]:
                raise DataError(
                    f"{path}: got rows of {first.shape[2]} and of {piece.shape[2]} tokens; allowed: one length."
                )
            yield piece

    write_token_file(
        target,
        all_pieces(),
        dtype=np.int32,
        n_tokens=None,
        row_shape=first.shape[1:],
        facts={"source": path.name, "source_sha256": source},
    )
    return TokenFile(target)


def _pairs_of_text(path: Path) -> Iterator[Pairs]:
    """Read lines of tab-separated ``input,target`` pairs."""
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                content = line.rstrip(b"\r\n")
                if content:
                    yield _pairs_of_line(content, f"{path}, line {number}")
    except OSError as error:
        raise DataError(f"{path}: the samples cannot be read: {error.strerror}.") from error


def _pairs_of_line(line: bytes, where: str) -> Pairs:
    if not LINE.fullmatch(line):
        shown = line[:40].decode(errors="replace")
        raise DataError(f"{where}: got {shown!r}; allowed: pairs such as 3,5 with tabs between them.")
    numbers = np.array(line.replace(b"\t", b",").split(b",")).astype(np.int64)
    if numbers.max() >= 2**31:
        raise DataError(f"{where}: got id {numbers.max()}; allowed: 0 to {2**31 - 1}.")
    return numbers.reshape(1, -1, 2).transpose(0, 2, 1)


def _pairs_of_parquet(path: Path) -> Iterator[Pairs]:
    """Read the columns ``inputs`` and ``targets``, lists of whole numbers."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("pyarrow", extra="data", purpose=f"reading parquet ({path})") from error
    try:
        for batch in pq.ParquetFile(path).iter_batches(ROWS_AT_ONCE, columns=["inputs", "targets"]):
            if batch.num_columns != 2:
                raise DataError(f"{path}: got no columns 'inputs' and 'targets', which samples have.")
            if batch.num_rows:
                lists = [np.stack([row.values.to_numpy(False) for row in column]) for column in batch.columns]
                yield _checked_pairs(np.stack(lists, axis=1), path)
    except (OSError, pa.ArrowException, AttributeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: it cannot be read as samples: {error}. Rows are lists of one length.") from error


def _checked_pairs(pairs: Pairs, path: Path) -> Pairs:
    if not np.issubdtype(pairs.dtype, np.integer) or pairs.min() < 0 or pairs.max() >= 2**31:
        raise DataError(
            f"{path}: got {pairs.dtype} from {pairs.min()} to {pairs.max()}; allowed: ids from 0 to {2**31 - 1}."
        )
    return pairs


def _floor_of_parquet(path: Path, wanted: NDArray[np.int64]) -> Nats | None:
    """Read the floor of some rows; None if the file does not keep it."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    if "floor_nats" not in file.schema_arrow.names:
        return None
    parts, first = [np.empty(0, np.float32)], 0
    for batch in file.iter_batches(ROWS_AT_ONCE, columns=["floor_nats"]):
        rows = wanted[(wanted >= first) & (wanted < first + batch.num_rows)] - first
        parts += [batch.column(0)[row].values.to_numpy(False).astype(np.float32) for row in rows.tolist()]
        first += batch.num_rows
    return np.concatenate(parts)
