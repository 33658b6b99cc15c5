"""From a checkpoint to a folder that other programs open: a native Llama, its tokenizer, and what to know about it.

```
DIR/
  config.json  model.safetensors            a LlamaForCausalLM, for transformers 4.57 and 5
  tokenizer.json  tokenizer_config.json     text as tokens; for models of bare ids, numbers as words
  generation_config.json                    where writing begins and ends
  README.md                                 the model card
  manifest.json                             every file's size and SHA-256
```

The folder takes its name only when `transformers` has computed the same logits from it as we do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xenoglot.applying.adapting import OpenedModel, open_model
from xenoglot.checkpoint_folders import step_of
from xenoglot.corpus.tokenizer import Tokenizer
from xenoglot.decoder import Decoder
from xenoglot.errors import MissingExtraError, OptionError, OutputError
from xenoglot.interchange import write_model_folder
from xenoglot.model_card import CARD_FILE, model_card, results_until
from xenoglot.model_files import GENERATION_FILE, further_files
from xenoglot.rng import derive
from xenoglot.storage.files import write_whole
from xenoglot.storage.folders import staged_folder
from xenoglot.storage.manifest import write_manifest

__all__ = ["Exported", "export", "greatest_difference"]

TOLERANCE = 1e-5
"""How far logits may differ, as a share of the greatest of them, or absolutely where none is above 1."""
PROBE_ROWS, PROBE_TOKENS = 2, 512
PURPOSE = "comparing an export's logits"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What came of an export.

    Attributes:
        folder: Where it is.
        n_bytes: How large its files are together.
        logit_difference: The greatest between ours and those of `transformers`.
        transformers_version: Which it was compared with.
    """

    folder: Path
    n_bytes: int
    logit_difference: float
    transformers_version: str


def export(source: str | Path, target: str | Path, *, name: str | None = None, licence: str | None = None) -> Exported:
    """Write a checkpoint as a folder that `transformers` opens without code of ours, and prove that it does.

    Args:
        source: A run (its newest whole checkpoint), a checkpoint, any Llama or Pico folder, or a name on the Hub.
        target: Where the folder will be; must not be there yet.
        name: What the card calls the model; by default as the run and its step, or the folder, are called.
        licence: Under which the weights may be used, as the Hub names it, such as ``cc-by-4.0``.

    Raises:
        DataError: If there is no such model, or it is damaged.
        MissingExtraError: If `transformers` is not installed.
        OptionError: If the model is bidirectional, which no Llama is.
        OutputError: If the folder is there already or cannot be written, or `transformers` computes other logits;
            nothing is left then.
    """
    _import_transformers()
    opened, place = open_model(source), Path(target)
    decoder = opened.decoder
    if decoder.config.attention != "causal":
        raise OptionError(
            "attention", decoder.config.attention, "causal", "A native Llama would mask what this model has to see."
        )
    with staged_folder(place) as folder:
        write_model_folder(folder, decoder.config, decoder.state_dict())
        for file, content in _files_beside(opened, name, licence).items():
            write_whole(folder / file, content)
        difference = _checked(folder, place, decoder, opened.tokenizer)
        write_manifest(folder, {"step": step_of(opened.folder)})
        n_bytes = sum(path.stat().st_size for path in folder.iterdir())
    return Exported(
        folder=place,
        n_bytes=n_bytes,
        logit_difference=difference,
        transformers_version=_import_transformers().__version__,
    )


def greatest_difference(folder: Path, decoder: Decoder) -> tuple[float, float]:
    """Return how far a folder's logits, as `transformers` computes them, are from a decoder's, and the greatest logit.

    Args:
        folder: A native Llama folder.
        decoder: What it should be.
    """
    input_ids = _probe(decoder)
    with torch.no_grad(), _without_progress_bars():
        other = _import_transformers().AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, attn_implementation="sdpa"
        )
        ours, theirs = decoder(input_ids), other.eval()(input_ids).logits
    if ours.shape != theirs.shape:
        return float("inf"), float(ours.abs().max())
    return float((ours - theirs).abs().max()), float(ours.abs().max())


def _files_beside(opened: OpenedModel, name: str | None, licence: str | None) -> Mapping[str, bytes]:
    """Return what makes the weights a model to be used: tokenizer, generation settings and card."""
    step = step_of(opened.folder)
    results = None
    if opened.config is not None and step is not None:
        results = results_until(opened.folder.absolute().parent.parent, step)
    card = model_card(
        name=name or opened.name,
        model=opened.decoder.config,
        config=opened.config,
        step=None if opened.config is None else step,
        results=results,
        licence=licence,
        reads_text=opened.tokenizer is not None,
    )
    tokenizer_files = {} if opened.tokenizer is None else opened.tokenizer.files()
    files = further_files(opened.decoder.vocab_size, tokenizer_files)
    given = opened.folder / GENERATION_FILE
    if opened.config is None and given.is_file():
        files |= {GENERATION_FILE: given.read_bytes()}  # what others set there is theirs to say
    return {**files, CARD_FILE: card.encode()}


def _checked(folder: Path, place: Path, decoder: Decoder, tokenizer: Tokenizer | None) -> float:
    """Compare logits, and ids of the tokenizer.

    Raises:
        OutputError: If they differ.
    """
    difference, greatest = greatest_difference(folder, decoder)
    if not difference <= TOLERANCE * max(1.0, greatest):
        raise OutputError(
            f"{place}: transformers {_import_transformers().__version__} computes logits that differ by "
            f"{difference:.2g} from ours, of which the greatest is {greatest:.2g}; allowed: {TOLERANCE:g} of it. "
            "Nothing is left. Please report this with the checkpoint's config.json."
        )
    theirs = _import_transformers().AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    n_known = decoder.vocab_size if tokenizer is None else tokenizer.n_tokens
    if len(theirs) != n_known:
        raise OutputError(
            f"{place}: the tokenizer has {len(theirs):,} ids when transformers opens it, instead of {n_known:,}. "
            "Nothing is left."
        )
    return difference


def _probe(decoder: Decoder) -> Tensor:
    n_tokens = min(decoder.config.max_seq_len, PROBE_TOKENS)
    rng = torch.Generator().manual_seed(derive(0, "export-probe"))
    return torch.randint(0, decoder.vocab_size, (PROBE_ROWS, n_tokens), generator=rng)


def _import_transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("transformers", extra="hub", purpose=PURPOSE) from error
    return transformers


@contextlib.contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Keep the library's progress bars off the terminal for a while."""
    from transformers.utils import logging

    was_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            logging.enable_progress_bar()
