"""``xenoglot generate``: samples of any family, to files or to standard output."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xenoglot import languages
from xenoglot.commands.base import CommandParser, abandon_standard_output, add_option_flags, given_options
from xenoglot.errors import DataError, OptionError, OutputError
from xenoglot.options import check_options, option, options_of
from xenoglot.rng import MAX_SEED

if TYPE_CHECKING:
    from xenoglot.languages import Family

HELP = "write samples of a family of languages to files"
DEFAULT_FAMILY = "v2"
PICTURE_ENDINGS = (".png", ".svg", ".pdf")
MOST_PLOTTED_ROWS = 64

EPILOG = """\
--version FAMILY --help shows that family's own options. Text is one line a sample: tab-separated input,target pairs.

Examples:

  xenoglot generate --version v1 --error_rate 0.05 --samples 1000 --output samples.npy
  xenoglot generate --version markov --order 2 --samples 1000 --output samples.parquet --floor
"""


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """What ``xenoglot generate`` does, whatever the family."""

    samples: int = option(100, "samples, each of its own brand-new language", minimum=1)
    sequence_length: int = option(4096, "length of a sample", unit="tokens", minimum=1, maximum=2**31 - 2)
    output: str | None = option(None, "file to write: text, or .npy or .parquet by its ending; standard output if none")
    output_type: str | None = option(
        None, "what to write, whatever the file's ending", choices=("txt", "npy", "parquet")
    )
    floor: bool = option(False, "add a column with the exact loss of whoever knows the language (parquet)", unit="nats")
    seed: int | None = option(None, "same seed, same samples; drawn and shown if none", minimum=0, maximum=MAX_SEED)
    shards: int = option(1, "files to divide the samples over: NAME-00000-of-00004.npy and so on", minimum=1)
    workers: int = option(1, "processes to generate in; the files are the same", minimum=1, maximum=1024)
    plot: str | None = option(None, "picture to draw of a few samples and of the floor by position (.png, .svg, .pdf)")

    def __post_init__(self) -> None:
        check_options(self)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that every family shares."""
    parser.usage = "xenoglot generate [--version FAMILY] [options]"
    parser.epilog = EPILOG
    parser.add_argument(
        "--version", metavar="FAMILY", default=DEFAULT_FAMILY, help=f"family [default {DEFAULT_FAMILY}]"
    )
    add_option_flags(parser.add_argument_group("output"), options_of(GenerateOptions))


def add_more_arguments(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the options of the family that the words name."""
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    reader.add_argument("--version", default=DEFAULT_FAMILY, nargs="?")
    version = reader.parse_known_args(words)[0].version
    if version is None:
        return  # the parser itself complains that a word is missing
    family = languages.get(version)
    try:
        add_option_flags(parser.add_argument_group(f"options of {family.name}"), options_of(family))
    except argparse.ArgumentError as error:
        raise DataError(f"{family.name} cannot be used here: {error}. Rename that option of the family.") from error
    parser.explain_unknown = _owner_of


def run(arguments: argparse.Namespace) -> int:
    """Write the samples, and draw them if asked."""
    options = GenerateOptions(**given_options(arguments, options_of(GenerateOptions)))
    family_class = languages.get(arguments.version)
    family = family_class(**given_options(arguments, options_of(family_class)))
    _check_output(options)
    seed = options.seed
    if seed is None:
        seed = secrets.randbits(32)
        print(f"seed {seed}", file=sys.stderr)
    with _progress(options.samples * options.sequence_length) as report:
        _write(family, options, seed, report)
    if options.plot is not None:
        _draw(family, options, seed, Path(options.plot))
    return 0


def _owner_of(flag: str) -> str:
    """Say which other families have an option."""
    name = flag.lstrip("-").replace("-", "_")
    owners = [
        family_name
        for family_name, family in languages.registry.members().items()
        if any(name in (declared.name, *declared.flags) for declared in options_of(family))
    ]
    return f" It is an option of {' and '.join(owners)}: choose that with --version." if owners else ""


def _check_output(options: GenerateOptions) -> None:
    if options.plot is not None and Path(options.plot).suffix.lower() not in PICTURE_ENDINGS:
        raise OptionError("plot", options.plot, f"a path that ends in {', '.join(PICTURE_ENDINGS)}")
    if options.output is None:
        if options.output_type not in (None, "txt"):
            raise OptionError("output", None, f"a path, since {options.output_type} is not for standard output")
        if options.shards > 1:
            raise OptionError("shards", options.shards, "1 on standard output", "Name a file with --output.")
        if options.floor:
            raise OptionError("floor", True, "false on standard output", "Name a .parquet file with --output.")


def _write(family: Family, options: GenerateOptions, seed: int, report: Callable[[int], object]) -> None:
    from xenoglot.generate import write_samples, write_text

    shared: dict[str, Any] = {
        "samples": options.samples,
        "length": options.sequence_length,
        "seed": seed,
        "workers": options.workers,
        "report": report,
    }
    if options.output is not None:
        write_samples(
            family,
            options.output,
            file_format=options.output_type,
            floor=options.floor,
            shards=options.shards,
            **shared,
        )
        return
    try:
        write_text(family, sys.stdout.buffer, **shared)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        abandon_standard_output()
        raise OutputError(f"cannot write to standard output: {error.strerror}.") from error


def _draw(family: Family, options: GenerateOptions, seed: int, path: Path) -> None:
    from xenoglot.figures import draw_samples
    from xenoglot.generate import CHUNK_TOKENS

    rows = min(options.samples, MOST_PLOTTED_ROWS, max(1, CHUNK_TOKENS // options.sequence_length))
    batch = family.batch(rows, options.sequence_length, seed, floor=True)
    draw_samples(batch, family, path)
    print(f"picture {path}", file=sys.stderr)


@contextmanager
def _progress(n_tokens: int) -> Iterator[Callable[[int], object]]:
    """Show a bar with the speed on a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[speed]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=n_tokens, speed="")
        began = time.perf_counter()

        def report(tokens: int) -> None:
            progress.advance(task, tokens)
            tokens_per_second = progress.tasks[0].completed / (time.perf_counter() - began)
            progress.update(task, speed=f"{tokens_per_second / 1e6:.1f} M tokens/s")

        yield report
