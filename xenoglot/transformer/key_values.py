"""What attention remembers of the tokens that were read, so that a further one costs one step, not all of them again.

```python
cache = KeyValueCache(max_positions=decoder.config.max_seq_len)
logits = decoder(prompt, cache=cache)           # reads the prompt
logits = decoder(next_ids[:, None], cache=cache)    # reads one token more
```

Shapes: B rows, K key-value heads, S positions, C numbers per head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xenoglot.errors import DataError

__all__ = ["KeyValueCache"]


class KeyValueCache:
    """Keys and values of every layer at every position read so far, after the rotation.

    Memory is laid out for ``n_positions`` when the first token comes, in its type and on its device, and doubled when
    that is not enough. What is kept has no gradient: training does not read in pieces.

    Args:
        max_positions: The most that can be read, the model's ``max_seq_len``.
        n_positions: For how many positions memory is laid out at first; all of them if None.
    """

    def __init__(self, *, max_positions: int, n_positions: int | None = None) -> None:
        self.max_positions = max_positions
        self.n_read = 0
        """How many positions have been read."""
        self._room = min(max_positions, n_positions or max_positions)
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []

    def check_room(self, n_rows: int, n_tokens: int) -> None:
        """Refuse what cannot be read on.

        Raises:
            DataError: If there are more tokens than positions left, or other rows than before.
        """
        if self.n_read + n_tokens > self.max_positions:
            raise DataError(
                f"input_ids: got {n_tokens} more tokens after {self.n_read}; allowed: {self.max_positions} together, "
                "the model's max_seq_len. Begin with a new cache, or read with a longer model."
            )
        if self._keys and n_rows != len(self._keys[0]):
            raise DataError(
                f"input_ids: got {n_rows} rows; allowed: {len(self._keys[0])}, as many as the cache has read. "
                "Begin with a new cache for other rows."
            )

    def extend(self, layer: int, keys_BKTC: Tensor, values_BKTC: Tensor) -> tuple[Tensor, Tensor]:
        """Keep a layer's newest keys and values, and return all of them, [B, K, n_read + T, C] each.

        They count as read when the last layer has passed: `advance` says so.
        """
        end = self.n_read + keys_BKTC.shape[2]
        kept = []
        for memory, newest_BKTC in ((self._keys, keys_BKTC), (self._values, values_BKTC)):
            if layer == len(memory):
                memory.append(_empty(newest_BKTC, max(self._room, end)))
            elif end > memory[layer].shape[2]:
                larger_BKSC = _empty(newest_BKTC, min(self.max_positions, max(end, 2 * memory[layer].shape[2])))
                larger_BKSC[:, :, : self.n_read] = memory[layer][:, :, : self.n_read]
                memory[layer] = larger_BKSC
            memory[layer][:, :, self.n_read : end] = newest_BKTC.detach()
            kept.append(memory[layer][:, :, :end])
        return kept[0], kept[1]

    def advance(self, n_tokens: int) -> None:
        """Count tokens as read, when every layer has kept its own."""
        self.n_read += n_tokens


def _empty(like_BKTC: Tensor, n_positions: int) -> Tensor:
    n_rows, n_heads, _, head_size = like_BKTC.shape
    with torch.inference_mode(False):  # so that what inference mode began can be read on outside of it
        return like_BKTC.new_empty(n_rows, n_heads, n_positions, head_size)
