"""How a run adapts, as its configuration says it, and with whatever it learned for that."""

from __future__ import annotations

import torch

from xenoglot.adaptation import MetaLearner
from xenoglot.checkpoint import Checkpoint
from xenoglot.config import RunConfig
from xenoglot.decoder import Decoder
from xenoglot.rng import derive
from xenoglot.training.learner import OBJECTIVE

__all__ = ["new_learner", "trained_learner"]


def new_learner(config: RunConfig, model: Decoder) -> MetaLearner:
    """Return how a run adapts before its first step; tasks that are languages need no head.

    Args:
        config: The run's.
        model: What adapts.
    """
    head = config.smlmt.classifier_head if config.languages is None else None
    rng = torch.Generator().manual_seed(derive(config.training.seed, "initial-head"))
    return MetaLearner(config.smlmt, head, model, rng)


def trained_learner(config: RunConfig, model: Decoder, checkpoint: Checkpoint) -> MetaLearner:
    """Return how a run adapts at a checkpoint, with the rates and the head's parameters that it has learned.

    Args:
        config: The run's.
        model: That of the checkpoint.
        checkpoint: Is read only if anything is learned.

    Raises:
        DataError: If the checkpoint is damaged.
    """
    learner = new_learner(config, model)
    if learner.state_dict():
        _, state = checkpoint.read()
        prefix = f"{OBJECTIVE}:"
        learned = {name.removeprefix(prefix): own for name, own in state.tensors.items() if name.startswith(prefix)}
        learner.load_state_dict(learned)
    return learner
