"""Datasets with a column of texts, or of ids that others made of texts.

Parquet files and datasets with a name on the Hugging Face Hub are read row by row, never whole; a row is a document.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xenoglot.corpus.base import Corpus, Document, encoded
from xenoglot.corpus.text_files import sha256_of
from xenoglot.errors import DataError, MissingExtraError

__all__ = ["HubDataset", "ParquetFiles", "open_dataset"]

COLUMNS = ("text", "content", "input_ids")
ROWS_AT_ONCE = 256
MOST_IDS = 2**31


class _Column(Corpus):
    """A dataset of which one column is read."""

    has_many_documents = True
    column: str

    @abstractmethod
    def _values(self) -> Iterator[tuple[str, Any]]:
        """Go through the column's values, each with its place."""

    def documents(self) -> Iterator[Document]:
        for where, value in self._values():
            if value is None:
                continue
            if self.holds_ids:
                yield Document(where=where, ids=_checked_ids(value, where))
            elif value:
                yield Document(where=where, pieces=[encoded(value, where)])


class ParquetFiles(_Column):
    """Local parquet files.

    Args:
        path: A file, or a folder whose ``.parquet`` files are read in the order of their names.
        column: Which column; the first of text, content and input_ids that there is if None.

    Raises:
        DataError: If there is no such file or column, or the column holds neither text nor ids.
        MissingExtraError: If `pyarrow` is not installed.
    """

    def __init__(self, path: str | Path, column: str | None = None) -> None:
        self.name = str(path)
        self.files = sorted(Path(path).rglob("*.parquet")) if Path(path).is_dir() else [Path(path)]
        schema = self._opened(self.files[0]).schema_arrow
        self.column = _chosen(column, schema.names, self.name)
        self.holds_ids = _holds_ids(str(schema.field(self.column).type), self.column, self.name)

    def _values(self) -> Iterator[tuple[str, Any]]:
        import pyarrow as pa

        for path in self.files:
            file, row = self._opened(path), 0
            schema = file.schema_arrow
            if self.column not in schema.names:
                raise DataError(f"{path}: there is no column {self.column!r}, as {self.files[0]} has.")
            if _holds_ids(str(schema.field(self.column).type), self.column, str(path)) != self.holds_ids:
                raise DataError(f"{path}: column {self.column!r} holds something else than in {self.files[0]}.")
            try:
                for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=[self.column]):
                    for value in batch.column(0):
                        ids = self.holds_ids and value.is_valid
                        yield f"{path}, row {row}", value.values.to_numpy(False) if ids else value.as_py()
                        row += 1
            except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
                raise DataError(f"{path}: it cannot be read beyond row {row}: {error}. Is it whole?") from error

    @staticmethod
    def _opened(path: Path) -> Any:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise MissingExtraError("pyarrow", extra="data", purpose=f"reading parquet ({path})") from error
        try:
            return pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: it cannot be read as parquet: {error}. Name a .parquet file.") from error

    def digest(self) -> str:
        """Return the SHA-256 of the files' own and of the column's name."""
        contents = [sha256_of(path) for path in self.files]
        return hashlib.sha256(json.dumps(["parquet", self.column, contents]).encode()).hexdigest()


class HubDataset(_Column):
    """A dataset that the `datasets` library knows by name, streamed.

    Args:
        name: Its name on the Hub, or a folder that the library can read.
        subset: Which of its configurations; the only one if None.
        split: Which part of it.
        column: Which column; the first of text, content and input_ids that there is if None.

    Raises:
        DataError: If there is no such dataset, part or column, or the column holds neither text nor ids.
        MissingExtraError: If `datasets` is not installed.
    """

    def __init__(self, name: str, subset: str | None = None, split: str = "train", column: str | None = None) -> None:
        try:
            import datasets
        except ImportError as error:
            raise MissingExtraError("datasets", extra="hub", purpose=f"a dataset by name ({name})") from error
        self.name = name
        self.split = split
        try:
            self._builder = datasets.load_dataset_builder(name, subset)
            self._rows = self._builder.as_streaming_dataset(split=split)
            first: dict[str, Any] = next(iter(self._rows), {})
            self.column = _chosen(column, list(first), name)
            known = (fields[self.column] for fields in self._rows if fields[self.column] is not None)
            self.holds_ids = not isinstance(next(known, ""), str)
        except DataError:
            raise
        except Exception as error:  # no such name, no permission, no network: the library has an error for each
            raise DataError(
                f"{name}: the dataset cannot be read: {error}. Allowed: a name on the Hub, a parquet file, a folder."
            ) from error

    def _values(self) -> Iterator[tuple[str, Any]]:
        for row, fields in enumerate(self._streamed()):
            value, where = fields[self.column], f"{self.name}, {self.split}, row {row}"
            if value is not None and isinstance(value, str) == self.holds_ids:
                expected = "ids" if self.holds_ids else "text"
                raise DataError(f"{where}: column {self.column!r} holds {type(value).__name__}; allowed: {expected}.")
            yield where, value

    def _streamed(self) -> Iterator[dict[str, Any]]:
        try:
            yield from self._rows
        except Exception as error:  # the network, a damaged file: the library has an error for each
            raise DataError(f"{self.name}, {self.split}: it cannot be read to its end: {error}. Try again.") from error

    def digest(self) -> str:
        """Return the SHA-256 of what the library itself tells versions of a dataset apart by."""
        facts = ["hub", self.name, self._builder.config_id, self._builder.hash, self.split, self.column]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def open_dataset(
    name: str, *, subset: str | None = None, split: str = "train", column: str | None = None
) -> ParquetFiles | HubDataset:
    """Open a parquet file, a folder of them, or a dataset by name; the arguments are those of the two.

    Raises:
        DataError: If it cannot be read.
        MissingExtraError: If the library that it needs is not installed.
    """
    path = Path(name)
    is_parquet = path.suffix == ".parquet" or (path.is_dir() and next(path.rglob("*.parquet"), None) is not None)
    return ParquetFiles(path, column) if is_parquet else HubDataset(name, subset, split, column)


def _chosen(column: str | None, known: Sequence[str], name: str) -> str:
    found = next((candidate for candidate in COLUMNS if candidate in known), None) if column is None else column
    if found is None or found not in known:
        wanted = f"one of {', '.join(COLUMNS)}" if column is None else repr(column)
        raise DataError(
            f"{name}: got the columns {', '.join(known) or 'none'}; wanted: {wanted}. Name one: --data.dataset.column."
        )
    return found


def _holds_ids(kind: str, column: str, name: str) -> bool:
    is_list = kind.startswith(("list<", "large_list<", "fixed_size_list<"))
    if not is_list and kind not in ("string", "large_string", "string_view"):
        raise DataError(f"{name}: column {column!r} holds {kind}; allowed: text, or lists of ids.")
    return is_list


def _checked_ids(value: Any, where: str) -> NDArray[np.uint32]:
    ids = np.asarray(value)
    if ids.size == 0:
        return np.empty(0, np.uint32)
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise DataError(f"{where}: got {ids.dtype} of shape {ids.shape}; allowed: a list of ids, whole numbers.")
    if ids.min() < 0 or ids.max() >= MOST_IDS:
        raise DataError(f"{where}: got ids from {ids.min()} to {ids.max()}; allowed: 0 to {MOST_IDS - 1}.")
    return ids.astype(np.uint32)
