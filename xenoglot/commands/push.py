"""``xenoglot push``: what a run could not push to the Hugging Face Hub, sent later."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xenoglot.config import HFCheckpointConfig
    from xenoglot.hub import Failure, Held, Pushed

HELP = "send a run's checkpoints to the Hugging Face Hub, those it has not yet"

EPILOG = """\
Each checkpoint becomes the branch step-N of the repository, and the newest its main too. Those that were pushed before
are left out: hub.json in the run's folder says which. The token is HF_TOKEN, from the environment or a file .env.

Exit code: 0 the Hub has everything, 1 something could not be pushed, 2 nothing could be tried.

Examples:

  xenoglot push runs/NAME
  xenoglot push runs/NAME --repo_id me/my-model
"""
NOT_PUSHED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the run, and where it goes."""
    parser.epilog = EPILOG
    parser.add_argument("run", metavar="RUN", type=Path, help="a run's folder")
    parser.add_argument(
        "--repo_id",
        metavar="NAMESPACE/NAME",
        help="repository on the Hub [default: the run's own checkpointing.hf_checkpoint.repo_id]",
    )


def run(arguments: argparse.Namespace) -> int:
    """Push one checkpoint after another; a line for each, and one for all."""
    from xenoglot.credentials import read_credentials
    from xenoglot.errors import MissingExtraError, OptionError
    from xenoglot.hub import UNPUSHED, Attempts, Outbox, Patience, has_token, push_all
    from xenoglot.run_lock import RunLock
    from xenoglot.storage.folders import clean_up

    folder: Path = arguments.run
    config = _where_to(folder, arguments.repo_id)
    if importlib.util.find_spec("huggingface_hub") is None:
        raise MissingExtraError("huggingface_hub", extra="hub", purpose="xenoglot push")
    read_credentials()
    if not has_token():
        raise OptionError("HF_TOKEN", None, "a token that may write there, in the environment or in a file .env")
    attempts = Attempts()
    with RunLock(folder):
        for place in (folder, folder / UNPUSHED):
            clean_up(place)
        outbox = Outbox(folder, str(config.repo_id), with_state=config.training_state)
        outbox.hold_the_rest()
        before = set(outbox.pushed_steps())
        try:
            push_all(outbox, config, attempts, Patience(), _tell)
        finally:
            attempts.stop()
        n_pushed, rest = len(set(outbox.pushed_steps()) - before), outbox.unpushed()
    _summarise(n_pushed, rest, config)
    return NOT_PUSHED if rest else 0


def _where_to(folder: Path, repo_id: str | None) -> HFCheckpointConfig:
    """Read where a run's checkpoints go; the command line overrules its configuration.

    Raises:
        DataError: If the folder is no run's.
        OptionError: If nothing says where to.
    """
    from xenoglot.config import resolve
    from xenoglot.config.documents import read_document
    from xenoglot.errors import DataError, OptionError

    if not (folder / "config.yaml").is_file():
        raise DataError(f"{folder}: got no folder with a config.yaml; allowed: a run's folder.")
    # Nothing else of it is read: a family of one's own would be imported.
    said = read_document(folder / "config.yaml").values.get("checkpointing")
    if isinstance(said, Mapping):
        said = {name: value for name, value in said.items() if name == "hf_checkpoint"}
    own = resolve({"checkpointing": said}).checkpointing.hf_checkpoint
    config = dataclasses.replace(own, repo_id=repo_id or own.repo_id)
    if config.repo_id is None:
        raise OptionError("repo_id", None, "a repository on the Hub: the run's configuration names none")
    return config


def _tell(held: Held, result: Pushed | Failure, seconds: float) -> None:
    """Print what came of an attempt."""
    from xenoglot.hub import Pushed

    if isinstance(result, Pushed):
        speed = f"{held.n_bytes / 1e6:,.1f} MB in {seconds:.1f} s"
        print(f"pushed  step {held.step}: {speed}, commit {result.commit[:8]}", flush=True)
    else:
        print(f"FAILED  step {held.step}: {result.reason}", flush=True)


def _summarise(n_pushed: int, rest: Mapping[int, str], config: HFCheckpointConfig) -> None:
    """Print one line for all, and on stderr what to do about the rest."""
    if not n_pushed and not rest:
        print(f"{config.repo_id} has everything already")
        return
    print(f"{n_pushed} pushed to {config.repo_id}, {len(rest)} left")
    if rest:
        print(f"not pushed: {', '.join(f'step {step}' for step in rest)}; try again later", file=sys.stderr)
