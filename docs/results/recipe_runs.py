"""What the scripts here share: recipes trained with several seeds, and measured on fresh languages beside the best.

A run that is there is not made again, and what was measured of it is kept as JSON beside it: a second call only writes
the page. So several processes can make the runs, each with some of the recipes and seeds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from xenoglot import predictors, run
from xenoglot.checkpoint_folders import checkpoint_folder
from xenoglot.config import RunConfig, read_config, with_overrides
from xenoglot.decoder import Decoder
from xenoglot.estimates import phases
from xenoglot.evaluations.by_position import in_log_bins
from xenoglot.evaluations.measuring import interval, losses_nats
from xenoglot.languages import Family
from xenoglot.languages.base import Floats
from xenoglot.model_sizes import parameters_of
from xenoglot.throughput import flops_per_token
from xenoglot.tracking import write_json

EVALUATION_SEED = 2405
"""No run's own languages come from it."""
MODEL, FLOOR = "model", "floor"
RESAMPLES = 2000

Result = Mapping[str, Any]


def arguments(
    description: str | None,
    names: Sequence[str],
    work: str,
    *,
    seeds: Sequence[int] = (0,),
    flags: Mapping[str, str] = MappingProxyType({}),
) -> argparse.Namespace:
    """Read which runs and seeds are to be made, where, and how.

    Args:
        description: The script's own.
        names: Of the runs.
        work: Where they are kept unless given.
        seeds: Unless given.
        flags: The script's own, with what they do.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--recipes", nargs="*", choices=names, default=list(names), help="which are made [default: all]"
    )
    parser.add_argument(
        "--seeds", nargs="*", type=int, default=list(seeds), help="with which seeds [default: %(default)s]"
    )
    parser.add_argument("--work", type=Path, default=Path(work), help="where runs are kept [default: %(default)s]")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the processor")
    parser.add_argument("--precision", default="auto", help="numbers that training computes with [default: auto]")
    for flag, what in flags.items():
        parser.add_argument(flag, action="store_true", help=what)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    return given


def made(config: RunConfig, what: str, seed: int, given: argparse.Namespace) -> Path:
    """Train with a seed, unless that was done; return the run's folder.

    Args:
        config: What is trained: a recipe, or a variant of one.
        what: Its name.
        seed: Of the run.
        given: How it is made.
    """
    name = f"{what}_seed{seed}"
    settings = {
        "training.seed": seed,
        "training.fabric.precision": given.precision,
        "training.fabric.accelerator": "cpu",
        "checkpointing.runs_dir": str(given.work),
        "checkpointing.run_name": name,
    }
    config = with_overrides(config, settings)
    folder = given.work / name
    if not checkpoint_folder(folder, config.training.max_steps).exists():
        began = time.perf_counter()
        was_begun = folder.exists()
        run.start(config)
        seconds = None if was_begun else time.perf_counter() - began
        write_json(folder / "time.json", {"seconds": seconds, "threads": given.threads})
    return folder


def measured(folder: Path, name: str, family: Family, n_rows: int, length: int) -> Result:
    """Measure a finished run on fresh languages, beside floor and reference predictors, unless that was done.

    Args:
        folder: The run's.
        name: What the measurement is kept as.
        family: Whose languages are read; the run's own, or a variant of them.
        n_rows: Languages, one row each.
        length: Tokens of a row, T.
    """
    kept = folder / f"measured_{name}.json"
    if not kept.exists():
        config = read_config(folder / "config.yaml")
        decoder = Decoder.from_pretrained(checkpoint_folder(folder, config.training.max_steps))
        batch = family.batch(n_rows, length, EVALUATION_SEED, floor=True)
        losses: dict[str, Floats] = {
            MODEL: losses_nats(decoder, batch.inputs, batch.targets, decoder.vocab_size),
            FLOOR: batch.floor_nats.astype(np.float64),
        }
        for predictor in predictors.references(family):
            losses[predictor.name] = predictor.nats(batch.inputs, batch.targets).astype(np.float64)
        write_json(kept, {"rows": n_rows, "length": length} | _facts(folder, config) | _summary(losses))
    result: Result = json.loads(kept.read_text(encoding="utf-8"))
    return result


def _facts(folder: Path, config: RunConfig) -> dict[str, Any]:
    """Return what it took."""
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    return {
        "run": folder.name,
        "seed": config.training.seed,
        "precision": config.training.fabric.precision,
        "parameters": parameters_of(config.model),
        "steps": config.training.max_steps,
        "tokens": sum(phase.tokens for phase in phases(config)),
        "flops": sum(phase.tokens * flops_per_token(config.model, phase.length) for phase in phases(config)),
        "device": environment["cpu"],
        **json.loads((folder / "time.json").read_text(encoding="utf-8")),
    }


def _summary(losses: Mapping[str, Floats]) -> dict[str, Any]:
    """Return curves in bins of position, and means over the last quarter with what the model loses above each."""
    positions, _ = in_log_bins(next(iter(losses.values())))
    last = {who: values_NT[:, -(values_NT.shape[1] // 4) :].mean(axis=1) for who, values_NT in losses.items()}
    return {
        "tokens_read": positions.tolist(),
        "curves": {who: in_log_bins(values_NT)[1].mean(axis=0).tolist() for who, values_NT in losses.items()},
        "last_quarter": {who: _with_interval(values_N) for who, values_N in last.items()},
        "excess": {who: _with_interval(last[MODEL] - values_N) for who, values_N in last.items() if who != MODEL},
        "ratio": {who: _ratio(last[MODEL], values_N) for who, values_N in last.items() if who != MODEL},
    }


def _with_interval(values_N: Floats) -> list[float]:
    """Return a mean over languages and half of its 95 % interval."""
    mean, _, high = interval("mean", float(values_N.mean()), values_N).values()
    return [mean, high - mean]


def _ratio(above_N: Floats, below_N: Floats) -> list[float]:
    """Return a ratio of means, and the ends of its interval: quantiles over languages drawn again, both alike."""
    drawn_RN = np.random.default_rng(EVALUATION_SEED).integers(len(above_N), size=(RESAMPLES, len(above_N)))
    ratios_R = above_N[drawn_RN].mean(axis=1) / below_N[drawn_RN].mean(axis=1)
    return [float(above_N.mean() / below_N.mean()), *np.quantile(ratios_R, [0.025, 0.975]).tolist()]


def all_measured(work: Path, recipe: str, name: str) -> list[Result]:
    """Return what is known of a recipe's runs, by seed."""
    kept = [
        json.loads(place.read_text(encoding="utf-8")) for place in work.glob(f"{recipe}_seed*/measured_{name}.json")
    ]
    return sorted(kept, key=lambda result: result["seed"])
