"""When induction heads form on the default run, and what the loss does then.

    python docs/results/induction.py

trains the default run with three seeds and a checkpoint every 25 steps, looks into all of them, and writes induction.md
and induction.png beside this file. Runs and what was found in them are kept in ``--work``, and are not made again. Two
cores: about ten minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from xenoglot import run
from xenoglot.analysis import FOLDER, AnalysisConfig, analyze
from xenoglot.analysis.heads import COPY, INDUCTION, PREVIOUS, matched
from xenoglot.analysis.results import JSON_LINES_FILE, Finding, read_findings
from xenoglot.analysis.tables import curve, formation, head_curves, rank_correlation
from xenoglot.checkpoint_folders import checkpoint_folder
from xenoglot.config import default_config, with_overrides
from xenoglot.decoder import Decoder
from xenoglot.evaluations.measuring import losses_nats
from xenoglot.figures import FAINT, FINAL, FLOOR, INK, LEARNER, plain_frame, save_figure

SEEDS = (0, 1, 2)
COLOURS = (FINAL, LEARNER, "#cc79a7")
STYLES = ("-", "--", ":")
SETTINGS = {"checkpointing.save_every_n_steps": 25, "checkpointing.save_early_steps": True}
FIRST_STEPS = 500
"""Most of the fall is before it."""
N_ABLATED = 64
"""Languages on which heads are left out."""
PANELS = (
    ("loss on new languages, nats", None),
    ("induction score,\nrandom tokens read twice", INDUCTION),
    ("induction score, new languages,\ntwo tokens matched", matched(2)),
    ("previous-token score", PREVIOUS),
)

Findings = Sequence[Finding]


def main() -> None:
    """Train what is not there, look into it, and write page and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/.induction"))
    work = parser.parse_args().work
    for seed in SEEDS:
        train(work, seed)
    found = {seed: findings_of(work / f"seed{seed}") for seed in SEEDS}
    without = {seed: losses_without_heads(work / f"seed{seed}") for seed in SEEDS}
    page = Path(__file__).with_suffix(".md")
    draw(found, page.with_suffix(".png"))
    page.write_text(written(found, without), encoding="utf-8")
    print(page)


def train(work: Path, seed: int) -> None:
    """Make a run, unless it is there."""
    own = {"training.seed": seed, "checkpointing.runs_dir": str(work), "checkpointing.run_name": f"seed{seed}"}
    config = with_overrides(default_config(), SETTINGS | own)
    if not checkpoint_folder(work / f"seed{seed}", config.training.max_steps).exists():
        run.start(config)


def findings_of(folder: Path) -> Findings:
    """Look into a run, unless that was done."""
    kept = folder / FOLDER / JSON_LINES_FILE
    return read_findings(kept) if kept.exists() else analyze([folder], AnalysisConfig())[0].findings


@torch.no_grad()
def losses_without_heads(folder: Path) -> dict[str, float]:
    """Return the finished model's loss on new languages, whole and with each head's output left out."""
    config = default_config()
    family, last = config.languages, config.training.max_steps
    assert family is not None
    batch = family.batch(N_ABLATED, config.model.max_seq_len, seed=1234)
    losses = {}
    for layer, head in [(None, None), *((layer, head) for layer in range(2) for head in range(2))]:
        model = Decoder.from_pretrained(checkpoint_folder(folder, last)).eval()
        if layer is not None and head is not None:
            size = model.config.d_model // model.config.attention_n_heads
            output = model.get_parameter(f"model.layers.{layer}.self_attn.o_proj.weight")
            output[:, head * size : (head + 1) * size] = 0.0
        name = "none" if layer is None else f"{layer}.{head}"
        losses[name] = float(losses_nats(model, batch.inputs, batch.targets, family.n_tokens).mean())
    return losses


def strongest(findings: Findings, score: str) -> tuple[list[int], list[float]]:
    """Return the greatest score of any head at each step."""
    curves = list(head_curves(findings, score).values())
    return curves[0].steps, [max(values) for values in zip(*(each.values for each in curves), strict=True)]


def draw(found: Mapping[int, Findings], path: Path) -> None:
    """Draw the loss, and below it the strongest heads' scores."""
    figure = Figure(figsize=(8.5, 10.0), layout="constrained")
    title = "Default runs: induction heads form where the loss falls"
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=13, fontweight="bold")
    panels = figure.subplots(len(PANELS), 1, sharex=True)
    for axes, (label, score) in zip(panels, PANELS, strict=True):
        for (seed, findings), colour, style in zip(found.items(), COLOURS, STYLES, strict=True):
            steps, values = curve(findings, "loss_nats") if score is None else strongest(findings, score)
            axes.plot(steps, values, color=colour, linestyle=style, linewidth=1.8, label=f"seed {seed}")
        if score is None:
            floor = curve(found[0], "floor_nats").values[0]
            axes.axhline(floor, color=FLOOR, linewidth=1.2, label="best possible")
        axes.axvspan(1, 200, color=FAINT, alpha=0.08, linewidth=0)
        axes.set_ylim(0, None)
        axes.set_ylabel(label, color=INK, fontsize=9)
        plain_frame(axes)
    panels[0].legend(frameon=False, fontsize=9, loc="lower left")
    panels[-1].set_xscale("log", base=2)
    last = max(curve(found[0], "loss_nats").steps)
    ticks = [2**power for power in range(last.bit_length())]
    panels[-1].set_xticks(ticks, labels=[str(tick) for tick in ticks])
    panels[-1].set_xlim(1, last)
    panels[-1].set_xlabel("training steps (shaded: the easier languages of the first 200)", color=INK)
    save_figure(figure, path)


def written(found: Mapping[int, Findings], without: Mapping[int, Mapping[str, float]]) -> str:
    """Return the page."""
    steps, floors = curve(found[SEEDS[0]], "floor_nats")
    columns = [facts(found[seed]) | ablations(without[seed]) for seed in found]
    lines = [
        "# When induction heads form",
        "",
        "![Loss, induction scores and previous-token score over training, three seeds](induction.png)",
        "",
        f"Default runs (MetaLM-1, 2 layers of 2 heads, 1,500 steps), seeds 0 to 2, {len(steps)} checkpoints each. "
        "Scores in the picture are of the strongest head at each step; what they are: "
        "`xenoglot/mechanisms/induction.py`. The loss is that on 32 brand-new languages of 256 tokens, the same at "
        "every checkpoint; the best possible one is "
        f"{floors[0]:.3f} nats a token. Heads are left out by zeroing what they write, on {N_ABLATED} languages.",
        "",
        "```sh",
        "python docs/results/induction.py",
        "```",
        "",
        "| | " + " | ".join(f"seed {seed}" for seed in found) + " |",
        "| --- |" + " --- |" * len(found),
    ]
    lines += [f"| {name} | " + " | ".join(column[name] for column in columns) + " |" for name in columns[0]]
    return "\n".join([*lines, "", CONCLUSION, ""])


def facts(findings: Findings) -> dict[str, str]:
    """Return what is said of one seed: when its heads formed, and how score and loss go together."""
    formed = formation(findings)
    assert formed is not None
    copies = head_curves(findings, COPY)[formed.layer, formed.head].values
    return {
        "strongest induction head": f"layer {formed.layer}, head {formed.head}",
        "its score on random tokens read twice, at the end": f"{formed.score:.2f}",
        "its copy score at the end": f"{copies[-1]:.2f}",
        "it passes half of its greatest score between steps": "{} and {}".format(*formed.steps),
        "meanwhile the loss goes from, to": "{:.2f}, {:.2f}".format(*formed.losses),
        "on new languages (two tokens matched), half is passed by step": str(half_step(findings, matched(2))),
        "the strongest previous-token head passes half by step": str(half_step(findings, PREVIOUS)),
        "rank correlation of score and loss, random tokens": f"{correlation(findings, INDUCTION):.2f}",
        "the same, new languages": f"{correlation(findings, matched(2)):.2f}",
        f"the same, up to step {FIRST_STEPS}": f"{correlation(findings, matched(2), FIRST_STEPS):.2f}",
    }


def ablations(losses: Mapping[str, float]) -> dict[str, str]:
    """Return the losses of a finished model, whole and without each head."""
    return {
        "loss of the finished model" if head == "none" else f"without head {head} (layer.head)": f"{nats:.2f}"
        for head, nats in losses.items()
    }


def half_step(findings: Findings, score: str) -> int:
    """Return the first step at which the strongest head has half of the greatest score."""
    steps, values = strongest(findings, score)
    return next(step for step, value in zip(steps, values, strict=True) if value >= max(values) / 2)


def correlation(findings: Findings, score: str, until_step: int | None = None) -> float:
    """Return the rank correlation of the strongest score with the loss, up to a step."""
    losses = dict(zip(*curve(findings, "loss_nats"), strict=True))
    steps, values = strongest(findings, score)
    kept = [place for place, step in enumerate(steps) if until_step is None or step <= until_step]
    return rank_correlation([values[place] for place in kept], [losses[steps[place]] for place in kept])


CONCLUSION = """\
What it shows, at this size:

- Loss and scores move together, in every seed: until step 100 there is nothing; between steps 100 and 175 a
  previous-token head forms in layer 0 and induction heads in layer 1, and there the loss falls from 3.0 to 1.8 or less.
  When rows become longer and languages harder, at step 200, the score on random tokens grows two- to fourfold within 25
  steps, and the loss falls by another 0.35.
- Copying comes before: heads of layer 1 raise the logits of whatever they attend to (copy score above 0.9) by step 50
  in every seed. What forms later is knowing where to look.
- Heads are needed: without either head of layer 0, one of which looks at the previous token, the finished models lose
  1.8 to 3.7 instead of 0.71; without one of the two heads of layer 1, 1.1 to 1.4: each has the other beside it.
- Rank correlations over all checkpoints say less than the picture: most checkpoints are after step 500, where scores on
  new languages stay as they are or fall a little while the loss still falls by 0.15. What is learned there is not seen
  by these scores. Up to step 500 they are -0.80 to -0.87.

Correlation is no cause, zeroing a head is a rude way of leaving it out, and the easier languages of the first 200 steps
decide when things form: three seeds, one size, one family."""


if __name__ == "__main__":
    main()
