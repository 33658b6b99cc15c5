"""Any evaluation on any checkpoint: where the data comes from, which options there are.

```python
model = open_model("runs/first")
evaluation = evaluation_for(model, "in-context", {"n_languages": 64}, cache_dir=".tokens")
rows = evaluation(model.decoder, evaluation_rng(model))      # as while training, number for number
```

An evaluation's own options are those that it declares. What else it needs, a *source* makes of the checkpoint and of
further options; without any of those, what the run itself was measured on is measured again. An evaluation of one's own
(``my_module:Mine``) needs no source if all its fields are declared options.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xenoglot import evaluations
from xenoglot.applying.adapting import OpenedModel
from xenoglot.applying.evaluating_sources import (
    Domains,
    Languages,
    Samples,
    Source,
    Tagged,
    Tasks,
    Texts,
    missing_source,
)
from xenoglot.assembly.data import few_shot_evaluations, open_data
from xenoglot.errors import DataError, OptionError
from xenoglot.evaluations import Evaluation
from xenoglot.evaluations.few_shot import FewShot
from xenoglot.evaluations.held_out_samples import HeldOutSamples
from xenoglot.evaluations.in_context import FreshLanguages, HeldOutText
from xenoglot.evaluations.language_learning import LanguageLearning
from xenoglot.evaluations.perplexity import DomainPerplexity
from xenoglot.evaluations.tagging import Tagging
from xenoglot.options import Option, options_of
from xenoglot.rng import generator

__all__ = ["evaluation_class", "evaluation_for", "evaluation_rng", "options_by_name"]

SOURCES: Mapping[type[Evaluation], type[Source]] = {
    DomainPerplexity: Domains,
    FewShot: Tasks,
    FreshLanguages: Languages,
    HeldOutSamples: Samples,
    HeldOutText: Texts,
    LanguageLearning: Languages,
    Tagging: Tagged,
}
AS_WHILE_TRAINING = (DomainPerplexity, FewShot, FreshLanguages, HeldOutSamples, HeldOutText)
"""What runs are measured on by themselves."""


def evaluation_class(name: str) -> type[Evaluation]:
    """Return an evaluation by its name, or by the path of one's own; with dashes or underscores.

    Raises:
        UnknownNameError: With the nearest known name.

    Example:
        >>> evaluation_class("language_learning").name, evaluation_class("perplexity").name
        ('language-learning', 'domain-perplexity')
    """
    return evaluations.get(name if "." in name or ":" in name else name.replace("_", "-"))


def options_by_name(kind: type[Evaluation]) -> dict[str, Option]:
    """Return what an evaluation can be told: its own options, then those of its source."""
    owners = [kind, *([SOURCES[kind]] if kind in SOURCES else [])]
    return {declared.name: declared for owner in owners for declared in _declared(owner)}


def evaluation_for(model: OpenedModel, name: str, options: Mapping[str, Any], *, cache_dir: str | Path) -> Evaluation:
    """Make an evaluation for a checkpoint.

    Args:
        model: The checkpoint.
        name: As in `evaluation_class`.
        options: Values of `options_by_name`, and under ``languages.NAME`` those of a family.
        cache_dir: Where tokens are kept.

    Raises:
        UnknownNameError: If there is no such evaluation, or no such option.
        OptionError: If an option is not allowed.
        DataError: If there is no data, or it does not fit the model.
    """
    kind = evaluation_class(name)
    own_names = {declared.name for declared in _declared(kind)}
    own = {key: value for key, value in options.items() if key in own_names}
    said = {key: value for key, value in options.items() if key not in own_names}
    if not said and (found := _as_while_training(model, kind)) is not None:
        return dataclasses.replace(found, **own)  # type: ignore[type-var]
    if kind not in SOURCES:
        return _of_options(kind, options)
    family_options = {key: said.pop(key) for key in list(said) if key.startswith("languages.")}
    source = SOURCES[kind](**said)
    fields = source.fields(model, Path(cache_dir), family_options)
    if fields is None:
        raise missing_source(model, kind.name, SOURCES[kind])
    return kind(**fields, **own)


def evaluation_rng(model: OpenedModel, seed: int | None = None) -> np.random.Generator:
    """Return the stream that an evaluation's data is drawn from: that of the run's own evaluations, unless told."""
    of_run = 0 if model.config is None else model.config.training.seed
    return generator(of_run if seed is None else seed, "evaluation")


def _declared(owner: type[Any]) -> tuple[Option, ...]:
    return options_of(owner) if dataclasses.is_dataclass(owner) else ()


def _as_while_training(model: OpenedModel, kind: type[Evaluation]) -> Evaluation | None:
    """Return what the run itself was measured on, if that was of this kind."""
    if model.config is None or kind not in AS_WHILE_TRAINING:
        return None
    data = open_data(model.config)
    measured = [*data.evaluations, *few_shot_evaluations(data.tasks, model.learner)]
    found = next((each for each in measured if type(each) is kind), None)
    if found is not None and data.batches.n_tokens > model.decoder.vocab_size:
        raise DataError(
            f"{model.name}: got a model of {model.decoder.vocab_size:,} ids; allowed: at least the "
            f"{data.batches.n_tokens:,} of the data. The run's config.yaml is about another model."
        )
    return found


def _of_options(kind: type[Evaluation], options: Mapping[str, Any]) -> Evaluation:
    """Make an evaluation of one's own, of which nothing is known but the options that it declares."""
    try:
        return kind(**options)
    except TypeError as error:
        raise OptionError(
            "evaluation",
            kind.name,
            "one whose fields are all declared with option(...) and have defaults",
            f"Python says: {error}.",
        ) from error
