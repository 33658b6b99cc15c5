"""What is not the same in two nested mappings of plain values: a run's options then and now, say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["differences"]


def differences(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name what is not the same in two nested mappings, one line for each value.

    Args:
        stored: What a checkpoint says.
        now: What is the case now; sequences are compared with lists, as JSON keeps them.

    Example:
        >>> differences({"data": {"text": "a.txt", "rows": [1, 2]}}, {"data": {"text": "b.txt", "rows": (1, 2)}})
        ["data.text: was 'a.txt', is 'b.txt'"]
        >>> differences({"seed": 1}, {})
        ['seed: was 1, is absent']
    """
    lines = []
    for name in dict.fromkeys((*stored, *now)):
        before, after = _plain(stored.get(name, _ABSENT)), _plain(now.get(name, _ABSENT))
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += [f"{name}.{line}" for line in differences(before, after)]
        elif before != after or type(before) is not type(after):
            lines.append(f"{name}: was {before!r}, is {after!r}")
    return lines


class _Absent:
    def __repr__(self) -> str:
        return "absent"


_ABSENT = _Absent()


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
