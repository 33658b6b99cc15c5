"""Where the fields of evaluations come from: a checkpoint, and files that are named; a source for each kind of data.

A source is a few declared options, and a method that makes an evaluation's fields of them; None if there is neither a
file named nor anything of the kind in the checkpoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xenoglot.adaptation import AdaptationConfig, ClassifierHeadConfig, MetaLearner
from xenoglot.applying.adapting import OpenedModel, family_of, labelled_examples, own_sentences
from xenoglot.corpus.subwords import load_tokenizer
from xenoglot.corpus.text_files import TextFiles
from xenoglot.corpus.tokenizer import ByteTokenizer, Tokenizer
from xenoglot.errors import DataError, OptionError
from xenoglot.evaluations.perplexity import open_domains
from xenoglot.evaluations.tagging_files import TaggedSplits, read_iob2, split_sentences
from xenoglot.options import check_options, option, options_of
from xenoglot.samples import StoredSamples
from xenoglot.text import read_text

__all__ = ["Domains", "Languages", "Samples", "Source", "Tagged", "Tasks", "Texts", "missing_source"]

BYTES = "bytes"
Fields = dict[str, Any]
FamilyOptions = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """Makes some fields of an evaluation."""

    def __post_init__(self) -> None:
        check_options(self)

    @abstractmethod
    def fields(self, model: OpenedModel, cache_dir: Path, family_options: FamilyOptions) -> Fields | None:
        """Return fields by name; None if nothing was named, and the checkpoint says nothing.

        Args:
            model: The checkpoint.
            cache_dir: Where tokens are kept.
            family_options: Under ``languages.NAME``.

        Raises:
            DataError: If data cannot be read, or does not fit the model.
        """


@dataclass(frozen=True, kw_only=True)
class Languages(Source):
    """Brand-new languages of a family."""

    language: str | None = option(None, "family of the languages; the run's if none")
    length: int | None = option(None, "tokens of a row; as many as the model reads if none", unit="tokens", minimum=2)

    def fields(self, model: OpenedModel, cache_dir: Path, family_options: FamilyOptions) -> Fields | None:
        own = None if model.config is None else model.config.languages
        if self.language is None and own is None:
            return None
        options = {path.partition(".")[2]: value for path, value in family_options.items()}
        family = family_of(model, self.language or own.name, options)  # type: ignore[union-attr]
        return {"family": family, "length": _length(model, self.length)}


@dataclass(frozen=True, kw_only=True)
class Texts(Source):
    """A text whose last tenth is measured."""

    text: str | None = option(None, "text: .txt, .jsonl, either compressed, or a folder; its last tenth is read")

    def fields(self, model: OpenedModel, cache_dir: Path, family_options: FamilyOptions) -> Fields | None:
        if self.text is None:
            return None
        _own_tokenizer(model)
        corpus, longest = TextFiles(self.text), model.decoder.config.max_seq_len
        return {"text": read_text(corpus, length=longest, cache_dir=cache_dir, tokenizer=str(model.folder))}


@dataclass(frozen=True, kw_only=True)
class Samples(Source):
    """Rows of ids in files."""

    samples: str | None = option(None, "rows that xenoglot generate wrote: .txt, .npy, .parquet, or a folder of them")

    def fields(self, model: OpenedModel, cache_dir: Path, family_options: FamilyOptions) -> Fields | None:
        if self.samples is None:
            return None
        sizes = model.decoder.config
        stored = StoredSamples(
            self.samples, cache_dir=cache_dir, n_tokens=model.decoder.vocab_size, max_length=sizes.max_seq_len
        )
        return {"text": stored}


@dataclass(frozen=True, kw_only=True)
class Domains(Source):
    """Texts, a table line for each."""

    text: str | None = option(
        None,
        "what is read: a file (.txt, .jsonl, either compressed, or .parquet), a folder with a file or a folder for "
        "each domain, or a dataset's name on the Hub",
    )
    split: str = option("val", "which part of a dataset of the Hub")
    length: int | None = option(None, "tokens of a window; as many as the model reads if none", minimum=2)

    def fields(self, model: OpenedModel, cache_dir: Path, family_options: FamilyOptions) -> Fields | None:
        if self.text is None:
            return None
        domains = open_domains(self.text, self.split)
        is_text = any(not domain.corpus.holds_ids for domain in domains)
        return {
            "domains": domains,
            "tokenizer": _own_tokenizer(model) if is_text else model.tokenizer,
            "n_tokens": model.decoder.vocab_size,
            "length": _length(model, self.length),
        }


@dataclass(frozen=True, kw_only=True)
class Tasks(Source):
    """Few-shot tasks of one's own sentences or labels; `xenoglot adapt` chooses rates for them too."""

    sentences: str | None = option(None, "sentences: .txt, .jsonl, .parquet, or a folder; tasks tell masked words")
    labelled: str | None = option(None, 'labelled texts, a JSON object a line: {"text": ..., "label": ...}')
    n_way: int = option(5, "words, or labels, of a task", minimum=2)
    k_shot: int = option(4, "examples of each to adapt to", minimum=1)
    q_query: int = option(4, "examples of each to be judged by", minimum=1)
    tasks_seed: int = option(0, "what tasks are drawn from", minimum=0)
    inner_lr: float = option(0.1, "rate of the linear head's steps", minimum=0)

    def fields(self, model: OpenedModel, cache_dir: Path, family_options: FamilyOptions) -> Fields | None:
        if self.sentences is None and self.labelled is None:
            return None
        if self.sentences is not None and self.labelled is not None:
            raise OptionError("labelled", self.labelled, "nothing beside --sentences")
        sizes = {"n_way": self.n_way, "k_shot": self.k_shot, "q_query": self.q_query, "seed": self.tasks_seed}
        if self.sentences is not None:
            tasks = own_sentences(model, self.sentences, cache_dir=cache_dir, **sizes)
        else:
            tasks = labelled_examples(model, str(self.labelled), **sizes)
        learners = {f"{kind} head": self._learner(model, kind) for kind in ("linear", "ridge", "prototype")}
        own = {} if model.learner is None else {"as it was trained": model.learner}
        return {"tasks": tasks, "learners": own | learners}

    def _learner(self, model: OpenedModel, kind: str) -> MetaLearner:
        adaptation = AdaptationConfig(order="first", inner_lr=self.inner_lr)
        return MetaLearner(adaptation, ClassifierHeadConfig(kind=kind, init_method="zero"), model.decoder)


@dataclass(frozen=True, kw_only=True)
class Tagged(Source):
    """Tagged sentences, and how they become ids."""

    iob2: str | None = option(None, "IOB2 file, whose sentences are split into train, dev and test")
    train: str | None = option(None, "IOB2 file to learn from, beside --dev and --test")
    dev: str | None = option(None, "IOB2 file to stop and choose by")
    test: str | None = option(None, "IOB2 file to be judged by")
    split_seed: int = option(0, "what the split of --iob2 is drawn from", minimum=0)
    tokenizer: str | None = option(
        None,
        "bytes, or a tokenizer.json, or a folder with one: with token vectors that are drawn anew; if none, the "
        "checkpoint's own, or bytes where it has none",
    )

    def fields(self, model: OpenedModel, cache_dir: Path, family_options: FamilyOptions) -> Fields | None:
        parts = {name: getattr(self, name) for name in ("train", "dev", "test")}
        given = [name for name, path in parts.items() if path is not None]
        if self.iob2 is None and not given:
            return None
        if (self.iob2 is not None and given) or (given and len(given) < len(parts)):
            got = ", ".join(f"--{name}" for name in [*(["iob2"] if self.iob2 else []), *given])
            raise DataError(f"tagging: got {got}; allowed: --iob2 FILE alone, or --train, --dev and --test together.")
        return {"sentences": self._splits(parts), **self._reading(model)}

    def _splits(self, parts: Mapping[str, str]) -> TaggedSplits:
        if self.iob2 is not None:
            return split_sentences(read_iob2(self.iob2), seed=self.split_seed)
        return TaggedSplits(**{name: read_iob2(path) for name, path in parts.items()})

    def _reading(self, model: OpenedModel) -> Fields:
        if self.tokenizer is None and model.tokenizer is not None:
            return {"tokenizer": model.tokenizer, "has_fresh_embedding": False}
        name = self.tokenizer or BYTES
        tokenizer = ByteTokenizer(marks_ends=False) if name == BYTES else load_tokenizer(name)
        return {"tokenizer": tokenizer, "has_fresh_embedding": True}


def missing_source(model: OpenedModel, evaluation: str, source: type[Source]) -> DataError:
    """Make the error about an evaluation for which there is no data."""
    flags = [f"--{known.name}" for known in options_of(source) if known.optional and known.kind is str]
    return DataError(
        f"{evaluation}: got no data; allowed: what is named by {' or '.join(flags)}, or a run that was measured on "
        f"such data itself, which {model.name} is not."
    )


def _own_tokenizer(model: OpenedModel) -> Tokenizer:
    """Return the checkpoint's tokenizer, whose ids the model has."""
    if model.tokenizer is None:
        raise DataError(
            f"{model.name}: got text for a model of bare ids, without a tokenizer; allowed: rows of ids, or a model "
            "that was trained on text. Tagging gives such a model new token vectors: --evaluation tagging."
        )
    if model.tokenizer.n_tokens > model.decoder.vocab_size:
        raise DataError(
            f"{model.name}: got a tokenizer of {model.tokenizer.n_tokens:,} ids; allowed: at most the "
            f"{model.decoder.vocab_size:,} of the model. They do not belong together."
        )
    return model.tokenizer


def _length(model: OpenedModel, wanted: int | None) -> int:
    longest = model.decoder.config.max_seq_len
    if wanted is not None and wanted > longest:
        raise OptionError("length", wanted, f"at most {longest}, the tokens that {model.name} reads")
    return wanted or longest
