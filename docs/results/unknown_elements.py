"""What not knowing the elements costs at MetaLM-1's published settings, and that nobody loses less.

    python docs/results/unknown_elements.py

measures the reference predictor and one who is told more (unknown_elements_bound.py), and writes unknown_elements.md
beside this file. One thread: about two minutes of one core.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from unknown_elements_bound import (
    Counts,
    Floats,
    entropy_nats,
    expected_excess_nats,
    shares_of_visits,
    told_nats,
    visits_before,
)

from xenoglot.languages import Batch, MetaLMv1
from xenoglot.predictors import NoisyRepeats

SEED = 2026
LENGTH, LAST = 4096, 1024
N_ROWS, N_TOLD_ROWS, ROWS_AT_ONCE = 2048, 64, 1024
FEW_VISITS = 4
WINDOWS = ((0, 128), (128, 256), (256, 512), (512, 1024), (1024, 2048), (2048, 3072), (3072, 4096))
NEARBY = 16
"""The learner's loss at a position is the mean over so many tokens before and after it."""
DOUBTFUL = ((8, (6, 8, 0.3)), (64, (10, 8, 0.5)), (64, (10, 32, 0.5)))
"""V, n, l and e where segments are hard to tell apart, or a few of them."""
N_DOUBTFUL_ROWS, DOUBTFUL_LENGTH = 32, 512
PARTITIONS = (1, 4, 16, 64, 256)
SETTINGS = {
    (5, 32, 0.05): ("0.0455 / 0.0455", (3.20, 1.34, 0.91, 0.84)),
    (10, 32, 0.10): ("0.075 / 0.0745", (3.77, 2.71, 2.29, 2.16)),
    (10, 64, 0.10): ("0.070 / 0.039", (4.13, 3.46, 3.29, 3.25)),
}
"""n, l and e; learner and floor as an earlier plain script measured them on 4 to 12 rows of MetaGym's sampler; and the
published curves of Transformer-XL at tokens 128, 256, 512 and at the end, read off the picture to within 0.02 nats."""
HARDEST = (10, 64, 0.10)

Setting = tuple[int, int, float]


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Of the same rows: who knows the elements, who does not, and where the targets stand."""

    floor_nats: Floats
    learner_nats: Floats
    visits: Counts
    """How often the element of the target's segment was visited before."""
    is_first: Counts
    """1 where the target is the first token after a separator."""

    @property
    def excess_nats(self) -> Floats:
        """What not knowing the elements costs."""
        return self.learner_nats - self.floor_nats


def main() -> None:
    """Measure, and write the page."""
    page = Path(__file__).with_suffix(".md")
    named = {setting: measured(as_named(*setting), N_ROWS) for setting in SETTINGS}
    sections = [HEAD, *bracket(named), SAME, *in_doubt(), WHENCE, *decomposition(named[HARDEST])]
    sections += [SAMPLED, *of_sampler(), POSITIONS, *by_position(named), ""]
    page.write_text("\n".join(sections), encoding="utf-8")
    print(page)


def as_named(n_elements: int, element_length: int, error_rate: float) -> MetaLMv1:
    """Return the family as the setting says."""
    return MetaLMv1(
        vocab_size=64,
        n_elements=n_elements,
        element_length=element_length,
        error_rate=error_rate,
        separator=True,
    )


def as_sampled(n_elements: int, element_length: int, error_rate: float) -> MetaLMv1:
    """Return what MetaGym's sampler does under that name: our family with other options, exactly.

    It draws words from 1 to V - 1 and never the last element, and its replacement is any of the V - 1 words: once in
    V - 1 times the same one, which is no disturbance.
    """
    disturbing = 1.0 - 0.7 / 63
    return MetaLMv1(
        vocab_size=63,
        n_elements=n_elements - 1,
        element_length=element_length,
        error_rate=error_rate * disturbing,
        mask_ratio=0.3 / disturbing,
        separator=True,
    )


def measured(family: MetaLMv1, n_rows: int) -> Losses:
    """Return the losses on new rows, [rows, LENGTH]."""
    predictor, parts = NoisyRepeats(family=family), []
    for start in range(0, n_rows, ROWS_AT_ONCE):
        batch = family.batch(min(ROWS_AT_ONCE, n_rows - start), LENGTH, seed=SEED, start=start, floor=True)
        visits = [visits_before(family, *row) for row in zip(batch.inputs, batch.targets, strict=True)]
        is_first = batch.inputs == family.separator_id
        nats = predictor.nats(batch.inputs, batch.targets)
        parts.append((batch.floor_nats, nats, np.array(visits, np.int16), is_first))
    floor_nats, learner_nats, visits_RL, is_first_RL = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Losses(floor_nats=floor_nats, learner_nats=learner_nats, visits=visits_RL, is_first=is_first_RL)


# --- the page's tables -----------------------------------------------------------------------------------------------


def bracket(named: Mapping[Setting, Losses]) -> Iterator[str]:
    """Yield the table of all settings: floor, told, learner, closed form."""
    yield "| | floor | `unknown-elements` | excess | by formula | one who is told | greatest difference |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for setting, losses in named.items():
        family = as_named(*setting)
        batch = family.batch(N_TOLD_ROWS, LENGTH, seed=SEED)
        told_nats_RL = told_rows(family, batch)
        gaps_RL = told_nats_RL - NoisyRepeats(family=family).nats(batch.inputs, batch.targets)
        cells = (
            with_error(losses.floor_nats),
            with_error(losses.learner_nats),
            with_error(losses.excess_nats),
            f"{expected_excess_nats(family, LENGTH - LAST + 1, LENGTH + 1):.4f}",
            with_error(told_nats_RL),
            f"{np.abs(gaps_RL).max():.0e}",
        )
        yield "| " + " | ".join([name_of(setting), *cells]) + " |"


def told_rows(family: MetaLMv1, batch: Batch) -> Floats:
    """Return what one loses who is told which element each finished segment was, [rows, length]."""
    rows = zip(batch.inputs, batch.targets, strict=True)
    return np.array([told_nats(family, inputs_L, targets_L) for inputs_L, targets_L in rows])


def in_doubt() -> Iterator[str]:
    """Yield the table of settings where segments are hard to tell apart: above one who is told, by partitions kept."""
    yield "| | one who is told | " + " | ".join(f"{n:,}" for n in PARTITIONS) + " |"
    yield "| --- | --- |" + " --- |" * len(PARTITIONS)
    for vocab_size, setting in DOUBTFUL:
        family = replace(as_named(*setting), vocab_size=vocab_size)
        batch = family.batch(N_DOUBTFUL_ROWS, DOUBTFUL_LENGTH, seed=SEED)
        told_nats_RL = told_rows(family, batch)
        cells = [f"V = {vocab_size}, {name_of(setting)}", f"{told_nats_RL.mean():.4f}"]
        for n_particles in PARTITIONS:
            learner = NoisyRepeats(family=family, n_particles=n_particles)
            cells.append(with_error(learner.nats(batch.inputs, batch.targets) - told_nats_RL, DOUBTFUL_LENGTH))
        yield "| " + " | ".join(cells) + " |"


def of_sampler() -> Iterator[str]:
    """Yield the table of what MetaGym's sampler does under the same names."""
    at = (128, 256, 512)
    yield "| | floor | `unknown-elements` | measured before | published at 128, 256, 512, 4,096 | best learner |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for setting, (earlier, published) in SETTINGS.items():
        losses = measured(as_sampled(*setting), N_ROWS)
        nearby = [losses.learner_nats[:, t - NEARBY : t + NEARBY].mean() for t in at]
        best = [*nearby, losses.learner_nats[:, -LAST:].mean()]
        cells = (
            with_error(losses.floor_nats),
            with_error(losses.learner_nats),
            earlier,
            ", ".join(f"{nats:.2f}" for nats in published),
            ", ".join(f"{nats:.2f}" for nats in best),
        )
        yield "| " + " | ".join([name_of(setting), *cells]) + " |"


def decomposition(losses: Losses) -> Iterator[str]:
    """Yield where the loss of the hardest setting comes from, by how often the element was visited before."""
    family, last = as_named(*HARDEST), slice(-LAST, None)
    excess_RL, visits_RL = losses.excess_nats[:, last], losses.visits[:, last]
    is_met_late = (losses.visits[:, last] == 0).any(axis=1)
    yield DECOMPOSITION.format(
        setting=name_of(HARDEST),
        floor=f"{losses.floor_nats[:, last].mean():.4f}",
        first=f"{(losses.floor_nats * losses.is_first)[:, last].mean():.4f}",
        late=f"{100 * is_met_late.mean():.0f}",
        with_late=f"{losses.learner_nats[is_met_late, last].mean():.3f}",
        without=f"{losses.learner_nats[~is_met_late, last].mean():.3f}",
        deviation=f"{losses.learner_nats[:, last].mean(axis=1).std():.3f}",
    )
    yield "| visits before | tokens | by formula | excess there | H(word, copies read) | of the excess | by formula |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    shares = shares_of_visits(family, LENGTH - LAST + 1, LENGTH + 1)
    for n_copies in range(FEW_VISITS):
        is_there, entropy = visits_RL == n_copies, entropy_nats(family, n_copies)
        cells = (
            f"{n_copies} | {100 * is_there.mean():.2f} % | {100 * shares[n_copies]:.2f} %",
            f"{excess_RL[is_there].mean():.3f} | {entropy:.3f}",
            f"{with_error(excess_RL * is_there)} | {shares[n_copies] * entropy:.4f}",
        )
        yield "| " + " | ".join(cells) + " |"
    is_there = visits_RL >= FEW_VISITS
    rest = expected_excess_nats(family, LENGTH - LAST + 1, LENGTH + 1)
    rest -= sum(shares[n_copies] * entropy_nats(family, n_copies) for n_copies in range(FEW_VISITS))
    words = family.element_length / (family.element_length + 1)
    share = f"{100 * is_there.mean():.2f} % | {100 * (words - shares[:FEW_VISITS].sum()):.2f} %"
    yield f"| more | {share} | {excess_RL[is_there].mean():.3f} | | {with_error(excess_RL * is_there)} | {rest:.4f} |"


def by_position(named: Mapping[Setting, Losses]) -> Iterator[str]:
    """Yield the learner's loss over windows of the row."""
    yield "| tokens | " + " | ".join(map(name_of, named)) + " |"
    yield "| --- |" + " --- |" * len(named)
    for first, end in WINDOWS:
        window = slice(first, end)
        cells = (
            f"{losses.learner_nats[:, window].mean():.4f} / {losses.floor_nats[:, window].mean():.4f}"
            for losses in named.values()
        )
        yield f"| {first:,} to {end:,} | " + " | ".join(cells) + " |"


def name_of(setting: Setting) -> str:
    """Return how a setting is called."""
    return "n = {}, l = {}, e = {:.2f}".format(*setting)


def with_error(nats_RL: Floats, last: int = LAST) -> str:
    """Return the mean over the rows' last tokens, and its standard error."""
    means = nats_RL[:, -last:].mean(axis=1, dtype=np.float64)
    return f"{means.mean():.4f} ± {means.std(ddof=1) / math.sqrt(len(means)):.4f}"


HEAD = f"""\
# What not knowing the elements costs

MetaLM-1 with separators at the settings of the published curves (MetaGym, 2023): V = 64, {LENGTH:,} tokens a row.
Losses are means over the last {LAST:,} tokens of {N_ROWS:,} rows, in nats a token, ± their standard error over rows.
The floor is the loss of one who knows the elements. `unknown-elements` is
[the reference predictor](../predictors/unknown-elements.md) as it comes, who knows nothing but the rules.

```sh
python docs/results/unknown_elements.py
```

## Nobody who has to learn loses less

*One who is told* learns, when a segment has ended, which element it was. All else is then counting, and the law is
exact: whoever is told less loses no less on average. So the best learner's loss lies between the two.
"""

SAME = f"""
The one who is told reads {N_TOLD_ROWS} of the rows; the last column is how far from that the predictor ever is, at any
token of these rows. At these settings it is hardly ever in doubt which segments belong together, and the reference
predictor's loss is the best learner's, to a hundred-thousandth of a nat.

Where segments are hard to tell apart, it is worth something to be told which were the same. What is lost above the one
who is told, over all of {DOUBTFUL_LENGTH} tokens, by how many partitions are kept (64 unless given):
"""

WHENCE = """
One partition is too few there. 256 are no better than 64 by more than 0.0005 nats: what is left is what it costs not to
be told.

## Where it comes from
"""

DECOMPOSITION = """\
At {setting}, the floor of {floor} is paid for finding out, after every separator, which element comes:
{first} of it at the first word. The excess is paid for words of which too few copies were read: a row has only 63
segments, and of a word that was read k times before, H(word | k noisy copies) is unknown. By formula, token t stands in
segment s = ⌊t / (l + 1)⌋, and each segment before was of the same element with probability 1 / n:

$$
\\text{{excess}}_t \\approx \\frac{{l}}{{l + 1}} \\sum_k \\binom{{s}}{{k}}
\\Big(\\frac1n\\Big)^k \\Big(1 - \\frac1n\\Big)^{{s - k}} \\, H(y \\mid x_1, \\dots, x_k)
$$

It comes in lumps: {late} % of the rows meet an element for the first time within their last 1,024 tokens, and lose
{with_late}; the others lose {without}. A mean over a dozen rows says little: the standard deviation over rows is
{deviation}. So hold a model against the predictor on the same rows.
"""

SAMPLED = """
## What the published curves were measured on

MetaGym's sampler of that year (`metagym/metalm/metalm.py`, commit 5498c2c) draws words from 1 to V - 1, never chooses
the last of the n elements, and replaces a disturbed word by any of the V - 1, itself among them. So what it calls
(V, n, l, e) is, exactly,

```python
q = 1 - 0.7 / (V - 1)
MetaLMv1(vocab_size=V - 1, n_elements=n - 1, element_length=l, error_rate=e * q, mask_ratio=0.3 / q, separator=True)
```

and a little easier than its name. Published losses and the best learner's, on what was sampled:
"""

POSITIONS = f"""
*Measured before*: unknown / known elements, by a plain script on 4 to 12 rows of that sampler; it agrees. *Published*:
Transformer-XL, 6 layers of 512, read off the picture of MetaGym's README to within 0.02 nats; the legend names the
second setting twice, and the third curve is taken to be l = 64; of the first setting the text says e = 0.10 and the
legend e = 0.05, which is taken here. *Best learner*: the predictor's loss, over the
{2 * NEARBY} tokens around the position, and over the last {LAST:,}.

## By position

The settings as named, learner / floor:
"""


if __name__ == "__main__":
    main()
