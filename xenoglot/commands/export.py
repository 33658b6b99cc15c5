"""``xenoglot export``: a checkpoint as a folder that other programs open."""

from __future__ import annotations

import argparse
from pathlib import Path

import shtab

from xenoglot.errors import XenoglotError

HELP = "write a checkpoint as a native Llama folder, with tokenizer and model card, for transformers and others"

EPILOG = """\
CHECKPOINT is a run (its newest whole checkpoint), one of its checkpoints, any folder of a Llama or a Pico model, or a
name on the Hugging Face Hub (user/name, or user/name@revision). Weights are safetensors, and there is no code in DIR.

The folder takes its name only when transformers has computed the same logits from it as we do, so this needs
transformers: pip install 'xenoglot[hub]'.

With --pico-analyze, a run's learning dynamics are written in the layout that pico-analyze reads instead.

Examples:

  xenoglot export runs/first first-model
  xenoglot export runs/first/checkpoints/step_1000 model --name first-model --license cc-by-4.0
  xenoglot export pico-lm/pico-decoder-tiny pico-as-llama
  xenoglot export runs/first for-pico-analyze --pico-analyze
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the checkpoint, the folder to write, and what its card says."""
    parser.epilog = EPILOG
    checkpoint = parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a run, a checkpoint, a folder, or a name"
    )
    checkpoint.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    parser.add_argument("folder", metavar="DIR", type=Path, help="the folder to write; must not be there yet")
    parser.add_argument("--name", metavar="TEXT", help="what the card calls the model")
    parser.add_argument(
        "--license",
        "--licence",
        dest="licence",
        metavar="NAME",
        help="under which the weights may be used, as the Hub names it [default: apache-2.0 for what was trained on "
        "drawn languages, else unknown]",
    )
    parser.add_argument(
        "--pico-analyze", action="store_true", help="write a run's learning dynamics as pico-analyze reads them"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the folder, and say what it was compared with."""
    if arguments.pico_analyze:
        return _pico_analyze(arguments)
    from xenoglot.applying.exporting import export
    from xenoglot.credentials import read_credentials

    read_credentials()
    done = export(arguments.checkpoint, arguments.folder, name=arguments.name, licence=arguments.licence)
    size = f"{done.n_bytes / 1e6:,.1f} MB"
    print(f"{done.folder}: a native LlamaForCausalLM, {size}")
    agreement = f"within {done.logit_difference:.1g}" if done.logit_difference else "bit for bit"
    print(f"logits: as transformers {done.transformers_version} computes them, {agreement}")
    return 0


def _pico_analyze(arguments: argparse.Namespace) -> int:
    if arguments.name or arguments.licence:
        raise XenoglotError("--pico-analyze: got --name or --license beside it; allowed: neither, for it has no card.")
    from xenoglot.applying.pico_analyze import write_pico_analyze

    write_pico_analyze(Path(arguments.checkpoint), arguments.folder)
    print(f"{arguments.folder}: learning dynamics of {arguments.checkpoint}, as pico-analyze reads them")
    return 0
