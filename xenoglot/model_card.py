"""What a model's folder says about it: a model card, `README.md`, whose head the Hugging Face Hub reads.

The head is YAML between two lines of dashes: library, licence, tags, and results as a ``model-index``. What is said
follows from the run's configuration and results alone, so that a checkpoint is the same whenever it is written.

Source: https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from xenoglot.config import ModelConfig, RunConfig, to_mapping
from xenoglot.evaluation_files import evaluation_files
from xenoglot.model_sizes import parameters_of

__all__ = ["CARD_FILE", "Results", "checkpoint_card", "model_card", "results_until"]

CARD_FILE = "README.md"
LICENCE_OF_LANGUAGES = "apache-2.0"
UNKNOWN_LICENCE = "unknown"
"""How the Hub calls a licence that nobody stated."""
OF_THE_MODEL = ("data", "languages", "curriculum", "model", "training", "smlmt")
"""Sections of a configuration that say what the model is; others say where and how the run was kept."""
PLACES = ("text", "samples", "sentences", "cache_dir")
"""Options that name files of the machine: of these the last part is told, and of any absolute path."""
METRICS = {
    "loss_nats": "loss, nats a token",
    "floor_nats": "best possible",
    "excess_nats": "excess",
    "uniform_nats": "guessing",
    "perplexity": "perplexity",
}
"""Metrics that a card shows, and what it calls them."""
SLICES = ("part", "domain", "domains")


@dataclass(frozen=True, kw_only=True)
class Results:
    """What was measured last.

    Attributes:
        step: After how many steps.
        rows: As `xenoglot.evaluations.Row` writes them.
    """

    step: int = 0
    rows: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    def shown(self) -> list[tuple[str, Mapping[str, float]]]:
        """Return what each row is about and its metrics, of those rows that a card shows."""
        found: list[tuple[str, Mapping[str, float]]] = []
        for row in self.rows:
            metrics = {name: row["metrics"][name] for name in METRICS if row["metrics"].get(name) is not None}
            if metrics and len(row["slices"]) == 1 and set(row["slices"]) <= set(SLICES):
                found.append((str(next(iter(row["slices"].values()))), metrics))
        return found


def results_until(run_folder: Path, step: int) -> Results:
    """Return a run's newest results that are not later than a step; none if there are none that can be read."""
    for found, path in reversed(evaluation_files(run_folder).items()):
        if found > step:
            continue
        try:
            content = json.loads(path.read_bytes())
            return Results(step=found, rows=content["rows"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return Results()


def checkpoint_card(run_folder: Path, config: RunConfig, step: int) -> bytes:
    """Return the card of a run's checkpoint, with what was measured until then."""
    name, results = f"{run_folder.name}, step {step:,}", results_until(run_folder, step)
    reads_text = config.languages is None and config.data.samples is None
    card = model_card(name=name, model=config.model, config=config, step=step, results=results, reads_text=reads_text)
    return card.encode(errors="replace")  # a path that is not UTF-8 may be among the options


def model_card(
    *,
    name: str,
    model: ModelConfig,
    config: RunConfig | None = None,
    step: int | None = None,
    results: Results | None = None,
    licence: str | None = None,
    reads_text: bool = True,
) -> str:
    """Write a model's card.

    Args:
        name: What the model is called.
        model: Its sizes.
        config: The run that made it; None if that is not known.
        step: After how many steps.
        results: What was measured of it.
        licence: Under which its weights may be used, as the Hub names it; if None, Apache 2.0 for what was trained on
            drawn languages alone, and unknown otherwise: what a text allows, only its owner can say.
        reads_text: Whether the model has a tokenizer for text.
    """
    results = results or Results()
    if licence is None:
        is_drawn = config is not None and config.languages is not None and config.model.from_pretrained is None
        licence = LICENCE_OF_LANGUAGES if is_drawn else UNKNOWN_LICENCE
    head = yaml.safe_dump(_metadata(name, config, results, licence), sort_keys=False, allow_unicode=True)
    parts = [
        f"# {name}",
        _summary(model, config, step),
        *_data(config),
        *_results(results),
        _use(reads_text),
        f"## Licence\n\n{_about_licence(licence)}",
        *_configuration(config),
    ]
    return f"---\n{head}---\n\n" + "\n\n".join(parts) + "\n"


def _metadata(name: str, config: RunConfig | None, results: Results, licence: str) -> dict[str, Any]:
    tags = ["xenoglot", "llama"]
    if config is not None and config.languages is not None:
        tags += ["in-context-learning", "synthetic-languages", config.languages.name]
    if config is not None and config.smlmt.enabled:
        tags += ["meta-learning"]
    metadata: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "license": licence,
        "tags": tags,
    }
    dataset = None if config is None else config.data.dataset.name
    if dataset and not Path(dataset).exists():
        metadata["datasets"] = [dataset]
    shown = results.shown()
    return metadata | ({"model-index": [_index(name, config, shown)]} if shown else {})


def _index(name: str, config: RunConfig | None, shown: Sequence[tuple[str, Mapping[str, float]]]) -> dict[str, Any]:
    """Return results as the Hub's ``model-index``."""
    what = _what_is_learned(config)
    return {
        "name": name,
        "results": [
            {
                "task": {"type": "text-generation", "name": "Language modelling"},
                "dataset": {"type": what.replace(" ", "-"), "name": f"{what}, {about}"},
                "metrics": [
                    {"type": metric, "name": METRICS[metric], "value": round(value, 6)}
                    for metric, value in metrics.items()
                ],
            }
            for about, metrics in shown
        ],
    }


def _what_is_learned(config: RunConfig | None) -> str:
    if config is None:
        return "held-out data"
    if config.languages is not None:
        return f"fresh {config.languages.name} languages"
    return "held-out samples" if config.data.samples is not None else "held-out text"


def _summary(model: ModelConfig, config: RunConfig | None, step: int | None) -> str:
    trained = "" if step is None else f", after {step:,} training steps"
    origin = "It came from elsewhere and was brought into this form" if config is None else "It was trained"
    return (
        f"A Llama-style decoder of {parameters_of(model):,} parameters: {model.n_layers} layers, {model.d_model} wide, "
        f"{model.attention_n_heads} query heads and {model.attention_n_kv_heads} of keys and values, "
        f"{model.vocab_size:,} ids, rows of up to {model.max_seq_len:,} tokens{trained}. {origin} by Xenoglot, the lab "
        "for meta language models. The folder holds a native `LlamaForCausalLM`: safetensors, and no code."
    )


def _data(config: RunConfig | None) -> Iterator[str]:
    """Say what was learned."""
    if config is None:
        return
    if config.languages is not None:
        drawn = "one after the other, never repeated" if config.data.n_languages is None else "a fixed pool of them"
        options = {name: value for name, value in to_mapping(config)["languages"].items() if name != "family"}
        said = ", ".join(f"{name} {value}" for name, value in options.items())
        yield (
            f"## Data\n\nRandom languages of the family `{config.languages.name}` ({said}), {drawn}. Each is a known "
            "law, so the loss of the best possible predictor, who knows the language, is known too: the floor. What "
            "the model loses above it is its excess. Nobody speaks them: ids are numbers, and so are the tokenizer's "
            "words; id 0 is a mask."
        )
    else:
        [source] = config.data.sources.values()
        yield f"## Data\n\n`{Path(source).name}`, of which a tenth was held out for measuring."


def _results(results: Results) -> Iterator[str]:
    shown = results.shown()
    if not shown:
        return
    names = [name for name in METRICS if any(name in metrics for _, metrics in shown)]
    lines = ["| what | " + " | ".join(METRICS[name] for name in names) + " |", "|---" * (1 + len(names)) + "|"]
    for about, metrics in shown:
        cells = [f"{metrics[name]:.4f}" if name in metrics else "" for name in names]
        lines.append("| " + " | ".join([about, *cells]) + " |")
    yield f"## Results\n\nMeasured after {results.step:,} steps.\n\n" + "\n".join(lines)


def _use(reads_text: bool) -> str:
    prompt = "Once upon a time" if reads_text else "3 1 2 3 1"
    return f"""## Use

```python
from transformers import pipeline

write = pipeline("text-generation", model="FOLDER_OR_NAME")
print(write("{prompt}", max_new_tokens=32))
```"""


def _about_licence(licence: str) -> str:
    if licence == UNKNOWN_LICENCE:
        return "Nobody has stated one. It depends on the data that the model was trained on."
    return f"`{licence}`."


def _configuration(config: RunConfig | None) -> Iterator[str]:
    """Give the options that made the model what it is, without the places of the machine it was made on."""
    if config is None:
        return
    mapping = to_mapping(config)
    told = {section: _without_places(mapping[section]) for section in OF_THE_MODEL if mapping[section]}
    if not config.smlmt.enabled:
        del told["smlmt"]
    yield f"## Configuration\n\n```yaml\n{_as_yaml(json.dumps(told))}```"


@functools.lru_cache(maxsize=4)
def _as_yaml(values: str) -> str:
    """Spell JSON as YAML; once for all the checkpoints of a run, for it takes as long as a small model's step."""
    return str(yaml.safe_dump(json.loads(values), sort_keys=False, allow_unicode=True))


def _without_places(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {
        key: Path(inner).name
        if isinstance(inner, str) and (key in PLACES or Path(inner).is_absolute())
        else _without_places(inner)
        for key, inner in value.items()
    }
