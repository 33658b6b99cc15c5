"""``xenoglot evaluate``: any evaluation on any checkpoint: tables, and rows as JSON."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shtab

from xenoglot.commands.base import CommandParser, add_option_flags, given_options
from xenoglot.errors import XenoglotError
from xenoglot.evaluation_files import RESULTS
from xenoglot.options import Option, options_of

if TYPE_CHECKING:
    from xenoglot.applying.adapting import OpenedModel

HELP = "measure a checkpoint by any evaluation: in context, perplexity by domain, few-shot, tagging, ..."

EPILOG = """\
CHECKPOINT is a run, one of its checkpoints, or any folder of a Llama model. What a run was measured on while training
is measured again on the same rows, unless options name other data.

Evaluations, or one of your own by its path, my_module:Mine:

{evaluations}

Options of one: xenoglot evaluate --evaluation NAME --help

Examples:

  xenoglot evaluate runs/first --evaluation in-context --n_languages 64
  xenoglot evaluate runs/first --evaluation perplexity --text folder-of-domains
  xenoglot evaluate runs/first/checkpoints/step_500 --evaluation tagging --iob2 dev.iob2
"""
FAMILY_OPTION = "languages."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the checkpoint and the evaluation; further options are the evaluation's."""
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", type=Path, help="a run, a checkpoint, or a Llama model's folder"
    )
    parser.add_argument("--evaluation", metavar="NAME", help="what is measured; names are below")
    parser.add_argument("--seed", metavar="N", type=int, help="what its data is drawn from [default: as in the run]")
    action = parser.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help=f"where the rows go, as JSON [default: NAME_step_N.json in the run's {RESULTS}; none without a run]",
    )
    action.complete = shtab.FILE  # type: ignore[attr-defined]


def add_more_arguments(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the options of the evaluation that is named, and those of a family."""
    chooser = CommandParser(add_help=False)
    chooser.add_argument("--evaluation", nargs="?")
    chooser.add_argument("--language", nargs="?")
    chosen, _ = chooser.parse_known_args(words)
    options: list[Option] = []
    if chosen.evaluation is not None:
        from xenoglot.applying.evaluating import evaluation_class, options_by_name

        kind = evaluation_class(chosen.evaluation)
        options = list(options_by_name(kind).values())
        add_option_flags(parser.add_argument_group(f"the evaluation, {kind.name}"), options)
    if chosen.language is not None:
        options += _family_options(parser, chosen.language)
    if {"--help", "-h"} & set(words):
        parser.epilog = EPILOG.format(evaluations=_listing())
    parser.set_defaults(options=options)


def _family_options(parser: CommandParser, name: str) -> list[Option]:
    from xenoglot import languages

    family = languages.get(name)
    options = [dataclasses.replace(known, name=f"{FAMILY_OPTION}{known.name}") for known in options_of(family)]
    add_option_flags(parser.add_argument_group(f"the family, {family.name}; by default as in the run"), options)
    return options


def _listing() -> str:
    """Say what evaluations there are, a line each."""
    from xenoglot import evaluations

    lines = []
    for name, kind in evaluations.registry.members().items():
        also = "".join(f" ({alias})" for alias in getattr(kind, "aliases", ()))
        lines.append(f"  {name}{also}: {(kind.__doc__ or '').partition(chr(10))[0].rstrip('.')}")
    return "\n".join(sorted(lines))


def run(arguments: argparse.Namespace) -> int:
    """Measure, print tables, and write the rows."""
    if arguments.evaluation is None:
        from xenoglot import evaluations

        known = ", ".join(evaluations.names())
        raise XenoglotError(f"evaluate: got nothing to measure; allowed: --evaluation NAME, one of {known}.")
    from xenoglot.applying.adapting import open_model
    from xenoglot.applying.evaluating import evaluation_for, evaluation_rng
    from xenoglot.applying.tables import print_tables
    from xenoglot.tracking import write_json

    options = given_options(arguments, arguments.options)
    model = open_model(arguments.checkpoint)
    with tempfile.TemporaryDirectory() as cache_dir:
        evaluation = evaluation_for(model, arguments.evaluation, options, cache_dir=cache_dir)
        target = arguments.output or _place_in_run(model, evaluation.name)
        _check_folder(target)
        print(f"{evaluation.name} of {model.name} ...", file=sys.stderr)
        rows = evaluation(model.decoder, evaluation_rng(model, arguments.seed))
    print_tables(rows)
    if target is not None:
        facts = _facts(model, evaluation.name, arguments.seed, options)
        write_json(target, {**facts, "rows": [row.to_mapping() for row in rows]})
        print(f"\nrows: {target}")
    return 0


def _facts(model: OpenedModel, evaluation: str, seed: int | None, options: Mapping[str, Any]) -> dict[str, Any]:
    from xenoglot.checkpoint_folders import step_of

    step = None if model.config is None else step_of(model.folder)
    return {"evaluation": evaluation, "model": model.name, "step": step, "seed": seed, "options": dict(options)}


def _place_in_run(model: OpenedModel, evaluation: str) -> Path | None:
    """Return where the results of a run's checkpoint are kept."""
    if model.config is None:
        return None
    results = model.folder.absolute().parent.parent / RESULTS
    return results / f"{evaluation}_{model.folder.name}.json" if results.is_dir() else None


def _check_folder(target: Path | None) -> None:
    """Complain before anything is measured if the results would have no place."""
    from xenoglot.errors import OutputError

    if target is not None and not target.parent.is_dir():
        raise OutputError(f"{target}: there is no folder {target.parent}. Make it, or name another --output.")
