"""What a run does without being told, and what overrules what: defaults, then a file, then flags.

A layer is nested plain values in which most things are not said. What is learned decides about the defaults: nothing
said means brand-new languages of MetaLM-1; a text or a dataset has a larger model and shorter rows; a family that is
named has its own defaults, and no curriculum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xenoglot import languages, model_sizes
from xenoglot.config.data import DataConfig, DataLoaderConfig
from xenoglot.config.mappings import from_mapping, to_mapping
from xenoglot.config.sections import (
    ModelConfig,
    OptimizationConfig,
    RunConfig,
    StageConfig,
    TrainingConfig,
)
from xenoglot.corpus.id_words import are_id_words
from xenoglot.errors import OptionError
from xenoglot.model_folders import model_folder, read_sizes
from xenoglot.options import Option, options_of

__all__ = ["SIZE_OPTION", "default_config", "merged", "nested", "resolve", "with_overrides"]

SIZE_OPTION = Option(
    name="model.size",
    kind=str,
    optional=True,
    default=None,
    doc=f"a name for several sizes: {', '.join(model_sizes.names())}; single ones given beside it overrule it",
    unit="",
    minimum=None,
    maximum=None,
    exclusive_minimum=False,
    choices=(),
    flags=(),
)
"""Stands for several options at once, and is none itself: what is stored is what it stands for."""


OWN_SIZES = {declared.name for declared in options_of(ModelConfig)} - {"from_pretrained"}


def default_config(text: str | None = None) -> RunConfig:
    """Return the configuration of `xenoglot train`, or of `xenoglot train --text FILE`.

    Args:
        text: The file to learn from; brand-new languages of MetaLM-1 if None.
    """
    return _languages_config() if text is None else _text_config(text)


def resolve(*layers: Mapping[str, Any]) -> RunConfig:
    """Make a configuration of layers, of which the later ones overrule the earlier; the defaults lie below them.

    ``model.size`` names a row of `xenoglot.model_sizes`, and ``model.from_pretrained`` a model that has its own; sizes
    given beside it, or in a later layer, overrule it.

    Args:
        layers: Nested plain values, sections by name. A layer that names a family overrules what earlier ones say of
            languages and curriculum; one that names a text, samples or a dataset, the others of these.

    Raises:
        UnknownNameError: If a key is not known, with the nearest known one.
        OptionError: If a value is not allowed.

    Example:
        >>> resolve({"languages": {"family": "markov"}, "training": {"max_steps": 9}}).languages
        Markov(vocab_size=64, order=1, alpha=1.0)
    """
    said: dict[str, Any] = {}
    for layer in layers:
        said = _overlaid(said, _with_named_size(layer))
    return from_mapping(_overlaid(_defaults_for(said), _with_own_tokenizer(said)))


def with_overrides(config: RunConfig, overrides: Mapping[str, Any]) -> RunConfig:
    """Replace single values, given under dotted paths such as ``training.max_steps``.

    Naming another family under ``languages.family`` starts from that family's own defaults, without a curriculum.

    Raises:
        UnknownNameError: If a path is not known, with the nearest known one.
        OptionError: If a value is not allowed.

    Example:
        >>> with_overrides(default_config(), {"model.n_layers": 3}).model.n_layers
        3
    """
    return resolve(to_mapping(config), nested(overrides))


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn values by dotted path into a layer.

    Example:
        >>> nested({"training.max_steps": 9, "training.optimization.lr": 0.1})
        {'training': {'max_steps': 9, 'optimization': {'lr': 0.1}}}
    """
    layer: dict[str, Any] = {}
    for path, value in values.items():
        *sections, key = path.split(".")
        owner = layer
        for section in sections:
            owner = owner.setdefault(section, {})
        owner[key] = value
    return layer


def _defaults_for(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the layer below all others, which depends on what is learned."""
    data, family = _section(said, "data"), _section(said, "languages").get("family")
    if data.get("text") is not None or _section(data, "dataset").get("name") is not None:
        defaults = to_mapping(_text_config("text"))
        del defaults["data"]["text"]
        return defaults
    defaults = to_mapping(_languages_config())
    if data.get("samples") is not None:
        return defaults | {"languages": None, "curriculum": []}
    return defaults if family is None else defaults | {"languages": {}, "curriculum": []}


def _overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    if _section(above, "languages").get("family") is not None:
        below = {name: section for name, section in below.items() if name not in ("languages", "curriculum")}
    if _names_a_source(above):
        below = merged(below, {"data": {"text": None, "samples": None, "dataset": {"name": None}}})
    return merged(below, above)


def _names_a_source(layer: Mapping[str, Any]) -> bool:
    data = _section(layer, "data")
    sources = (data.get("text"), data.get("samples"), _section(data, "dataset").get("name"))
    return any(source is not None for source in sources)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Put one layer onto another, section by section; an empty section says nothing."""
    both = dict(below)
    for key, value in above.items():
        beneath = below.get(key)
        if isinstance(beneath, Mapping) and isinstance(value, Mapping):
            both[key] = merged(beneath, value)
        elif value is not None or not isinstance(beneath, Mapping | list):
            both[key] = value
    return both


def _with_named_size(layer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put sizes in the place of ``model.size``, which is their name, and beneath what a pretrained model is called."""
    model = dict(_section(layer, "model"))
    name, origin = model.pop("size", None), model.get("from_pretrained")
    SIZE_OPTION.check(name)
    if name is not None and isinstance(origin, str):
        raise OptionError("model.size", name, f"none beside model.from_pretrained, whose sizes are those of {origin}")
    if name is not None:
        return {**layer, "model": {**model_sizes.get(name), **model}}
    if isinstance(origin, str) and not model.keys() >= OWN_SIZES:  # a run that goes on has them all
        return {**layer, "model": {**read_sizes(model_folder(origin)), **model}}
    return {**layer, "model": model} if model else layer


def _with_own_tokenizer(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """Let a pretrained model read text with its own tokenizer, unless something is said of the tokenizer."""
    origin, data = _section(said, "model").get("from_pretrained"), _section(said, "data")
    is_text = data.get("text") is not None or _section(data, "dataset").get("name") is not None
    if not (isinstance(origin, str) and is_text) or "name" in _section(data, "tokenizer"):
        return said
    file = model_folder(origin) / "tokenizer.json"
    if not file.is_file() or are_id_words(file.read_bytes()):
        return said
    return merged(said, {"data": {"tokenizer": {"name": str(file)}}})


def _section(layer: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a section; an empty one if it is not there, or no section at all, about which `from_mapping` complains."""
    section = layer.get(name)
    return section if isinstance(section, Mapping) else {}


def _languages_config() -> RunConfig:
    family = languages.get("metalm-v1")
    return RunConfig(
        languages=family(vocab_size=16, n_elements=4, element_length=8, error_rate=0.05, separator=True),  # type: ignore[call-arg]
        # On full rows from the start, when copying by several tokens begins is chance: for seed 0, not in time.
        curriculum=(
            StageConfig(until_step=100, length=64, languages={"n_elements": 1, "error_rate": 0.0}),
            StageConfig(until_step=200, length=128, languages={"n_elements": 2}),
        ),
    )


def _text_config(text: str) -> RunConfig:
    return RunConfig(
        data=DataConfig(text=text, dataloader=DataLoaderConfig(batch_size=12)),
        model=ModelConfig(
            d_model=128,
            n_layers=4,
            attention_n_heads=4,
            attention_n_kv_heads=4,
            activation_hidden_dim=384,
            max_seq_len=64,
        ),
        training=TrainingConfig(max_steps=2000, optimization=OptimizationConfig(lr=2e-3)),
    )
