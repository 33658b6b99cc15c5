"""Watch an induction head form, from training to figures: `python examples/watch_induction.py [FOLDER]`.

Under a minute on two cores. Languages of one element, repeated without noise, are all that is learned: within 120 steps
a small model finds out that what came after a token before comes after it again. FOLDER is where the run goes (runs).
"""

import sys
from pathlib import Path

from xenoglot import run
from xenoglot.analysis import analyze
from xenoglot.analysis.tables import curve, formation, head_curves
from xenoglot.config import default_config, with_overrides
from xenoglot.figures_analysis import draw_formation

settings = {
    "languages.n_elements": 1,
    "languages.error_rate": 0.0,
    "data.easy_start": False,
    "data.dataloader.batch_size": 32,
    "model.max_seq_len": 64,
    "training.max_steps": 200,
    "checkpointing.save_every_n_steps": 20,
    "checkpointing.runs_dir": sys.argv[1] if len(sys.argv) > 1 else "runs",
    "checkpointing.run_name": "watch-induction",
    "evaluation.n_languages": 32,
}
finished = run.start(with_overrides(default_config(), settings))
[found] = analyze([finished.folder])  # every checkpoint: weights, and the scores of all heads

losses = dict(zip(*curve(found.findings, "loss_nats"), strict=True))
formed = formation(found.findings)
assert formed is not None
print("  step   loss  induction score")
for step, score in zip(*head_curves(found.findings, "induction_random")[formed.layer, formed.head], strict=True):
    print(f"{step:6,} {losses[step]:6.2f}  {score:.2f} {'#' * round(40 * score)}")
figure = Path(finished.folder) / "induction.png"
draw_formation(found.findings, figure, title="An induction head forms")
print(f"head {formed.head} of block {formed.layer} passed half of its score between steps", *formed.steps)
print(f"figure: {figure}")
