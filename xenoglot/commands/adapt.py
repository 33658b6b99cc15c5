"""``xenoglot adapt``: how a checkpoint adapts to one's own input, step by step: a table, a picture, and JSON."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import shtab

from xenoglot.commands.base import CommandParser, add_option_flags, given_options
from xenoglot.errors import XenoglotError
from xenoglot.options import Option, options_of

if TYPE_CHECKING:
    from xenoglot.applying.adapting import OpenedModel
    from xenoglot.evaluations.base import Row
    from xenoglot.languages import Family

    Measured = tuple[dict[str, list[Row]], dict[str, list[Row]], str]
    """Rows by model, differences by model, and what to print."""

HELP = "adapt a checkpoint to your own sentences, labels, or a brand-new language, and draw how fast it learns"

EPILOG = """\
CHECKPOINT is a run, one of its checkpoints, or any folder of a Llama model. Several are measured on the same input.

Sentences and labels become few-shot tasks, which are held out: accuracy and loss before any gradient step and after 1,
2, 5, 10, 20 and 50, with 95 % intervals, beside closed-form heads, an untrained model, and a control whose labels say
nothing. Rates are chosen on other tasks. Held out is what this command does not adapt to: give text that the run was
not trained on, or its words and sentences are not new to it.

A language is learned in two ways, by reading on and by gradient steps, beside its floor.

With --against, every CHECKPOINT is also compared with OTHER task by task, on the very same tasks or languages: far
smaller differences are told from chance than by two intervals side by side.

Examples:

  xenoglot adapt runs/first --sentences book.txt
  xenoglot adapt runs/first --labelled intents.jsonl --n_way 3
  xenoglot adapt runs/hybrid --against runs/first --sentences book.txt --output comparison
  xenoglot adapt runs/hybrid --against runs/first --language metalm-v1
  xenoglot adapt runs/first --language markov --languages.vocab_size 16
"""
NAME = "adaptation"
FAMILY_OPTION = "languages."
LONGEST_LABEL = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the checkpoints, what to adapt to, and how much of it."""
    parser.epilog = EPILOG
    parser.add_argument(
        "checkpoints", metavar="CHECKPOINT", nargs="+", type=Path, help="a run, a checkpoint, or a Llama model's folder"
    )
    parser.add_argument(
        "--against", metavar="OTHER", type=Path, help="a model to compare each CHECKPOINT with, in pairs"
    )
    what = parser.add_argument_group("what to adapt to, one of these").add_mutually_exclusive_group()
    for flag, explanation in (
        ("--sentences", "sentences: .txt, .jsonl, .parquet, or a folder; tasks are to tell which word was masked"),
        ("--labelled", 'labelled texts, a JSON object a line: {"text": ..., "label": ...}'),
    ):
        what.add_argument(flag, metavar="FILE", help=explanation).complete = shtab.FILE  # type: ignore[attr-defined]
    what.add_argument("--language", metavar="FAMILY", help="brand-new languages of a family; see xenoglot describe")
    sizes = parser.add_argument_group("how much of it")
    for flag, default, explanation in (
        ("--n_way", 5, "words, or labels, of a task"),
        ("--k_shot", 4, "examples of each to adapt to"),
        ("--q_query", 4, "examples of each to be judged by"),
        ("--n_tasks", 600, "held-out tasks"),
        ("--n_languages", 16, "new languages"),
        ("--seed", 0, "what tasks and heads are drawn from"),
    ):
        sizes.add_argument(flag, metavar="N", type=int, default=default, help=f"{explanation} [default {default}]")
    sizes.add_argument("--all_weights", action="store_true", help="fine-tune all weights too, a hundred times as long")
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        type=Path,
        default=Path(),
        help=f"where {NAME}.png and {NAME}.json go [default: the current folder]",
    )


def add_more_arguments(parser: CommandParser, words: Sequence[str]) -> None:
    """Add the options of the family that is named."""
    from xenoglot import languages

    chooser = CommandParser(add_help=False)
    chooser.add_argument("--language", nargs="?")
    chosen, _ = chooser.parse_known_args(words)
    options: list[Option] = []
    if chosen.language is not None:
        family = languages.get(chosen.language)
        options = [dataclasses.replace(known, name=f"{FAMILY_OPTION}{known.name}") for known in options_of(family)]
        add_option_flags(parser.add_argument_group(f"the family, {family.name}; by default as in the run"), options)
    parser.set_defaults(family_options=options)


def run(arguments: argparse.Namespace) -> int:
    """Measure every checkpoint, print a table, and leave the picture and the numbers."""
    from xenoglot.applying.adapting import open_model
    from xenoglot.tracking import write_json

    if not (arguments.sentences or arguments.labelled or arguments.language):
        raise XenoglotError("adapt: got nothing to adapt to; allowed: --sentences FILE, --labelled FILE or --language.")
    models = [open_model(path) for path in arguments.checkpoints]
    models += [] if arguments.against is None else [open_model(arguments.against)]
    names = _told_apart(models, [*arguments.checkpoints, arguments.against])
    measure = _languages_learned if arguments.language else _tasks_solved
    results, differences, told = measure(dict(zip(names, models, strict=True)), arguments)
    print(told)
    folder = _made(arguments.output)
    _draw(results, folder / f"{NAME}.png", arguments)
    numbers = {
        part: {name: [row.to_mapping() for row in rows] for name, rows in of_models.items()}
        for part, of_models in {"rows": results, "differences": differences}.items()
    }
    write_json(folder / f"{NAME}.json", numbers | {"against": names[-1] if arguments.against else None})
    print(f"\nfigure: {folder / NAME}.png\nnumbers: {folder / NAME}.json")
    return 0


def _told_apart(models: Sequence[OpenedModel], given: Sequence[Path | None]) -> list[str]:
    """Return the models' names, or where two are called the same, what was typed; and what is typed twice, counted."""
    names = [model.name for model in models]
    names = [str(path) if names.count(name) > 1 else name for name, path in zip(names, given, strict=False)]
    return [
        f"{name} ({names[: place + 1].count(name)})" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]


def _pairs(names: Sequence[str], arguments: argparse.Namespace) -> list[tuple[str, str]]:
    """Return which models are compared: each with the one after --against, which is the last."""
    return [(name, names[-1]) for name in names[:-1]] if arguments.against else []


def _tasks_solved(models: Mapping[str, OpenedModel], arguments: argparse.Namespace) -> Measured:
    """Adapt every model to tasks of the same sentences or labelled texts."""
    from xenoglot.applying.adapting import labelled_examples, own_sentences
    from xenoglot.applying.adapting_curves import check_same_tasks, measured_curves, paired_rows, rows_of
    from xenoglot.applying.adapting_tables import few_shot_tables

    sizes = {name: getattr(arguments, name) for name in ("n_way", "k_shot", "q_query", "seed")}
    sizes["max_length"] = min(model.decoder.config.max_seq_len for model in models.values())
    make, path = (
        (own_sentences, arguments.sentences) if arguments.sentences else (labelled_examples, arguments.labelled)
    )
    tasks = {name: make(model, path, **sizes) for name, model in models.items()}
    pairs = _pairs(list(models), arguments)
    for name, other in pairs:
        check_same_tasks(tasks[name], tasks[other], n_episodes=arguments.n_tasks)
    curves = {}
    for name, model in models.items():
        print(f"adapting {name} ...", file=sys.stderr)
        if model.config is not None and str(path) in (model.config.data.text, model.config.smlmt.sentences):
            print(f"note: {name} was trained on {path}, so its tasks are not new to it", file=sys.stderr)
        options = {"n_episodes": arguments.n_tasks, "seed": arguments.seed}
        curves[name] = measured_curves(model, tasks[name], with_all_weights=arguments.all_weights, **options)
    results = {name: rows_of(of_model) for name, of_model in curves.items()}
    differences = {name: paired_rows(curves[name], curves[other]) for name, other in pairs}
    return results, differences, few_shot_tables(results, differences, against=pairs[0][1] if pairs else None)


def _languages_learned(models: Mapping[str, OpenedModel], arguments: argparse.Namespace) -> Measured:
    """Let every model learn languages of the same family, and the same ones where they are compared."""
    from xenoglot.applying.adapting import family_of
    from xenoglot.applying.adapting_tables import language_difference_table, language_table
    from xenoglot.evaluations.language_learning import LanguageLearning, difference_rows
    from xenoglot.rng import generator

    given = given_options(arguments, arguments.family_options)
    options = {path.removeprefix(FAMILY_OPTION): value for path, value in given.items()}
    families = {name: family_of(model, arguments.language, options) for name, model in models.items()}
    length = min(model.decoder.config.max_seq_len for model in models.values())
    pairs = _pairs(list(models), arguments)
    for name, other in pairs:
        _check_same_family(families, name, other)
    curves = {}
    for name, model in models.items():
        print(f"adapting {name} ...", file=sys.stderr)
        learning = LanguageLearning(family=families[name], length=length, n_languages=arguments.n_languages)
        curves[name] = learning.measure(model.decoder, generator(arguments.seed, "adapt"))
    results = {name: of_model.rows() for name, of_model in curves.items()}
    differences = {name: difference_rows(curves[name], curves[other]) for name, other in pairs}
    told = [f"{name}\n\n{language_table(rows)}" for name, rows in results.items()]
    told += [f"{name} less {other}\n\n{language_difference_table(differences[name])}" for name, other in pairs]
    return results, differences, "\n\n".join(told)


def _check_same_family(families: Mapping[str, Family], name: str, other: str) -> None:
    if families[name] != families[other]:
        raise XenoglotError(
            f"--against: got other languages for {name} than for {other}, as their runs have them; allowed: the same "
            f"for both. Give the options in which they differ, such as --{FAMILY_OPTION}vocab_size."
        )


def _draw(results: Mapping[str, Sequence[Row]], path: Path, arguments: argparse.Namespace) -> None:
    from xenoglot.applying.adapting_curves import STEPPED
    from xenoglot.figures_adapting import draw_few_shot, draw_language_learning

    labels = _labels(results)
    if arguments.language:
        title = f"New languages of {arguments.language}, learned in two ways"
        return draw_language_learning({labels[name]: rows for name, rows in results.items()}, path, title=title)
    curves = {
        " ".join([*([f"{labels[name]}:"] if len(results) > 1 else []), str(method)]): [
            row for row in rows if row.slices["method"] == method and "control" not in row.slices
        ]
        for name, rows in results.items()
        for method in dict.fromkeys(row.slices["method"] for row in rows)
    }
    if len(results) > 1:  # what takes no steps is in the table, and would hide what does
        curves = {name: rows for name, rows in curves.items() if rows[0].slices["method"] in STEPPED}
    what = "sentences" if arguments.sentences else "labels"
    return draw_few_shot(curves, path, title=f"Held-out tasks of your own {what}, {arguments.n_way}-way")


def _labels(names: Iterable[str]) -> dict[str, str]:
    """Return what a picture calls each model: the end of a long name, for which it has no room, counted."""
    return {
        name: name if len(name) <= LONGEST_LABEL else f"{place}: …{name[-LONGEST_LABEL:]}"
        for place, name in enumerate(names, start=1)
    }


def _made(folder: Path) -> Path:
    from xenoglot.errors import OutputError
    from xenoglot.storage.files import reason_of

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: the folder cannot be made: {reason_of(error)}. Name another --output.") from error
    return folder
