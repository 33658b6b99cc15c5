"""Samples to files: any family, in constant memory, the same bytes from any number of processes.

Rows are generated in chunks of a size that depends on nothing but the row's length; processes turn chunks into
payloads, and one writer puts them into the files in order.

```python
family = xenoglot.languages.get("metalm-v1")(vocab_size=64)
write_samples(family, "samples.npy", samples=1000, length=4096, seed=0)
```
"""

from __future__ import annotations

import collections
import contextlib
import functools
import io
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TextIO, TypeAlias

from xenoglot.kernels import available_threads
from xenoglot.languages.base import LONGEST_ROW, Family
from xenoglot.options import whole_number
from xenoglot.rng import check_seed
from xenoglot.sample_files import SampleFormat, TextFormat, format_of
from xenoglot.storage.files import StagedFiles

__all__ = ["shard_paths", "write_samples", "write_text"]

CHUNK_TOKENS = 1 << 18
"""About how many tokens are generated at a time: enough to keep threads busy, little enough to stay in the cache."""
CHUNKS_AHEAD = 2  # for each process, so that none waits for the writer
MOST_SHARDS = 99_999

Chunk: TypeAlias = tuple[int, int]  # the first row and the number of rows
Report: TypeAlias = Callable[[int], object]


def write_samples(
    family: Family,
    path: str | os.PathLike[str],
    *,
    samples: int,
    length: int,
    seed: int,
    file_format: str | None = None,
    floor: bool = False,
    shards: int = 1,
    workers: int = 1,
    report: Report | None = None,
) -> list[Path]:
    """Write samples to files that appear when all of them are whole.

    Sample i is row i of ``family.batch(..., seed=seed)``, whatever the shards and workers.

    Args:
        family: What to draw languages from; every sample has its own.
        path: Where to. With several shards ``name.npy`` stands for ``name-00000-of-00004.npy`` and so on.
        samples: Rows, N.
        length: Tokens a row, L.
        seed: 0 to 2^63 - 1.
        file_format: ``txt``, ``npy`` or ``parquet``; what the path's ending says if None, and text if it says nothing.
        floor: Whether to add each token's floor in nats; parquet only.
        shards: Files to divide the rows over.
        workers: Processes to generate in. They are started afresh, so a script of your own needs the usual
            ``if __name__ == "__main__":``.
        report: Called with the number of tokens of each chunk written.

    Returns:
        The files, in order.

    Raises:
        OptionError: If an argument is not allowed.
        OutputError: If a file cannot be written; what was there before is untouched.
        MissingExtraError: If parquet is wanted without pyarrow.

    Example:
        >>> import tempfile, xenoglot
        >>> family = xenoglot.languages.get("metalm-v1")(vocab_size=16)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path] = write_samples(family, f"{folder}/two.txt", samples=2, length=8, seed=0)
        ...     len(path.read_text().splitlines())
        2
    """
    whole_number("samples", samples, minimum=1)
    whole_number("length", length, minimum=1, maximum=LONGEST_ROW)
    whole_number("shards", shards, minimum=1, maximum=min(samples, MOST_SHARDS))
    whole_number("workers", workers, minimum=1)
    sample_format = format_of(Path(path), file_format, floor)(length=length, floor=floor, threads=_threads(workers))
    make = functools.partial(_make_chunk, family, sample_format, check_seed(seed))
    paths = shard_paths(Path(path), shards)
    edges = [samples * shard // shards for shard in range(shards + 1)]
    with StagedFiles() as staged, _made(make, _chunks(edges, length), workers) as payloads:
        for shard, target in enumerate(paths):
            n_rows = edges[shard + 1] - edges[shard]
            with (
                staged.open(target) as file,
                sample_format.writer(file, n_rows) as write,
            ):
                _write_rows(write, payloads, n_rows, length, report)
    return paths


def write_text(
    family: Family,
    stream: BinaryIO | TextIO,
    *,
    samples: int,
    length: int,
    seed: int,
    workers: int = 1,
    report: Report | None = None,
) -> None:
    """Write samples as text to an open stream; the arguments are those of `write_samples`.

    Raises:
        OptionError: If an argument is not allowed.
    """
    whole_number("samples", samples, minimum=1)
    whole_number("length", length, minimum=1, maximum=LONGEST_ROW)
    whole_number("workers", workers, minimum=1)
    make = functools.partial(
        _make_chunk, family, TextFormat(length=length, threads=_threads(workers)), check_seed(seed)
    )

    def write(pieces: list[Any]) -> None:
        for piece in pieces:
            if isinstance(stream, io.TextIOBase):
                stream.write(piece.tobytes().decode("ascii"))
            else:
                stream.write(piece)

    with _made(make, _chunks([0, samples], length), workers) as payloads:
        _write_rows(write, payloads, samples, length, report)


def shard_paths(path: Path, shards: int) -> list[Path]:
    """Name the files of a sharded output.

    Example:
        >>> [path.name for path in shard_paths(Path("demo.v1.txt"), 2)]
        ['demo.v1-00000-of-00002.txt', 'demo.v1-00001-of-00002.txt']
    """
    if shards == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{shard:05d}-of-{shards:05d}{path.suffix}") for shard in range(shards)]


def _threads(workers: int) -> int | None:
    """Divide the CPUs over the processes."""
    return None if workers == 1 else max(1, available_threads() // workers)


def _make_chunk(family: Family, sample_format: SampleFormat, seed: int, chunk: Chunk) -> Any:
    start, n_rows = chunk
    batch = family.batch(
        n_rows, sample_format.length, seed, start=start, floor=sample_format.floor, threads=sample_format.threads
    )
    return sample_format.encode(batch)


def _chunks(edges: list[int], length: int) -> Iterator[Chunk]:
    """Divide rows into chunks, none across the edge of a shard."""
    most_rows = max(1, CHUNK_TOKENS // length)
    for first, last in itertools.pairwise(edges):
        for start in range(first, last, most_rows):
            yield start, min(most_rows, last - start)


@contextlib.contextmanager
def _made(make: Callable[[Chunk], Any], chunks: Iterable[Chunk], workers: int) -> Iterator[Iterator[tuple[Chunk, Any]]]:
    """Make the payloads of chunks, in order: here, or in worker processes."""
    if workers == 1:
        yield ((chunk, make(chunk)) for chunk in chunks)
        return
    # Started afresh, not forked: a fork would copy locks that other threads hold.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker)
    try:
        yield _made_ahead(pool, make, chunks, CHUNKS_AHEAD * workers)
    finally:
        pool.shutdown(cancel_futures=True)


def _made_ahead(
    pool: ProcessPoolExecutor, make: Callable[[Chunk], Any], chunks: Iterable[Chunk], most: int
) -> Iterator[tuple[Chunk, Any]]:
    waiting: collections.deque[tuple[Chunk, Future[Any]]] = collections.deque()
    for chunk in chunks:
        waiting.append((chunk, pool.submit(make, chunk)))
        if len(waiting) == most:
            chunk, future = waiting.popleft()
            yield chunk, future.result()
    for chunk, future in waiting:
        yield chunk, future.result()


def _prepare_worker() -> None:
    """Leave Ctrl-C to the parent, and end when it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _write_rows(
    write: Callable[[Any], object],
    payloads: Iterator[tuple[Chunk, Any]],
    n_rows: int,
    length: int,
    report: Report | None,
) -> None:
    written = 0
    while written < n_rows:
        (_, count), payload = next(payloads)
        write(payload)
        written += count
        if report is not None:
            report(count * length)
