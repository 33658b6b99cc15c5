"""Rows over threads.

A thread pool instead of numba's own: that one aborts the process after a fork, or when two threads enter it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba

__all__ = ["available_threads", "run_rows"]

SMALLEST_SHARE_TOKENS = 16384  # below this, handing work to a thread costs more than it saves

_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    global _pool  # a forked child has none of its parent's threads
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def available_threads() -> int:
    """Return how many threads a batch may use: the CPUs of this process, at most ``NUMBA_NUM_THREADS``."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cpus, int(numba.config.NUMBA_NUM_THREADS)))


def run_rows(work: Callable[[int, int], None], *, n_rows: int, length: int, threads: int | None) -> None:
    """Call ``work(first, last)`` over shares of the rows, on several threads if there is enough to do."""
    global _pool
    most = available_threads() if threads is None else threads
    shares = max(1, min(most, n_rows, n_rows * length // SMALLEST_SHARE_TOKENS))
    if shares == 1:
        work(0, n_rows)
        return
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=max(64, available_threads()), thread_name_prefix="xenoglot-rows")
    edges = [n_rows * share // shares for share in range(shares + 1)]
    jobs = [_pool.submit(work, first, last) for first, last in itertools.pairwise(edges)]
    for job in jobs:
        job.result()
