"""Languages without repeats, tables and networks drawn at random: small decoders beside the best counting learners.

    python docs/results/random_laws.py --threads 1 --precision bf16-mixed

trains the recipes `markov`, `ngram-net` and `metalm-v2`, measures them on fresh languages beside the floor and the
reference predictors, and writes random_laws.md, random_laws.json and random_laws.png beside this file. `xenoglot train
--recipe NAME` makes the same runs one by one. Two cores with a recipe on each (`--recipes NAME --threads 1`): about an
hour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from recipe_pages import Setting, cost_table, draw, loss_table, publish
from recipe_runs import Result, all_measured, arguments, made, measured

from xenoglot.config import read_config, recipes

RECIPES = {
    "markov": ("random tables, order 2, V=8", "dirichlet-markov", "the exact Bayes predictor"),
    "ngram-net": ("random networks over 6 tokens, V=32", "context-tree-weighting", "context tree weighting"),
    "metalm-v2": ("random recurrent networks, V=32", "context-tree-weighting", "context tree weighting"),
}
N_ROWS = {"markov": 512, "ngram-net": 128, "metalm-v2": 256}
TITLE = "Laws drawn at random, a new one for each row: loss by what was read"
KEPT_AS = "fresh"


def main() -> None:
    """Make and measure what was asked for, and write the page of all that is there."""
    given = arguments(__doc__, list(RECIPES), "runs/.random_laws")
    for seed in given.seeds:
        for recipe in given.recipes:
            config = read_config(recipes.path(recipe))
            assert config.languages is not None
            measured(
                made(config, recipe, seed, given), KEPT_AS, config.languages, N_ROWS[recipe], config.model.max_seq_len
            )
    found = {recipe: all_measured(given.work, recipe, KEPT_AS) for recipe in RECIPES}
    page = Path(__file__).with_suffix(".md")
    draw(settings(found), page.with_suffix(".png"), TITLE, is_logarithmic=False)
    publish(page, written(found), found)


def settings(found: Mapping[str, Sequence[Result]]) -> list[Setting]:
    """Return what is known of all recipes that were measured."""
    return [
        Setting(recipe=recipe, label=label, learner=learner, learner_label=learner_label, results=found[recipe])
        for recipe, (label, learner, learner_label) in RECIPES.items()
        if found[recipe]
    ]


def written(found: Mapping[str, Sequence[Result]]) -> str:
    """Return the page."""
    losses, costs = ("\n".join(lines) for lines in (loss_table(settings(found)), cost_table(settings(found))))
    return PAGE.format(rows=", ".join(map(str, N_ROWS.values())), losses=losses, costs=costs, conclusion=CONCLUSION)


PAGE = """\
# Languages without repeats

![Loss by position on each family: our decoders, the reference predictors and the floor](random_laws.png)

In these languages nothing is repeated that could be copied: a language is a table or a network, drawn at random, and
what can be learned while reading is its law. Small decoders read a new one in every row, and are held against learners
who count: the exact Bayes predictor where there is one, else context tree weighting, which nobody calls best here.

```sh
python docs/results/random_laws.py --threads 1 --precision bf16-mixed
```

`xenoglot train --recipe markov` makes one of the runs. Measured in float32 on fresh languages ({rows} of them); ± and
ranges are 95 % intervals over languages.

{losses}

## What it took

{costs}

{conclusion}
"""
CONCLUSION = """\
What it shows:

- Tables of order 2: the decoder counts as the exact Bayes predictor does, and loses 0.0034 ± 0.0007 nats more.
- Networks over six tokens: after eight minutes of training the decoder loses less than context tree weighting, which
  pools contexts only if they end alike; that the last words count most can be learned. Twice the floor is still far.
- Recurrent networks: so too, with more room and more time. Four layers, 192 wide, are 0.19 nats below context tree
  weighting after 49 minutes; three layers, 128 wide, were 0.26 above it after six (Muon's rate was four times higher
  as well). The floor is a nat below both, and what the best learner would reach is not known.

One seed for each family; longer training was not tried."""


if __name__ == "__main__":
    main()
