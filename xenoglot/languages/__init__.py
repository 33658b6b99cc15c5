"""Families of languages: add a file here, and it is found by its name.

```python
xenoglot.languages.MetaLMv1(vocab_size=64)   # a family
xenoglot.languages.get("metalm-v1")          # the class, by name
xenoglot.languages.get("my_module:Mine")     # your own, by path
xenoglot.languages.names()
```
"""

from typing import TYPE_CHECKING, Any

from xenoglot.errors import UnknownNameError
from xenoglot.languages.base import Batch, Family, Language
from xenoglot.registry import Registry

if TYPE_CHECKING:
    from xenoglot.languages.context_tree import ContextTreeSource as ContextTreeSource
    from xenoglot.languages.markov import Markov as Markov
    from xenoglot.languages.metalm_v1 import MetaLMv1 as MetaLMv1
    from xenoglot.languages.metalm_v2 import MetaLMv2 as MetaLMv2
    from xenoglot.languages.ngram_net import NgramNet as NgramNet

__all__ = ["Batch", "Family", "Language", "get", "names", "registry"]

registry: Registry[Family] = Registry(kind="family", package=__name__, base="xenoglot.languages.base:Family")
"""All families by name."""
get = registry.get
names = registry.names


def __getattr__(name: str) -> Any:
    """Find a registered family by the name of its class; only then are the files, and numba, imported."""
    complaint = f"module {__name__!r} has no attribute {name!r}"
    if name[:1].isupper():
        families = {family.__name__: family for family in registry.members().values()}
        if name in families:
            return families[name]
        complaint = f"{complaint}. {UnknownNameError('family', name, families)}"
    raise AttributeError(complaint)


def __dir__() -> list[str]:
    """List the families' classes too, so that they can be completed."""
    return sorted({*globals(), *(family.__name__ for family in registry.members().values())})
