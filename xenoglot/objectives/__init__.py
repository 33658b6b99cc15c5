"""Objectives: add a file here, and it is found by its name."""

from xenoglot.objectives.base import Objective, Result
from xenoglot.registry import Registry

__all__ = ["Objective", "Result", "get", "names", "registry"]

registry: Registry[Objective] = Registry(kind="objective", package=__name__, base="xenoglot.objectives.base:Objective")
"""All objectives by name."""
get = registry.get
names = registry.names
