"""``xenoglot train``: a decoder learns to learn brand-new languages, or your own text; the run ends with a picture."""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xenoglot.commands.base import CommandParser, add_option_flags, given_options
from xenoglot.errors import OptionError, OutputError

if TYPE_CHECKING:
    from xenoglot.batches import BatchSource
    from xenoglot.config import RunConfig
    from xenoglot.evaluations.base import Evaluation
    from xenoglot.trainer import Outcome

HELP = "train a decoder on brand-new languages, or on your own text"

EPILOG = """\
Without options: MetaLM-1 languages of 16 words, each row another one. The run is a folder in runs/: configuration,
metrics, results, checkpoints, and in_context.png, the loss by position.

Examples: xenoglot train --text book.txt;
xenoglot train --languages.family markov --languages.order 2 --training.max_steps 3000
"""
INTERRUPTED = 130


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
    import torch

    from xenoglot.config import options_by_path, with_overrides
    from xenoglot.kernels import available_threads

    base = _base_config(arguments.words)
    config = with_overrides(base, given_options(arguments, options_by_path(base).values()))
    torch.set_num_threads(min(torch.get_num_threads(), available_threads()))  # OMP_NUM_THREADS may ask for fewer
    batches, evaluation = _data(config)
    config = _fitted_to(config, batches.n_tokens)
    folder = _make_run_folder(config)
    outcome = _train(config, batches, evaluation, folder)
    figure = _draw(outcome, config, folder)
    _summarise(outcome, config, figure)
    return INTERRUPTED if outcome.interrupted else 0


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


def _data(config: RunConfig) -> tuple[BatchSource, Evaluation]:
    """Return what training reads and what the model is measured on, which never meet."""
    from xenoglot.batches import LanguageBatches, Stage, TextBatches
    from xenoglot.evaluations.in_context import FreshLanguages, HeldOutText
    from xenoglot.rng import derive
    from xenoglot.text import ByteText

    batch_size, length = config.data.dataloader.batch_size, config.model.max_seq_len
    seed = derive(config.training.seed, "train")
    if config.languages is None:
        text = ByteText.read(str(config.data.text), length=length)
        return TextBatches(text=text, batch_size=batch_size, seed=seed), HeldOutText(text=text)
    stages = tuple(
        Stage(until_step=stage.until_step, family=config.family_of(stage), length=min(stage.length or length, length))
        for stage in (config.curriculum if config.data.easy_start else ())
    )
    return (
        LanguageBatches(family=config.languages, batch_size=batch_size, length=length, seed=seed, stages=stages),
        FreshLanguages(family=config.languages, length=length, n_languages=config.evaluation.n_languages),
    )


def _fitted_to(config: RunConfig, n_tokens: int) -> RunConfig:
    """Give the model as many ids as the data has, unless it was told to have more."""
    from xenoglot.config import with_overrides

    vocab_size = config.model.vocab_size
    if vocab_size is not None and vocab_size < n_tokens:
        raise OptionError("model.vocab_size", vocab_size, f"at least the {n_tokens} ids of the data, or none")
    return with_overrides(config, {"model.vocab_size": vocab_size or n_tokens})


def _make_run_folder(config: RunConfig) -> Path:
    """Make the run's folder with its configuration and environment."""
    from xenoglot.config import to_mapping
    from xenoglot.tracking import environment, write_json

    name = config.checkpointing.run_name or dt.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = Path(config.checkpointing.runs_dir) / name
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise OutputError(f"{folder}: there is a run already. Choose another --checkpointing.run_name.") from error
    except OSError as error:
        raise OutputError(f"{folder}: the run's folder cannot be made: {error.strerror}.") from error
    write_json(folder / "config.json", to_mapping(config))
    write_json(folder / "environment.json", environment())
    return folder


def _train(config: RunConfig, batches: BatchSource, evaluation: Evaluation, folder: Path) -> Outcome:
    import torch

    from xenoglot.decoder import Decoder
    from xenoglot.objectives.autoregressive import Autoregressive
    from xenoglot.rng import derive
    from xenoglot.trainer import train

    weights_rng = torch.Generator().manual_seed(derive(config.training.seed, "initial-weights"))
    model = Decoder(config.model, weights_rng)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{folder}: {n_parameters:,} parameters, {config.training.max_steps} steps", file=sys.stderr)
    return train(config, model=model, batches=batches, objective=Autoregressive(), evaluation=evaluation, folder=folder)


def _draw(outcome: Outcome, config: RunConfig, folder: Path) -> Path:
    from xenoglot.figures import draw_loss_by_position

    path = folder / "in_context.png"
    what, unit = ("a text's bytes", "byte") if config.languages is None else ("brand-new languages", "token")
    draw_loss_by_position(outcome.evaluations, path, title=f"Reading {what}: loss by position", per=unit)
    return path


def _summarise(outcome: Outcome, config: RunConfig, figure: Path) -> None:
    """Print what came of the run, in a few lines for people."""
    by_part = {
        row.slices["part"]: row.metrics for row in outcome.evaluations[max(outcome.evaluations)] if "part" in row.slices
    }
    steps = f"{outcome.steps} of {config.training.max_steps} steps"
    print(f"{'interrupted after' if outcome.interrupted else 'trained for'} {steps}")
    if config.languages is None:
        print(f"held-out text: {_with_interval(by_part['whole'], 'loss_nats')} nats a byte")
    else:
        last = by_part["last quarter"]
        print(f"fresh languages, last quarter of the context: loss {_with_interval(last, 'loss_nats')} nats a token")
        print(f"  best possible {last['floor_nats']:.3f}, excess {_with_interval(last, 'excess_nats')}")
    print(f"  guessing {by_part['whole']['uniform_nats']:.3f}")
    print(f"checkpoint: {outcome.checkpoint}")
    print(f"figure: {figure}")


def _with_interval(metrics: Mapping[str, float], name: str) -> str:
    half_width = metrics[f"{name}_high"] - metrics[name]
    return f"{metrics[name]:.3f} ± {half_width:.3f}"
