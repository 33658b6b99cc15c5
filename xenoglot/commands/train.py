"""``xenoglot train``: a decoder learns to learn brand-new languages, or your own text; the run ends with a picture."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from xenoglot.commands.base import CommandParser, add_option_flags, given_options
from xenoglot.errors import OptionError

if TYPE_CHECKING:
    from xenoglot.config import RunConfig
    from xenoglot.run import Finished

HELP = "train a decoder on brand-new languages, or on your own text"

EPILOG = """\
Without options: MetaLM-1 languages of 16 words, each row another one. The run is a folder in runs/: configuration,
metrics, results, checkpoints, and in_context.png, the loss by position.

Examples: xenoglot train --text book.txt;
xenoglot train --languages.family markov --languages.order 2 --training.max_steps 3000
"""
STOPPED_BY_A_SIGNAL = 128


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say how the command is used; its options depend on what is learned."""
    parser.usage = "xenoglot train [--text FILE | --languages.family FAMILY] [--SECTION.OPTION VALUE ...]"
    parser.epilog = EPILOG


def add_more_arguments(parser: CommandParser, words: Sequence[str]) -> None:
    """Add every option of the configuration, with the defaults for what the words say is learned."""
    from xenoglot.config import options_by_path

    options = options_by_path(_base_config(words))
    for section in dict.fromkeys(path.partition(".")[0] for path in options):
        group = parser.add_argument_group(section)
        add_option_flags(group, [known for path, known in options.items() if path.startswith(f"{section}.")])
    parser.set_defaults(words=list(words))


def run(arguments: argparse.Namespace) -> int:
    """Train, evaluate, save, draw, and say what came of it."""
    from xenoglot.config import options_by_path, with_overrides
    from xenoglot.run import start

    base = _base_config(arguments.words)
    finished = start(with_overrides(base, given_options(arguments, options_by_path(base).values())))
    if finished.is_main:
        _summarise(finished)
    stopped_by = finished.outcome.interrupted_by
    return 0 if stopped_by is None else STOPPED_BY_A_SIGNAL + stopped_by


def _base_config(words: Sequence[str]) -> RunConfig:
    """Return the defaults for what the command line says is learned."""
    from xenoglot.config import default_config, with_overrides

    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--text", "--data.text", nargs="?")
    chooser.add_argument("--languages.family", dest="family", nargs="?")
    chosen, _ = chooser.parse_known_args(words)
    if chosen.text is not None and chosen.family is not None:
        raise OptionError("languages.family", chosen.family, "nothing beside --text", "Leave out one of them.")
    config = default_config(chosen.text)
    return config if chosen.family is None else with_overrides(config, {"languages.family": chosen.family})


def _summarise(finished: Finished) -> None:
    """Print what came of the run, in a few lines for people."""
    rows = finished.evaluations[max(finished.evaluations)]
    by_part = {row.slices["part"]: row.metrics for row in rows if "part" in row.slices}
    outcome, config = finished.outcome, finished.config
    steps = f"{outcome.steps:,} of {config.training.max_steps:,} steps"
    print(f"trained for {steps}" if outcome.interrupted_by is None else f"interrupted after {steps}, which are saved")
    if config.languages is None:
        print(f"held-out text: {_with_interval(by_part['whole'], 'loss_nats')} nats a token")
    else:
        last = by_part["last quarter"]
        print(f"fresh languages, last quarter of the context: loss {_with_interval(last, 'loss_nats')} nats a token")
        print(f"  best possible {last['floor_nats']:.3f}, excess {_with_interval(last, 'excess_nats')}")
    print(f"  guessing {by_part['whole']['uniform_nats']:.3f}")
    print(f"checkpoint: {finished.folder / 'checkpoints' / f'step_{outcome.steps}'}")
    print(f"figure: {finished.folder / 'in_context.png'}")


def _with_interval(metrics: Mapping[str, float], name: str) -> str:
    half_width = metrics[f"{name}_high"] - metrics[name]
    return f"{metrics[name]:.3f} ± {half_width:.3f}"
