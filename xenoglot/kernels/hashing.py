"""A hash table for compiled code, to remember only the contexts that were met.

Open addressing with linear probing over a power of two of slots. A key is a 64-bit number; 0 means "empty", so callers
keep their keys above it. What belongs to a key is kept by the caller, in an array with one place per slot:

```python
keys = empty_slots(1000)
totals = np.zeros(len(keys))
slot = slot_of(keys, key)   # of the key, or of the empty place where it belongs
keys[slot] = key
totals[slot] += 1
```
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xenoglot.kernels.compiling import compiled

__all__ = ["EMPTY", "empty_slots", "n_slots_of", "slot_of"]

EMPTY = np.uint64(0)

SHIFT_A, SHIFT_B, SHIFT_C = np.uint64(30), np.uint64(27), np.uint64(31)
FACTOR_A, FACTOR_B = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@compiled
def n_slots_of(n_keys: int) -> int:
    """Return how many slots up to ``n_keys`` keys have: at least twice as many, so that probing stays short."""
    n_slots = 16
    while n_slots < 2 * n_keys:
        n_slots *= 2
    return n_slots


@compiled
def empty_slots(n_keys: int) -> Any:
    """Return the slots for up to ``n_keys`` keys, uint64."""
    return np.zeros(n_slots_of(n_keys), np.uint64)


@compiled
def slot_of(keys: Any, key: int) -> int:
    """Return the slot that holds the key, or else the empty one where it belongs."""
    wanted = np.uint64(key)
    last = np.uint64(len(keys) - 1)
    mixed = (wanted ^ (wanted >> SHIFT_A)) * FACTOR_A  # the finaliser of SplitMix64 (Steele et al. 2014)
    mixed = (mixed ^ (mixed >> SHIFT_B)) * FACTOR_B
    slot = (mixed ^ (mixed >> SHIFT_C)) & last
    while keys[slot] != wanted and keys[slot] != EMPTY:
        slot = (slot + np.uint64(1)) & last
    return np.int64(slot)  # type: ignore[return-value]
