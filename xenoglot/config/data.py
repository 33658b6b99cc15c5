"""What a run can be told about the data that it learns, other than languages."""

from __future__ import annotations

from dataclasses import dataclass, field

from xenoglot.options import check_options, option

__all__ = ["DataConfig", "DataLoaderConfig", "DatasetConfig", "TokenizerConfig"]


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """A Hugging Face dataset, or local parquet files, to learn instead of languages."""

    name: str | None = option(None, "dataset's name on the Hub, or a parquet file, or a folder of them")
    subset: str | None = option(None, "which configuration of the dataset")
    split: str = option("train", "which part of the dataset is learned")
    column: str | None = option(
        None, "column that is read: text, or ids of tokens; the first of text, content, input_ids if none"
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """How text becomes ids."""

    name: str | None = option(
        None,
        "bytes; bpe, trained on the text; or a tokenizer.json, a folder with one, or a name on the Hub; "
        "if none: bytes for a text, bpe for a dataset of text",
    )
    vocab_size: int = option(8192, "ids of a byte-level BPE that is trained, at most", unit="ids", minimum=260)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class DataLoaderConfig:
    """How rows are put together."""

    batch_size: int = option(
        32, "rows of an optimizer step, over all devices and accumulation steps together", unit="rows", minimum=1
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is learned."""

    text: str | None = option(
        None,
        "your own text to learn instead of languages: a .txt or .jsonl file, plain, .gz or .zst, or a folder of them",
        flags=("text",),
    )
    samples: str | None = option(None, "file that `xenoglot generate` wrote, or a folder of its shards, to learn from")
    n_languages: int | None = option(
        None,
        "how many languages there are, each seen again and again; without end if none",
        unit="languages",
        minimum=1,
    )
    targets: str = option(
        "words",
        "what of a language is learned: words, those that came; or law, how probable the best learner holds each word "
        "after the same tokens, which is the same on average, with less noise",
        choices=("words", "law"),
    )
    easy_start: bool = option(True, "whether the stages of the curriculum, if there are any, come first")
    cache_dir: str | None = option(None, "where a text's tokens are kept; .tokens in runs_dir if none")
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    dataloader: DataLoaderConfig = field(default_factory=DataLoaderConfig)

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def unit(self) -> str:
        """What is predicted, in words: a byte where those are the tokens, else a token."""
        return "byte" if self.text is not None and self.tokenizer.name in (None, "bytes") else "token"

    @property
    def sources(self) -> dict[str, str]:
        """The options that name something to learn instead of languages, as far as they are given."""
        named = {"data.text": self.text, "data.samples": self.samples, "data.dataset.name": self.dataset.name}
        return {path: value for path, value in named.items() if value is not None}
