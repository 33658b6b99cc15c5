"""``xenoglot adapt``: how a checkpoint adapts to one's own input, step by step: a table, a picture, and JSON."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import shtab

from xenoglot.commands.base import CommandParser, add_option_flags, given_options
from xenoglot.errors import XenoglotError
from xenoglot.options import Option, options_of

if TYPE_CHECKING:
    from xenoglot.adapting import OpenedModel
    from xenoglot.evaluations.base import Row

HELP = "adapt a checkpoint to your own sentences, labels, or a brand-new language, and draw how fast it learns"

EPILOG = """\
CHECKPOINT is a run, one of its checkpoints, or any folder of a Llama model. Several are measured on the same input.

Sentences and labels become few-shot tasks, which are held out: accuracy and loss after 0, 1, 2, 5, 10, 20 and 50
gradient steps, with 95 % intervals, beside closed-form heads, an untrained model, and a control whose labels say
nothing. Rates are chosen on other tasks. A language is learned in two ways, by reading on and by gradient steps,
beside its floor.

Examples:

  xenoglot adapt runs/first --sentences book.txt
  xenoglot adapt runs/first --labelled intents.jsonl --n_way 3
  xenoglot adapt runs/first runs/second --language metalm-v1 --output comparison
  xenoglot adapt runs/first --language markov --languages.vocab_size 16
"""
NAME = "adaptation"
FAMILY_OPTION = "languages."
SHOWN_STEPS = (0, 1, 5, 10, 50)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the checkpoints, what to adapt to, and how much of it."""
    parser.epilog = EPILOG
    parser.add_argument(
        "checkpoints", metavar="CHECKPOINT", nargs="+", type=Path, help="a run, a checkpoint, or a Llama model's folder"
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
    from xenoglot.adapting import open_model
    from xenoglot.tracking import write_json

    if not (arguments.sentences or arguments.labelled or arguments.language):
        raise XenoglotError("adapt: got nothing to adapt to; allowed: --sentences FILE, --labelled FILE or --language.")
    models = [open_model(path) for path in arguments.checkpoints]
    results: dict[str, list[Row]] = {}
    for model in models:
        print(f"adapting {model.name} ...", file=sys.stderr)
        results[model.name] = _rows_of_language(model, arguments) if arguments.language else _rows(model, arguments)
        table = _language_table if arguments.language else _few_shot_table
        print(f"{model.name}\n\n{table(results[model.name])}\n")
    folder = _made(arguments.output)
    _draw(results, folder / f"{NAME}.png", arguments)
    named = {name: [row.to_mapping() for row in rows] for name, rows in results.items()}
    write_json(folder / f"{NAME}.json", {"rows": named})
    print(f"figure: {folder / NAME}.png\nnumbers: {folder / NAME}.json")
    return 0


def _rows(model: OpenedModel, arguments: argparse.Namespace) -> list[Row]:
    from xenoglot.adapting import labelled_examples, measured, own_sentences

    sizes = {name: getattr(arguments, name) for name in ("n_way", "k_shot", "q_query", "seed")}
    if arguments.sentences is not None:
        tasks = own_sentences(model, arguments.sentences, **sizes)
    else:
        tasks = labelled_examples(model, arguments.labelled, **sizes)
    return measured(
        model, tasks, n_episodes=arguments.n_tasks, seed=arguments.seed, with_all_weights=arguments.all_weights
    )


def _rows_of_language(model: OpenedModel, arguments: argparse.Namespace) -> list[Row]:
    from xenoglot.adapting import family_of
    from xenoglot.evaluations.language_learning import LanguageLearning
    from xenoglot.rng import generator

    given = given_options(arguments, arguments.family_options)
    options = {path.removeprefix(FAMILY_OPTION): value for path, value in given.items()}
    learning = LanguageLearning(
        family=family_of(model, arguments.language, options),
        length=model.decoder.config.max_seq_len,
        n_languages=arguments.n_languages,
    )
    return learning(model.decoder, generator(arguments.seed, "adapt"))


def _draw(results: Mapping[str, Sequence[Row]], path: Path, arguments: argparse.Namespace) -> None:
    from xenoglot.figures_adapting import draw_few_shot, draw_language_learning

    if arguments.language:
        title = f"New languages of {arguments.language}, learned in two ways"
        return draw_language_learning(results, path, title=title)
    curves = {
        " ".join([*([name] if len(results) > 1 else []), str(method)]): [
            row for row in rows if row.slices["method"] == method and "control" not in row.slices
        ]
        for name, rows in results.items()
        for method in dict.fromkeys(row.slices["method"] for row in rows)
    }
    what = "sentences" if arguments.sentences else "labels"
    return draw_few_shot(curves, path, title=f"Held-out tasks of your own {what}, {arguments.n_way}-way")


def _few_shot_table(rows: Sequence[Row]) -> str:
    """Write accuracies, a line for each way of adapting, a column for each number of steps."""
    lines = [["accuracy after gradient steps:", *map(str, SHOWN_STEPS)]]
    ways = dict.fromkeys((row.slices["method"], row.slices.get("control")) for row in rows)
    for method, control in ways:
        of_way = [row for row in rows if (row.slices["method"], row.slices.get("control")) == (method, control)]
        known = {row.slices["adaptation_steps"]: _with_interval(row, "accuracy") for row in of_way}
        name = f"{method}, {control}" if control else str(method)
        lines.append([name, *(known.get(steps, "") for steps in SHOWN_STEPS)])
    metrics = rows[0].metrics
    n_tasks, chance = metrics["n_episodes"], metrics["chance_accuracy"]
    return f"{_aligned(lines)}\n\nchance {chance:.3f}; {n_tasks:,} tasks; ± 95 % interval over tasks"


def _language_table(rows: Sequence[Row]) -> str:
    """Write losses, a line for each number of tokens seen, a column for each way of seeing them."""
    ways = list(dict.fromkeys(row.slices["learning"] for row in rows))
    lines = [["nats a token, after tokens seen:", *map(str, ways)]]
    for seen in sorted({int(row.slices["tokens_seen"]) for row in rows}):
        known = {
            row.slices["learning"]: _with_interval(row, "loss_nats")
            for row in rows
            if row.slices["tokens_seen"] == seen
        }
        lines.append([f"{seen:,}", *(known.get(way, "") for way in ways)])
    metrics = rows[0].metrics
    yardsticks = f"best possible {metrics['floor_nats']:.3f}, guessing {metrics['uniform_nats']:.3f}"
    return f"{_aligned(lines)}\n\n{yardsticks}; ± 95 % interval over languages"


def _with_interval(row: Row, name: str) -> str:
    return f"{row.metrics[name]:.3f} ± {row.metrics[f'{name}_high'] - row.metrics[name]:.3f}"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines
    )


def _made(folder: Path) -> Path:
    from xenoglot.errors import OutputError
    from xenoglot.files import reason_of

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: the folder cannot be made: {reason_of(error)}. Name another --output.") from error
    return folder
