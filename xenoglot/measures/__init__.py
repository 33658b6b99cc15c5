"""Measures of weights, activations and gradients: add a file here, and it is found by its name.

```python
from xenoglot import measures

measures.get("per")(weight_DE)                          # one matrix
measures.get("cka")(activations_ND, others_NE)          # two representations of the same examples
measures.names(of="pair")                               # ('cka', 'cka_debiased', ...)
```
"""

from __future__ import annotations

from typing import Any

from xenoglot.measures.base import Kind, Measure, Product, Values, measure
from xenoglot.registry import Finder

__all__ = ["Kind", "Measure", "Product", "Values", "get", "measure", "members", "names", "registry"]


class Measures(Finder[Measure]):
    """All measures, found by name."""

    advice = "my_module:my_measure"
    allowed = "a function under the decorator xenoglot.measures.measure"

    def _is_member(self, candidate: Any) -> bool:
        return isinstance(candidate, Measure)


registry = Measures(kind="measure", package=__name__, base="xenoglot.measures.base:Measure")
"""All measures by name."""
get = registry.get
members = registry.members


def names(of: Kind | None = None) -> tuple[str, ...]:
    """List the measures, sorted; only those of a kind of thing, if it is given.

    Example:
        >>> names(of="gradients")
        ('gradient_cosine',)
    """
    return tuple(sorted(name for name, each in members().items() if of in (None, each.of)))
