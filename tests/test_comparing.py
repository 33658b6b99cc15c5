"""What differs between two nested mappings is named, all of it and nothing else."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot.storage.comparing import differences

PLAIN = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2) | st.lists(st.integers(0, 2), max_size=2)
)
NESTED = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(PLAIN, lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_size=3,
)


def leaves(value: object, path: str = "") -> dict[str, str]:
    """Each value that is no mapping, by its dotted path; written out, so that 1 is neither True nor 1.0."""
    if not isinstance(value, dict):
        return {path: repr(value)}
    return {found: text for name, inner in value.items() for found, text in leaves(inner, f"{path}.{name}").items()}


@settings(max_examples=150, deadline=None)
@given(stored=NESTED, now=NESTED)
def test_differences_are_all_that_is_not_the_same(stored: dict[str, object], now: dict[str, object]) -> None:
    assert differences(stored, json.loads(json.dumps(stored))) == []
    found = {f".{line.partition(': was ')[0]}" for line in differences(stored, now)}
    before, after = leaves(stored), leaves(now)
    changed = {path for path in {*before, *after} if before.get(path) != after.get(path)} - {""}
    assert all(any(path == name or path.startswith(f"{name}.") for name in found) for path in changed)
    assert bool(found) == (stored != now or json.dumps(stored, sort_keys=True) != json.dumps(now, sort_keys=True))


def test_a_difference_names_its_path_and_both_values() -> None:
    stored = {"data": {"text": "a.txt", "rows": [1, 2]}, "seed": 1, "gone": None}
    now = {"data": {"text": "b.txt", "rows": (1, 2)}, "seed": True, "new": {"x": 1}}
    assert differences(stored, now) == [
        "data.text: was 'a.txt', is 'b.txt'",
        "seed: was 1, is True",
        "gone: was None, is absent",
        "new: was absent, is {'x': 1}",
    ]
