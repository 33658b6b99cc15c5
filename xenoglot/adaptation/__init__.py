"""Adapting a model to a task by gradient steps, and learning to be adapted."""

from xenoglot.adaptation.descent import Descended, Descent
from xenoglot.adaptation.meta_learner import Adapted, MetaLearner, MetaResult
from xenoglot.config.adaptation import AdaptationConfig, ClassifierHeadConfig

__all__ = [
    "AdaptationConfig",
    "Adapted",
    "ClassifierHeadConfig",
    "Descended",
    "Descent",
    "MetaLearner",
    "MetaResult",
]
