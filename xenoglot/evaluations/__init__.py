"""Evaluations: add a file here, and it is found by its name."""

from xenoglot.evaluations.base import Evaluation, Row
from xenoglot.registry import Registry

__all__ = ["Evaluation", "Row", "get", "names", "registry"]

registry: Registry[Evaluation] = Registry(
    kind="evaluation", package=__name__, base="xenoglot.evaluations.base:Evaluation"
)
"""All evaluations by name."""
get = registry.get
names = registry.names
