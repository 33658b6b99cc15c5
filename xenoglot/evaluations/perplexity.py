r"""Perplexity by domain, in Paloma's shape: each domain by itself, and all together.

Every document is read by itself, from its beginning: before it stands the end-of-text token, or MASK where there is no
such token. It is cut into windows without overlap, so that every token is a target exactly once, and a window's first
token has but one token of context. With l the losses of a domain's tokens, in nats, and n their number,

.. math::
    \mathrm{PPL} = \exp\Big(\frac{1}{n} \sum_t l_t\Big), \qquad
    \text{bits a byte} = \frac{\sum_t l_t}{\ln 2 \cdot \text{bytes}}.

Documents are independent draws, so the interval is that of a ratio of sums over them: with L_d and n_d of document d
and r the mean loss, its standard error is sqrt(D / (D - 1) sum_d (L_d - r n_d)^2) / n.

Source: Magnusson et al., "Paloma: A Benchmark for Evaluating Language Model Fit", 2023 (arXiv 2312.10523). Where we
differ: any data will do, and beside the mean over all tokens stands the one over domains, each counting the same; it is
a mean of losses, so its perplexity is the geometric mean of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from xenoglot.corpus.base import Corpus, Document
from xenoglot.corpus.columns import HubDataset, ParquetFiles
from xenoglot.corpus.text_files import TextFiles
from xenoglot.corpus.tokenizer import Tokenizer
from xenoglot.errors import DataError, MissingExtraError
from xenoglot.evaluations.base import Evaluation, Row
from xenoglot.evaluations.measuring import NORMAL_95, losses_nats
from xenoglot.languages.base import MASK, Floats, Tokens
from xenoglot.options import option

__all__ = ["Domain", "DomainPerplexity", "open_domains"]

ENDINGS = (".txt", ".jsonl", ".parquet", ".gz", ".zst")


class Domain(NamedTuple):
    """Documents of one kind.

    Attributes:
        name: What the kind is called.
        corpus: The documents.
    """

    name: str
    corpus: Corpus


class _Sums(NamedTuple):
    """What the documents of a domain came to, a number for each.

    Attributes:
        nats: Losses, added up.
        tokens: How many.
        bytes: How many these stand for.
    """

    nats: Floats
    tokens: Floats
    bytes: Floats


@dataclass(frozen=True, kw_only=True)
class DomainPerplexity(Evaluation):
    """Loss, perplexity and bits a byte of a model on each of several domains.

    Args:
        domains: What is read.
        tokenizer: Makes ids of text; None if the domains hold ids.
        n_tokens: How many ids the model has.
        length: Tokens of a window.

    Raises:
        DataError: If there is text without a tokenizer.
    """

    name: ClassVar[str] = "domain-perplexity"
    aliases: ClassVar[tuple[str, ...]] = ("perplexity",)

    domains: Sequence[Domain]
    tokenizer: Tokenizer | None
    n_tokens: int
    length: int
    batch_size: int = option(16, "windows measured at once", unit="windows", minimum=1)

    def __post_init__(self) -> None:
        texts = [domain.name for domain in self.domains if not domain.corpus.holds_ids]
        if self.tokenizer is None and texts:
            raise DataError(
                f"{', '.join(texts)}: got text; allowed: ids, since the model was not trained on text and has no "
                "tokenizer. Leave out --evaluation.paloma.dataset_name."
            )

    def __call__(self, model: nn.Module, rng: np.random.Generator) -> list[Row]:
        """Return a row for each domain, then for all by tokens, and for all counting the same; nothing is drawn."""
        known = self.tokenizer.n_tokens if self.tokenizer is not None else 0
        bytes_V = np.array([len(self._bytes(token)) if token < known else 0 for token in range(self.n_tokens)])
        sums = {domain.name: self._measured(model, domain, bytes_V) for domain in self.domains}
        rows = [Row(slices={"domain": name}, metrics=_summary(of_domain)) for name, of_domain in sums.items()]
        together = _Sums(*(np.concatenate(column) for column in zip(*sums.values(), strict=True)))
        mean = float(np.mean([row.metrics["loss_nats"] for row in rows]))
        return [
            *rows,
            Row(slices={"domains": "all, by tokens"}, metrics=_summary(together)),
            Row(
                slices={"domains": "all, each the same"},
                metrics={"loss_nats": mean, "perplexity": math.exp(mean), "n_domains": len(rows)},
            ),
        ]

    def _measured(self, model: nn.Module, domain: Domain, bytes_V: NDArray[np.int64]) -> _Sums:
        """Add up the losses of each document."""
        sums: list[list[float]] = []
        batch: list[tuple[int, Tokens]] = []

        def measure() -> None:
            for (number, window), losses in zip(batch, self._losses(model, batch), strict=True):
                sums[number][0] += float(losses[: len(window) - 1].sum())
            batch.clear()

        for number, document in enumerate(domain.corpus.documents()):
            sums.append([0.0, 0.0, 0.0])
            for window in self._windows(document):
                batch.append((number, window))
                sums[number][1] += len(window) - 1
                sums[number][2] += int(bytes_V[window[1:]].sum())
                if len(batch) == self.batch_size:
                    measure()
        if batch:
            measure()
        measured = np.array([each for each in sums if each[1]])
        if not len(measured):
            raise DataError(f"{domain.name}: got no tokens to measure; allowed: at least one. Leave the domain out.")
        return _Sums(*measured.T)

    def _windows(self, document: Document) -> Iterator[Tokens]:
        """Cut a document into ids, each the target once; a window begins with the id before its first target."""
        end = None if self.tokenizer is None else self.tokenizer.end_of_text
        held = np.array([MASK if end is None else end], np.int32)
        for piece in self._ids(document):
            held = np.concatenate([held, piece.astype(np.int32)])
            while len(held) > self.length:
                yield held[: self.length + 1]
                held = held[self.length :]
        if len(held) > 1:
            yield held

    def _ids(self, document: Document) -> Iterator[NDArray[np.unsignedinteger]]:
        pieces = [document.ids] if document.ids is not None else self._encoded(document)
        for ids in pieces:
            if len(ids) and int(ids.max()) >= self.n_tokens:
                raise DataError(
                    f"{document.where}: got id {ids.max()}; allowed: 0 to {self.n_tokens - 1}, the model's."
                )
            yield ids

    def _encoded(self, document: Document) -> Iterator[NDArray[np.unsignedinteger]]:
        assert self.tokenizer is not None
        return self.tokenizer.encode([document])

    def _losses(self, model: nn.Module, batch: Sequence[tuple[int, Tokens]]) -> Floats:
        """Return the losses of windows, filled up to the longest behind their ends, where no token before looks."""
        longest = max(len(window) for _, window in batch)
        rows = np.full((len(batch), longest), MASK, np.int32)
        for row, (_, window) in zip(rows, batch, strict=True):
            row[: len(window)] = window
        return losses_nats(model, rows[:, :-1], rows[:, 1:], self.n_tokens)

    def _bytes(self, token: int) -> bytes:
        return b"" if self.tokenizer is None else self.tokenizer.token_bytes(token)


def open_domains(dataset_name: str, split: str = "val") -> list[Domain]:
    """Open what perplexity is measured on.

    Args:
        dataset_name: A local folder with a file (``.txt``, ``.jsonl``, either compressed, or ``.parquet``) or a folder
            of texts for each domain; or one such file, the only domain; or a dataset's name on the Hub, whose
            configurations are the domains.
        split: Which part of a dataset of the Hub.

    Raises:
        DataError: If there is no such thing, or no domain in it.
        MissingExtraError: If it is a dataset's name and `datasets` is not installed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("news.txt", "talk.jsonl"):
        ...         _ = Path(f"{folder}/{name}").write_text("")
        ...     [domain.name for domain in open_domains(folder)]
        ['news', 'talk']
    """
    folder = Path(dataset_name)
    if not folder.exists():
        return [Domain(subset, HubDataset(dataset_name, subset, split)) for subset in _subsets(dataset_name)]
    is_folder = folder.is_dir()
    inner = sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if is_folder else [folder]
    domains = [
        Domain(path.name.partition(".")[0], ParquetFiles(path) if path.suffix == ".parquet" else TextFiles(path))
        for path in inner
        if path.is_dir() or path.suffix in ENDINGS
    ]
    names = [domain.name for domain in domains]
    if not domains or len(set(names)) < len(names):
        got = f"the domains {', '.join(names)}" if names else "none"
        raise DataError(
            f"{folder}: got {got}; allowed: a folder with a file for each domain, each of another name; or "
            f"one file. They end in {', '.join(ENDINGS)}."
        )
    return domains


def _subsets(name: str) -> list[str]:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets", extra="hub", purpose=f"reading the dataset {name}") from error
    try:
        return sorted(datasets.get_dataset_config_names(name))
    except Exception as error:  # the library's errors have no common base
        raise DataError(
            f"{name}: there is no such folder, nor can a dataset of that name be opened: {error}"
        ) from error


def _summary(sums: _Sums) -> dict[str, float]:
    """Return means with their intervals, perplexities with theirs, and counts."""
    n_tokens, n_documents = float(sums.tokens.sum()), len(sums.tokens)
    mean = float(sums.nats.sum()) / n_tokens
    deviation = math.sqrt(float(np.square(sums.nats - mean * sums.tokens).sum()))
    half_width = (
        NORMAL_95 * math.sqrt(n_documents / (n_documents - 1)) * deviation / n_tokens if n_documents > 1 else math.nan
    )
    loss = {"loss_nats": mean, "loss_nats_low": mean - half_width, "loss_nats_high": mean + half_width}
    metrics = {**loss, **{name.replace("loss_nats", "perplexity"): math.exp(nats) for name, nats in loss.items()}}
    if n_bytes := float(sums.bytes.sum()):
        metrics["bits_per_byte"] = mean * n_tokens / math.log(2) / n_bytes
    return {**metrics, "n_tokens": n_tokens, "n_documents": float(n_documents)}
