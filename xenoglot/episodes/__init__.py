"""Episodes: add a source of tasks here, and it is found by its name.

```python
xenoglot.episodes.SMLMT.from_sentences("book.txt")   # tasks of masked words
xenoglot.episodes.get("labelled")                    # the class, by name
xenoglot.episodes.get("my_module:Mine")              # your own, by path
```
"""

from typing import TYPE_CHECKING, Any

from xenoglot.episodes.base import SPLITS, Episode, EpisodeSource, Examples, LanguageEpisode
from xenoglot.registry import Registry

if TYPE_CHECKING:
    from xenoglot.episodes.labelled import LabelledTasks as LabelledTasks
    from xenoglot.episodes.smlmt import SMLMT as SMLMT

__all__ = ["SPLITS", "Episode", "EpisodeSource", "Examples", "LanguageEpisode", "get", "names", "registry"]

registry: Registry[EpisodeSource] = Registry(
    kind="episode source", package=__name__, base="xenoglot.episodes.base:EpisodeSource"
)
"""All sources of tasks by name."""
get = registry.get
names = registry.names


def __getattr__(name: str) -> Any:
    """Find a registered source by the name of its class; only then are the files, and numba, imported."""
    if name[:1].isupper():
        for source in registry.members().values():
            if source.__name__ == name:
                return source
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
