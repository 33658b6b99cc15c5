"""MetaLM-1: what noise costs one who knows the elements, and one who has to learn them.

python docs/figures/draw_metalm_v1.py
"""

from __future__ import annotations

from drawing import SERIES, curve, draw_curves

from xenoglot.figures import Line
from xenoglot.languages import MetaLMv1
from xenoglot.predictors import NoisyRepeats

N_LANGUAGES, LENGTH = 256, 1024
ERROR_RATES = (0.0, 0.1, 0.3)


def main() -> None:
    """Draw both for each rate of disturbance."""
    lines: list[Line] = []
    for error_rate, colour in zip(ERROR_RATES, SERIES, strict=False):
        family = MetaLMv1(vocab_size=32, n_elements=5, element_length=16, error_rate=error_rate, separator=True)
        batch = family.batch(batch_size=N_LANGUAGES, length=LENGTH, seed=0, floor=True)
        nats = NoisyRepeats(family=family, n_particles=16).nats(batch.inputs, batch.targets)
        lines.append(curve(nats, f"e = {error_rate}, learner", colour, width=1.3, style="--"))
        lines.append(curve(batch.floor_nats, f"e = {error_rate}, floor", colour))
    draw_curves(
        "metalm-v1.png",
        lines,
        length=LENGTH,
        title="MetaLM-1, V = 32, n = 5, l = 16: elements known and learned",
        what="loss, nats a token",
    )


if __name__ == "__main__":
    main()
