"""Where the decoders of docs/results/metalm_v1.py lose more than the best learner, over the last quarter of their rows.

python docs/numbers/where_lost.py

needs the runs that `python docs/results/metalm_v1.py` leaves in runs/.metalm_v1, and takes a minute for each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from xenoglot.checkpoint_folders import checkpoint_folder
from xenoglot.config import read_config
from xenoglot.decoder import Decoder
from xenoglot.evaluations.measuring import losses_nats
from xenoglot.languages import MetaLMv1
from xenoglot.languages.base import Nats, Tokens
from xenoglot.predictors import NoisyRepeats

N_ROWS, LENGTH, SEED = 24, 4096, 99
KNOWN_NATS, UNSURE_NATS = 0.02, 0.3


def main() -> None:
    """Print a table for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/.metalm_v1"), help="where the runs are")
    for folder in sorted(parser.parse_args().work.glob("*_seed*")):
        print_table(folder)


def print_table(folder: Path) -> None:
    """Measure a run beside the learner, and print the excess by what was to be predicted."""
    config = read_config(folder / "config.yaml")
    family = config.languages
    assert isinstance(family, MetaLMv1)
    decoder = Decoder.from_pretrained(checkpoint_folder(folder, config.training.max_steps))
    batch = family.batch(N_ROWS, LENGTH, SEED)
    learner_NT = NoisyRepeats(family=family).nats(batch.inputs, batch.targets)
    excess_NT = losses_nats(decoder, batch.inputs, batch.targets, decoder.vocab_size) - learner_NT
    last = slice(3 * LENGTH // 4, None)
    excess = excess_NT[:, last]
    print(f"{folder.name}: {excess.mean():.4f} nats a token above the learner's {learner_NT[:, last].mean():.4f}")
    for name, is_meant_NT in kinds(batch.inputs, learner_NT, family.separator_id).items():
        meant = is_meant_NT[:, last]
        there = excess[meant].mean() if meant.any() else np.nan
        share = excess[meant].sum() / excess.sum()
        print(f"  {name:36} {meant.mean():7.2%} of the tokens, {share:6.1%} of the excess, {there:.3f} nats each")


def kinds(inputs: Tokens, learner_NT: Nats, separator: int | None) -> dict[str, np.ndarray]:
    """Return which positions are of which kind: each is of one."""
    since_NT = np.zeros_like(inputs)  # tokens read since the last separator
    for t in range(inputs.shape[1]):
        before_N = since_NT[:, t - 1] if t else 0
        since_NT[:, t] = np.where(inputs[:, t] == separator, 0, before_N + 1)
    is_later = since_NT > 1
    return {
        "behind a separator": since_NT == 0,
        "behind an element's first word": since_NT == 1,
        "later, of what the learner knows": is_later & (learner_NT < KNOWN_NATS),
        "later, of what it half knows": is_later & (learner_NT >= KNOWN_NATS) & (learner_NT < UNSURE_NATS),
        "later, of what surprises it": is_later & (learner_NT >= UNSURE_NATS),
    }


if __name__ == "__main__":
    main()
