"""How a model adapts to a task by gradient steps, and what sorts its examples into classes.

Keys that Pico-MAML's `smlmt` section has too mean the same here.
"""

from __future__ import annotations

from dataclasses import dataclass

from xenoglot.errors import OptionError
from xenoglot.options import check_options, option

__all__ = ["AdaptationConfig", "ClassifierHeadConfig"]


@dataclass(frozen=True, kw_only=True)
class AdaptationConfig:
    """The inner loop: which weights take gradient steps on the support set, and how the outer gradient flows back."""

    adapts: str = option(
        "head",
        "which weights adapt, as words: head; top-2, the last two layers and the head; all; a pattern such as "
        "*.self_attn.*; and ! before any of them takes it out again",
    )
    inner_steps: int = option(10, "gradient steps on the support set", unit="steps", minimum=0)
    inner_lr: float = option(0.01, "rate of a gradient step, or where it starts if it is learned", minimum=0)
    learn_inner_lr: str = option(
        "none",
        "whether rates are learned: one for each layer, for each number (one for all of the head), for each step, or "
        "for each layer at each step",
        choices=("none", "per-layer", "per-parameter", "per-step", "per-layer-and-step"),
    )
    inner_clip_norm: float | None = option(
        None, "greatest Euclidean norm of a step's gradient; no limit if none", minimum=0, exclusive_minimum=True
    )
    order: str = option(
        "exact",
        "outer gradient: first ignores how steps bend; exact keeps all steps in memory, checkpoint and adjoint compute "
        "the same with less; truncated is exact in the last steps; reptile is the way that the weights went",
        choices=("first", "exact", "checkpoint", "adjoint", "truncated", "reptile"),
    )
    truncated_steps: int = option(1, "last steps that are exact where order is truncated", unit="steps", minimum=0)
    readout: str = option(
        "final",
        "where a sentence is read: at its final token; at the mask, which has seen what stands before it; or at the "
        "mask with attention to all of the sentence",
        choices=("final", "mask", "mask-bidirectional"),
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.order == "reptile" and self.learn_inner_lr != "none":
            raise OptionError(
                "learn_inner_lr", self.learn_inner_lr, "none where order is reptile, which teaches no rates"
            )


@dataclass(frozen=True, kw_only=True)
class ClassifierHeadConfig:
    """What sorts sentences into the classes of a task: drawn, solved for or generated anew for each task."""

    kind: str = option(
        "mlp", "linear, mlp, ridge, prototype or generated; or a head of your own by its path, my_module:MyHead"
    )
    num_layers: int = option(1, "hidden layers of mlp, and of the network that generates", unit="layers", minimum=0)
    hidden_dim: int = option(128, "width of each hidden layer", minimum=1)
    dropout: float = option(
        0.0, "share of an mlp's hidden numbers that a gradient step does not see", minimum=0, maximum=0.99
    )
    init_method: str = option(
        "xavier",
        "how weights start; zero is xavier with a last layer of 0, so that the first guess is uniform",
        choices=("xavier", "kaiming", "normal", "zero"),
    )

    def __post_init__(self) -> None:
        check_options(self)
