"""Reference predictors: add a file here, and it is found by its name.

```python
xenoglot.predictors.get("unknown-elements")   # the class, by name
xenoglot.predictors.get("my_module:Mine")     # your own, by path
xenoglot.predictors.names()
xenoglot.predictors.references(family)        # those that suit a family
```
"""

from xenoglot.errors import OptionError
from xenoglot.languages.base import Family
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
    "references",
    "registry",
]

registry: Registry[Predictor] = Registry(kind="predictor", package=__name__, base="xenoglot.predictors.base:Predictor")
"""All predictors by name."""
get = registry.get
names = registry.names


def references(family: Family) -> list[Predictor]:
    """Return the best learners to compare with on languages of a family that they do not know.

    Those that share the family's prior, exactly or nearly; only where there is none, those whose loss is a bound.

    Args:
        family: Whose languages are read.

    Example:
        >>> from xenoglot.languages import get
        >>> [predictor.name for predictor in references(get("markov")(order=1))]
        ['dirichlet-markov']
    """
    suiting = []
    for predictor in registry.members().values():
        try:
            suiting.append(predictor.for_family(family))
        except OptionError:
            continue  # it has nothing to say about this family
    return [made for made in suiting if made.exactness != "bound"] or suiting
