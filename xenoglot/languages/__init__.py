"""Families of languages: add a file here, and it is found by its name.

```python
xenoglot.languages.get("metalm-v1")        # the class, by name
xenoglot.languages.get("my_module:Mine")   # your own, by path
xenoglot.languages.names()
```
"""

from xenoglot.languages.base import Batch, Family, Language
from xenoglot.registry import Registry

__all__ = ["Batch", "Family", "Language", "get", "names", "registry"]

registry: Registry[Family] = Registry(kind="family", package=__name__, base="xenoglot.languages.base:Family")
"""All families by name."""
get = registry.get
names = registry.names
