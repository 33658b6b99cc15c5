"""Heads, which sort sentences into the classes of a task: add a file here, and it is found by its name."""

from xenoglot.heads.base import Head, Weights
from xenoglot.registry import Registry

__all__ = ["Head", "Weights", "get", "names", "registry"]

registry: Registry[Head] = Registry(kind="head", package=__name__, base="xenoglot.heads.base:Head")
"""All heads by name."""
get = registry.get
names = registry.names
