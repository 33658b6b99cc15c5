"""A checkpoint on one's own input: the model with all that it came with, and ways of adapting it.

```python
opened = open_model("runs/first")                   # a run, one of its checkpoints, or any Llama folder
tasks = own_sentences(opened, "book.txt", n_way=5, k_shot=4, q_query=4)
curves = measured_curves(opened, tasks)             # of each way of adapting, after 0, 1, 2, 5, ... steps
```
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from xenoglot import languages
from xenoglot.adaptation import MetaLearner
from xenoglot.assembly.learners import trained_learner
from xenoglot.checkpoint import Checkpoint
from xenoglot.checkpoint_folders import checkpoint_folder, damage_of, saved_steps, step_of
from xenoglot.config import RunConfig, resolve
from xenoglot.config.files import read_layer
from xenoglot.corpus.id_words import are_id_words
from xenoglot.corpus.subwords import load_tokenizer
from xenoglot.corpus.tokenizer import Tokenizer
from xenoglot.decoder import Decoder
from xenoglot.episodes import EpisodeSource
from xenoglot.episodes.labelled import LabelledTasks
from xenoglot.episodes.smlmt import SMLMT
from xenoglot.errors import DataError
from xenoglot.languages import Family
from xenoglot.model_folders import model_folder
from xenoglot.model_folders.places import hub_name

__all__ = ["OpenedModel", "family_of", "labelled_examples", "open_model", "own_sentences"]

HELD_OUT_SHARE = 1 / 3
"""Of one's own sentences, a third each is for rates to be chosen on, and to be measured on."""
LABELLED_SHARE = 1 / 2
"""Of labelled examples, of which people have few, half each."""


@dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """What a checkpoint holds.

    Attributes:
        name: What to call it: the run's and the step's name, or the folder's.
        folder: Where it was found.
        decoder: The model.
        tokenizer: None for a model of bare ids.
        config: The run's configuration; None where there is no run.
        learner: How the run's tasks of sentences were adapted to, with all that it learned; None if there were none.
    """

    name: str
    folder: Path
    decoder: Decoder
    tokenizer: Tokenizer | None
    config: RunConfig | None
    learner: MetaLearner | None


def open_model(path: str | Path) -> OpenedModel:
    """Open a run's newest whole checkpoint, one checkpoint, or any model that `Decoder.from_pretrained` opens.

    Raises:
        DataError: If there is no such thing there, or it is damaged.
    """
    given = Path(path)
    folder = _newest(given) if (given / "config.yaml").is_file() else model_folder(path)
    if not (folder / "config.json").is_file():
        raise DataError(f"{given}: got no model; allowed: a run, one of its checkpoints, or a Llama model's folder.")
    step = step_of(folder)
    run = folder.absolute().parent.parent
    config = resolve(read_layer(run / "config.yaml")) if step is not None and (run / "config.yaml").is_file() else None
    decoder = Decoder.from_pretrained(folder).eval()
    return OpenedModel(
        name=_name_of(given, folder) if config is None else f"{run.name}, step {step:,}",
        folder=folder,
        decoder=decoder,
        tokenizer=_tokenizer_in(folder),
        config=config,
        learner=None if config is None else _learner(config, decoder, folder),
    )


def own_sentences(model: OpenedModel, path: str | Path, **sizes: Any) -> EpisodeSource:
    """Make masked-word tasks of one's own sentences.

    Args:
        model: Whose tokenizer encodes them.
        path: As in `SMLMT.from_sentences`.
        sizes: ``n_way``, ``k_shot``, ``q_query``, and other arguments of `SMLMT.from_sentences`; sentences are as long
            as the model can read, unless ``max_length`` says less.

    Raises:
        DataError: If the model has no tokenizer, or the sentences cannot be read or are too few.
    """
    options = {"max_length": model.decoder.config.max_seq_len, "held_out_share": HELD_OUT_SHARE} | sizes
    return SMLMT.from_sentences(path, _tokenizer(model), **options)


def labelled_examples(model: OpenedModel, path: str | Path, **sizes: Any) -> EpisodeSource:
    """Make tasks of one's own labelled examples; as `own_sentences`, with the arguments of `LabelledTasks`."""
    options = {"max_length": model.decoder.config.max_seq_len, "held_out_share": LABELLED_SHARE} | sizes
    return LabelledTasks.from_file(path, _tokenizer(model), **options)


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


def _tokenizer(model: OpenedModel) -> Tokenizer:
    if model.tokenizer is None:
        raise DataError(
            f"{model.name}: got a model of bare ids, without a tokenizer; allowed: one that was trained on text. "
            "For languages: --language FAMILY."
        )
    return model.tokenizer


def _tokenizer_in(folder: Path) -> Tokenizer | None:
    """Load a folder's tokenizer; a model of bare ids has one for other programs, which reads no text."""
    path = folder / "tokenizer.json"
    return load_tokenizer(str(folder)) if path.is_file() and not are_id_words(path.read_bytes()) else None


def _name_of(given: Path, folder: Path) -> str:
    """Return what to call a model that is no run's: in the Hub's cache, folders are named after revisions."""
    name = hub_name(given)
    return folder.name if name is None else name[0].rpartition("/")[2]


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
    """Return how a run adapts to tasks of sentences; None if it does not."""
    if not config.smlmt.enabled or config.languages is not None:
        return None
    return trained_learner(config, decoder, Checkpoint(folder=folder, step=step_of(folder) or 0))
