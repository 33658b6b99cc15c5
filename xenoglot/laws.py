r"""What the best learner expects of each position, to be learned instead of the one word that came.

A model q that reads x learns from targets y that come with the probability p(y | x). Since

.. math::
    E_{y \sim p(\cdot | x)}\left[-\nabla \ln q(y | x)\right] = -\nabla \sum_v p(v | x) \ln q(v | x)

learning from the law p itself moves the model the same way on average, to the same best model, without the noise of
drawing y. p is what the exact predictor of the family's own prior says, who knows no more than the model: the rules of
the family, and the tokens so far. A run's ``data.targets`` asks for it.

Source: conditioning on what is known makes an estimate no worse (Rao 1945, Blackwell 1947); a predictor's whole
distribution as the target is distillation (Hinton et al. 2015, arXiv 1503.02531). Where we differ: the teacher is no
trained model, but the best there can be.
"""

from __future__ import annotations

import numpy as np

from xenoglot import predictors
from xenoglot.errors import OptionError
from xenoglot.languages.base import Family, Nats, Tokens
from xenoglot.predictors import Predictor

__all__ = ["best_learner", "laws"]


def best_learner(family: Family, n_languages: int | None = None) -> Predictor:
    """Return the predictor who knows the family's prior, and no language.

    Args:
        family: Whose languages are read.
        n_languages: How many there are; of a few, another learner is the best.

    Raises:
        OptionError: If there is none: only bounds, or a pool of languages.

    Example:
        >>> from xenoglot.languages import Markov
        >>> best_learner(Markov(vocab_size=4, order=1)).name
        'dirichlet-markov'
    """
    if n_languages is not None:
        raise OptionError("data.targets", "law", f"words where there are only {n_languages} languages")
    known = [each for each in predictors.references(family) if each.exactness != "bound"]
    if not known:
        raise OptionError(
            "data.targets",
            "law",
            f"words for these languages of {family.name}",
            "No predictor is known that has the prior of their family; MetaLM-1 has one with visible separators.",
        )
    return known[0]


def laws(learner: Predictor, inputs: Tokens) -> Nats:
    """Return how probable each id is as the next target, float32 [B, T, V].

    Args:
        learner: Who reads.
        inputs: Ids [B, T].

    Example:
        >>> from xenoglot.languages import Markov
        >>> laws(best_learner(Markov(vocab_size=2, order=1)), np.array([[1, 1]], np.int32)).round(2)[0].tolist()
        [[0.0, 0.5, 0.5], [0.0, 0.6700000166893005, 0.33000001311302185]]
    """
    return np.exp(learner.predict(inputs)).astype(np.float32)
