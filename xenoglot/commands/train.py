"""``xenoglot train``: a decoder learns to learn brand-new languages, or your own text; the run ends with a picture."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shtab

from xenoglot.commands.base import NONE_WORD, CommandParser, add_option_flags, given_options, spelled_as_declared
from xenoglot.errors import OptionError

if TYPE_CHECKING:
    from xenoglot.config import RunConfig
    from xenoglot.options import Option
    from xenoglot.run import Finished

HELP = "train a decoder on brand-new languages, or on your own text"

USAGE = """\
xenoglot train [--text FILE | --languages.family FAMILY]
                      [--recipe NAME | --config_path FILE | --resume RUN] [--SECTION.OPTION VALUE ...]"""

EPILOG = """\
Without options: MetaLM-1 languages of 16 words, each row another one. The run is a folder in runs/: config.yaml,
metrics, results, checkpoints, and in_context.png, the loss by position.

What is learned decides about the defaults; a recipe, a file or a run's configuration overrules them, and options
overrule that. Recipes:

{recipes}

Examples:

  xenoglot train --text book.txt
  xenoglot train --languages.family markov --languages.vocab_size 8 --training.max_steps 3000
  xenoglot train --recipe metalm-v1-n5-l32 --dry-run
  xenoglot train --resume runs/2026-11-22_10-00-00
"""
STOPPED_BY_A_SIGNAL = 128
DECIDING = ("data.text", "data.samples", "data.dataset.name", "languages.family", "model.size", "model.from_pretrained")
"""Options on which the defaults of others depend."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say how the command is used; its further options depend on what is learned."""
    parser.usage = USAGE
    _add_sources(parser.add_argument_group("the run"))
    actions = parser.add_argument_group("instead of training")
    actions.add_argument("--print_config", action="store_true", help="print the configuration as YAML, and exit")
    actions.add_argument(
        "--dry-run",
        action="store_true",
        help="print what the run would take: parameters, tokens, operations, memory, disk, and time, from a second or "
        "two of training, and exit; nothing is written",
    )
    actions.add_argument(
        "--print_schema", action="store_true", help="print a JSON schema of configuration files, for editors, and exit"
    )


def _add_sources(parser: argparse._ActionsContainer) -> None:
    """Add what names a configuration to begin with; given more than once, each is kept, to be refused."""
    sources = {
        ("--recipe",): ("NAME", "a ready configuration, by its name: see below", None),
        ("--config_path", "--config"): (
            "FILE",
            "configuration as YAML; what it does not say has its default",
            shtab.FILE,
        ),
        ("--resume",): ("RUN", "folder of a run to go on with, from its newest valid checkpoint", shtab.DIRECTORY),
    }
    for flags, (metavar, explanation, completed_by) in sources.items():
        action = parser.add_argument(*flags, metavar=metavar, action="append", help=explanation)
        if completed_by:
            action.complete = completed_by  # type: ignore[attr-defined]


def add_more_arguments(parser: CommandParser, words: Sequence[str]) -> None:
    """Add every option of the configuration, with the defaults for what the words say is learned."""
    from xenoglot.config import recipes
    from xenoglot.config.pico import PicoWarning

    listed = "\n".join(f"  {name}: {summary.rstrip('.')}" for name, summary in recipes.summaries().items())
    parser.epilog = EPILOG.format(recipes=listed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PicoWarning)
        layer, options = _asked_for(words)
    for section in dict.fromkeys(path.rpartition(".")[0] for path in options):
        group = parser.add_argument_group(section)
        add_option_flags(group, [known for path, known in options.items() if path.rpartition(".")[0] == section])
    parser.set_defaults(layer=layer, options=options, warnings=[str(each.message) for each in caught])


def run(arguments: argparse.Namespace) -> int:
    """Train, evaluate, save, draw, and say what came of it."""
    from xenoglot.config import resolve
    from xenoglot.config.layers import nested

    if arguments.print_schema:
        from xenoglot.config.schema import json_schema

        print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
        return 0
    given = given_options(arguments, arguments.options.values())
    for path in ("checkpointing.runs_dir", "checkpointing.run_name"):
        if arguments.resume and path in given:
            raise OptionError(path, given[path], f"nothing beside --resume {arguments.resume[0]}")
    config = resolve(arguments.layer, nested(given))
    if int(os.environ.get("LOCAL_RANK", "0")) == 0:  # processes that are started for further devices read it too
        for warning in arguments.warnings:
            print(f"xenoglot: {warning}", file=sys.stderr)
    if arguments.print_config:
        from xenoglot.config.files import config_text

        print(config_text(config), end="")
        return 0
    if arguments.dry_run:
        from xenoglot.estimates import estimate

        print(estimate(config))
        return 0
    return _train(config)


def _asked_for(words: Sequence[str]) -> tuple[Mapping[str, Any], dict[str, Option]]:
    """Return the layer below the options, and the options that there are on top of it, with their defaults."""
    from xenoglot.config import options_by_path, resolve
    from xenoglot.config.layers import SIZE_OPTION, nested

    chooser = CommandParser(add_help=False, argument_default=argparse.SUPPRESS)
    _add_sources(chooser)
    for path in DECIDING:
        chooser.add_argument(
            *(f"--{flag}" for flag in (path, *(["text"] if path == "data.text" else []))), dest=path, nargs="?"
        )
    chosen, _ = chooser.parse_known_args(spelled_as_declared(words, chooser))
    layer = _layer(chosen)
    said = {path: word for path, word in vars(chosen).items() if path in DECIDING and word is not None}
    deciding = {path: None if word.lower() == NONE_WORD else word for path, word in said.items()}
    options = options_by_path(resolve(layer, nested(deciding)))
    return layer, options | {SIZE_OPTION.name: SIZE_OPTION}


def _layer(chosen: argparse.Namespace) -> Mapping[str, Any]:
    """Read the recipe, file or run that the options go on top of."""
    from xenoglot.config import recipes
    from xenoglot.config.files import read_layer

    named = [(flag, name) for flag in ("recipe", "config_path", "resume") for name in getattr(chosen, flag, [])]
    if len(named) > 1:
        (_, first), (flag, second), *_ = named
        raise OptionError(
            flag, second, f"nothing beside {first!r}", "One recipe, file or run, and options on top of it."
        )
    for flag, name in named:
        if flag == "resume":
            return _layer_of_run(Path(name))
        return read_layer(recipes.path(name) if flag == "recipe" else name)
    return {}


def _layer_of_run(folder: Path) -> Mapping[str, Any]:
    """Read a run's configuration, with the folder that it has now."""
    from xenoglot.config.files import read_layer

    folder = Path(os.path.normpath(folder.absolute()))
    if not (folder / "config.yaml").is_file():
        raise OptionError("resume", str(folder), "the folder of a run, in which there is a config.yaml")
    layer = read_layer(folder / "config.yaml")
    place = {"runs_dir": os.path.relpath(folder.parent), "run_name": folder.name, "auto_resume": True}
    return {**layer, "checkpointing": {**(layer.get("checkpointing") or {}), **place}}


def _train(config: RunConfig) -> int:
    from xenoglot.credentials import read_credentials
    from xenoglot.run import start

    read_credentials()
    finished = start(config)
    if finished.is_main:
        _summarise(finished)
    stopped_by = finished.outcome.interrupted_by
    return 0 if stopped_by is None else STOPPED_BY_A_SIGNAL + stopped_by


def _summarise(finished: Finished) -> None:
    """Print what came of the run, in a few lines for people."""
    rows = finished.evaluations[max(finished.evaluations)]
    by_part = {row.slices["part"]: row.metrics for row in rows if "part" in row.slices}
    outcome, config = finished.outcome, finished.config
    steps = f"{outcome.steps:,} of {config.training.max_steps:,} steps"
    print(f"trained for {steps}" if outcome.interrupted_by is None else f"interrupted after {steps}, which are saved")
    if config.languages is None:
        what = "held-out samples" if config.data.samples is not None else "held-out text"
        print(f"{what}: {_with_interval(by_part['whole'], 'loss_nats')} nats a {config.data.unit}")
    else:
        last = by_part["last quarter"]
        print(f"fresh languages, last quarter of the context: loss {_with_interval(last, 'loss_nats')} nats a token")
        print(f"  best possible {last['floor_nats']:.3f}, excess {_with_interval(last, 'excess_nats')}")
    print(f"  guessing {by_part['whole']['uniform_nats']:.3f}")
    print(f"checkpoint: {finished.folder / 'checkpoints' / f'step_{outcome.steps}'}")
    print(f"figure: {finished.folder / 'in_context.png'}")
    print(f"report: {finished.folder / 'report.html'}")


def _with_interval(metrics: Mapping[str, float], name: str) -> str:
    half_width = metrics[f"{name}_high"] - metrics[name]
    return f"{metrics[name]:.3f} ± {half_width:.3f}"
