"""Reference predictors: add a file here, and it is found by its name.

```python
xenoglot.predictors.get("unknown-elements")   # the class, by name
xenoglot.predictors.get("my_module:Mine")     # your own, by path
xenoglot.predictors.names()
```
"""

from xenoglot.predictors.base import Exactness, Predictor, Prior
from xenoglot.predictors.context_tree import ContextTreeWeighting
from xenoglot.predictors.dirichlet import DirichletMarkov, UnknownOrderMarkov
from xenoglot.predictors.known_language import KnownLanguage
from xenoglot.predictors.noisy_repeats import NoisyRepeats
from xenoglot.predictors.pool import FinitePool
from xenoglot.registry import Registry

__all__ = [
    "ContextTreeWeighting",
    "DirichletMarkov",
    "Exactness",
    "FinitePool",
    "KnownLanguage",
    "NoisyRepeats",
    "Predictor",
    "Prior",
    "UnknownOrderMarkov",
    "get",
    "names",
    "registry",
]

registry: Registry[Predictor] = Registry(kind="predictor", package=__name__, base="xenoglot.predictors.base:Predictor")
"""All predictors by name."""
get = registry.get
names = registry.names
