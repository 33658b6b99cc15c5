"""Arrays whose memory is used again are never used twice at once."""

from __future__ import annotations

import gc
import threading

import numpy as np

from xenoglot import memory
from xenoglot.memory import reused_empty

LARGE = (1024, 1024)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_comes_back_when_the_last_view_is_gone() -> None:
    array = reused_empty(LARGE, np.int32)
    place, view = address(array), array[3:].T
    view[:] = 7
    del array
    gc.collect()
    while_in_use = [reused_empty(LARGE, np.int32) for _ in range(4)]
    assert place not in map(address, while_in_use), "a view still needs it"
    assert (view == 7).all()
    del view, while_in_use
    gc.collect()
    assert place in [address(array) for array in [reused_empty(LARGE, np.int32) for _ in range(5)]]


def test_what_is_kept_is_bounded() -> None:
    arrays = [reused_empty(LARGE, np.float64) for _ in range(24)]
    del arrays
    gc.collect()
    assert sum(block.nbytes for block in memory._kept) <= memory.MOST_KEPT_BYTES


def test_threads_never_share_an_array() -> None:
    clashes: list[int] = []

    def work(number: int) -> None:
        for _ in range(60):
            mine = reused_empty(LARGE, np.int32)
            mine[:] = number
            if not (mine == number).all():
                clashes.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clashes == []


def test_small_arrays_are_ordinary() -> None:
    assert reused_empty((3, 2), np.int32).base is None
