"""Xenoglot: the lab for meta language models, measured against the exact loss of the best possible learner.

Importing it is quick: a part (and torch or numba with it) is loaded when it is first used.

```python
import xenoglot

family = xenoglot.languages.MetaLMv1(vocab_size=64)
batch = family.batch(batch_size=8, length=4096, seed=0, floor=True)
```

It also registers the Gymnasium environments ``meta-lm-v1`` and ``meta-lm-v2``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from xenoglot import (
        adaptation,
        batches,
        checkpoint,
        config,
        decoder,
        environments,
        episodes,
        errors,
        evaluations,
        figures,
        generate,
        heads,
        kernels,
        languages,
        measures,
        mechanisms,
        objectives,
        optim,
        options,
        predictors,
        registry,
        report,
        rng,
        text,
        tracking,
        trainer,
    )

    __version__: str

__all__ = [
    "__version__",
    "adaptation",
    "batches",
    "checkpoint",
    "config",
    "decoder",
    "environments",
    "episodes",
    "errors",
    "evaluations",
    "figures",
    "generate",
    "heads",
    "kernels",
    "languages",
    "measures",
    "mechanisms",
    "objectives",
    "optim",
    "options",
    "predictors",
    "registry",
    "report",
    "rng",
    "text",
    "tracking",
    "trainer",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


_ENVIRONMENTS = {"meta-lm-v1": "MetaLMv1Environment", "meta-lm-v2": "MetaLMv2Environment"}
for _id, _class in _ENVIRONMENTS.items():
    # Without Gymnasium's wrappers, so that what `make` returns answers `data_generator` and its kin itself.
    gymnasium.register(
        id=_id, entry_point=f"xenoglot.environments:{_class}", order_enforce=False, disable_env_checker=True
    )
for _id in _ENVIRONMENTS:
    # They are two kinds of language, not two versions of one: Gymnasium would call the first out of date.
    gymnasium.registry[_id].version = None
