"""A checkpoint on one's own input: the model with all that it came with, and ways of adapting it.

```python
opened = open_model("runs/first")                   # a run, one of its checkpoints, or any Llama folder
tasks = own_sentences(opened, "book.txt", n_way=5, k_shot=4, q_query=4)
rows = measured(opened, tasks)                      # of each way of adapting, after 0, 1, 2, 5, ... steps
```
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from xenoglot import languages
from xenoglot.adaptation import AdaptationConfig, ClassifierHeadConfig, MetaLearner
from xenoglot.checkpoint import Checkpoint
from xenoglot.checkpoint_folders import checkpoint_folder, damage_of, saved_steps, step_of
from xenoglot.config import RunConfig, resolve
from xenoglot.config.files import read_layer
from xenoglot.corpus.subwords import load_tokenizer
from xenoglot.corpus.tokenizer import Tokenizer
from xenoglot.decoder import Decoder
from xenoglot.episodes import EpisodeSource
from xenoglot.episodes.labelled import LabelledTasks
from xenoglot.episodes.smlmt import SMLMT
from xenoglot.errors import DataError
from xenoglot.evaluations.base import Row
from xenoglot.evaluations.few_shot import Features, FewShot, curve_rows
from xenoglot.languages import Family
from xenoglot.learner import OBJECTIVE

__all__ = ["OpenedModel", "family_of", "labelled_examples", "measured", "open_model", "own_sentences"]

RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Of which the one that suits a way of adapting best is chosen, on tasks that are not measured."""
ALL_WEIGHTS_RATES = (0.003, 0.01, 0.03)
HELD_OUT_SHARE = 1 / 3
"""Of one's own input, a third each is for rates to be chosen on, and to be measured on."""
CONTROL = "permuted support labels"


@dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """What a checkpoint holds.

    Attributes:
        name: What to call it: the run's and the step's name, or the folder's.
        decoder: The model.
        tokenizer: None for a model of bare ids.
        config: The run's configuration; None where there is no run.
        learner: How the run's tasks of sentences were adapted to, with all that it learned; None if there were none.
    """

    name: str
    decoder: Decoder
    tokenizer: Tokenizer | None
    config: RunConfig | None
    learner: MetaLearner | None


def open_model(path: str | Path) -> OpenedModel:
    """Open a run's newest whole checkpoint, one checkpoint, or any folder of a Llama model.

    Raises:
        DataError: If there is no such thing there, or it is damaged.
    """
    given = Path(path)
    folder = _newest(given) if (given / "config.yaml").is_file() else given
    if not (folder / "config.json").is_file():
        raise DataError(f"{given}: got no model; allowed: a run, one of its checkpoints, or a Llama model's folder.")
    step = step_of(folder)
    run = folder.absolute().parent.parent
    config = resolve(read_layer(run / "config.yaml")) if step is not None and (run / "config.yaml").is_file() else None
    decoder = Decoder.from_pretrained(folder).eval()
    return OpenedModel(
        name=folder.name if config is None else f"{run.name}, step {step:,}",
        decoder=decoder,
        tokenizer=load_tokenizer(str(folder)) if (folder / "tokenizer.json").is_file() else None,
        config=config,
        learner=None if config is None else _learner(config, decoder, folder),
    )


def own_sentences(model: OpenedModel, path: str | Path, **sizes: Any) -> EpisodeSource:
    """Make masked-word tasks of one's own sentences.

    Args:
        model: Whose tokenizer encodes them.
        path: As in `SMLMT.from_sentences`.
        sizes: ``n_way``, ``k_shot``, ``q_query``, and other arguments of `SMLMT.from_sentences`.

    Raises:
        DataError: If the model has no tokenizer, or the sentences cannot be read or are too few.
    """
    tokenizer, longest = _tokenizer(model), model.decoder.config.max_seq_len
    return SMLMT.from_sentences(path, tokenizer, max_length=longest, held_out_share=HELD_OUT_SHARE, **sizes)


def labelled_examples(model: OpenedModel, path: str | Path, **sizes: Any) -> EpisodeSource:
    """Make tasks of one's own labelled examples; as `own_sentences`, with the arguments of `LabelledTasks`."""
    tokenizer, longest = _tokenizer(model), model.decoder.config.max_seq_len
    return LabelledTasks.from_file(path, tokenizer, max_length=longest, held_out_share=HELD_OUT_SHARE, **sizes)


def family_of(model: OpenedModel, name: str, options: Mapping[str, Any] = MappingProxyType({})) -> Family:
    """Return a family of languages, by default as the model's run has it, if that learned the same one.

    Args:
        model: What is to learn them.
        name: Of the family.
        options: Of the family, where they are other ones.

    Raises:
        UnknownNameError: If there is no such family.
        DataError: If it has more ids than the model.
    """
    own = None if model.config is None else model.config.languages
    kind = languages.get(name)
    family = dataclasses.replace(own if isinstance(own, kind) else kind(), **options)
    if family.n_tokens > model.decoder.vocab_size:
        raise DataError(
            f"{model.name}: got {model.decoder.vocab_size} ids; allowed: at least the {family.n_tokens} of "
            f"{family.name}. Name the family that the model learned, or one with fewer words (--languages.vocab_size)."
        )
    return family


def measured(
    model: OpenedModel, tasks: EpisodeSource, *, n_episodes: int = 600, seed: int = 0, with_all_weights: bool = False
) -> list[Row]:
    """Adapt a model to held-out tasks in several ways: its own, heads on its features, and heads on an untrained twin.

    Args:
        model: What adapts.
        tasks: Whose "test" tasks are measured, and whose "validation" tasks rates are chosen on.
        n_episodes: How many tasks.
        seed: What heads are drawn from.
        with_all_weights: Whether all weights are fine-tuned too, which takes a hundred times as long.

    Returns:
        Rows with slices "method" and "adaptation_steps", and "control" where labels were permuted.
    """
    ways = _ways(model.decoder)
    evaluation = FewShot(tasks=tasks, learners=ways, n_episodes=n_episodes)
    ways["linear head"] = evaluation.tuned(model.decoder, ways["linear head"], seed, RATES)
    if model.learner is not None:
        ways = {"as it was trained": model.learner} | ways
    if with_all_weights:
        learner = _way(model.decoder, "linear", adapts="all")
        ways["all weights"] = evaluation.tuned(model.decoder, learner, seed, ALL_WEIGHTS_RATES, n_episodes=10)
    rows, features = list[Row](), Features()
    for name, learner in ways.items():
        rows += curve_rows([evaluation.measure(model.decoder, learner, seed, features)], {"method": name})
    permuted = dataclasses.replace(evaluation, n_steps=evaluation.n_steps[-1:])
    control = permuted.measure(model.decoder, ways["linear head"], seed, features, are_labels_permuted=True)
    untrained = Decoder(model.decoder.config).eval()
    ridge = evaluation.measure(untrained, _way(untrained, "ridge"), seed)
    return [
        *rows,
        *curve_rows([ridge], {"method": "ridge head, untrained model"}),
        *curve_rows([control], {"method": "linear head", "control": CONTROL}),
    ]


def _ways(decoder: Decoder) -> dict[str, MetaLearner]:
    return {f"{kind} head": _way(decoder, kind) for kind in ("linear", "ridge", "prototype")}


def _way(decoder: Decoder, kind: str, **options: Any) -> MetaLearner:
    head = ClassifierHeadConfig(kind=kind, init_method="zero")
    return MetaLearner(AdaptationConfig(order="first", **options), head, decoder)


def _tokenizer(model: OpenedModel) -> Tokenizer:
    if model.tokenizer is None:
        raise DataError(
            f"{model.name}: got a model of bare ids, without a tokenizer; allowed: one that was trained on text. "
            "For languages: --language FAMILY."
        )
    return model.tokenizer


def _newest(run: Path) -> Path:
    """Return a run's newest checkpoint that is whole."""
    steps = saved_steps(run)
    for step in reversed(steps):
        if not damage_of(checkpoint_folder(run, step)):
            return checkpoint_folder(run, step)
    raise DataError(
        f"{run}: got {len(steps)} checkpoints, none of them whole; allowed: a run with one. Train it first."
    )


def _learner(config: RunConfig, decoder: Decoder, folder: Path) -> MetaLearner | None:
    """Return how a run adapts to tasks of sentences, with the rates and the head's parameters that it learned."""
    if not config.smlmt.enabled or config.languages is not None:
        return None
    learner = MetaLearner(config.smlmt, config.smlmt.classifier_head, decoder)
    _, state = Checkpoint(folder=folder, step=step_of(folder) or 0).read()
    prefix = f"{OBJECTIVE}:"
    learned: Mapping[str, torch.Tensor] = {
        name.removeprefix(prefix): value for name, value in state.tensors.items() if name.startswith(prefix)
    }
    if learned.keys() == learner.state_dict().keys():
        learner.load_state_dict(learned)
    return learner
