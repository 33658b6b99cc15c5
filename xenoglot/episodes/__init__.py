"""Episodes: add a source of tasks here, and it is found by its name."""

from xenoglot.episodes.base import SPLITS, Episode, EpisodeSource, Examples, LanguageEpisode
from xenoglot.registry import Registry

__all__ = ["SPLITS", "Episode", "EpisodeSource", "Examples", "LanguageEpisode", "get", "names", "registry"]

registry: Registry[EpisodeSource] = Registry(
    kind="episode source", package=__name__, base="xenoglot.episodes.base:EpisodeSource"
)
"""All sources of tasks by name."""
get = registry.get
names = registry.names
