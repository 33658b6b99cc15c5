r"""Learning dynamics: what some layers give out, their weights and their gradients, taken beside training.

With loss l of target t of N, a weight's gradient is that of the mean

.. math::
    \frac{1}{N} \sum_{t=1}^{N} l_t

over all rows of the batch, however they go through memory. The training batch of a step is the one that the next update
learns from, so its gradient is that update's own, before clipping. Where that update learns to adapt to tasks, it is
the meta-gradient, and there are no activations; that of the validation rows is always of predicting the next token.

Nothing of training is touched: a second decoder, never compiled, wrapped or cut up, reads the same weights in float32,
on the main process. Source: Pico's `learning_dynamics` (pico-train). Where we differ: gradients there are added up over
parts of a batch, each divided by its own size only; the last step has no training batch there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xenoglot.batches import BatchSource, Part, TokenBatch
from xenoglot.config import LearningDynamicsConfig, ModelConfig, TrainingConfig
from xenoglot.decoder import Decoder
from xenoglot.dynamics_files import DYNAMICS_FOLDER, FACTS_FILE, OPTIMIZER, TRAIN, VALIDATION, WEIGHTS
from xenoglot.dynamics_rows import DynamicsRows, rows_of_languages
from xenoglot.errors import OptionError
from xenoglot.layer_names import matching_layers, pico_name
from xenoglot.mechanisms.attention import attention_patterns
from xenoglot.objectives.autoregressive import expected_losses, token_losses
from xenoglot.objectives.base import Objective
from xenoglot.rng import generator
from xenoglot.transformer.blocks import RotaryPositions

__all__ = ["NOTHING", "LayerDynamics", "Recorded", "Recorder", "dynamics_of"]

FORMAT_VERSION = 1
LOGITS = "lm_head"
"""The layer that gives out logits."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Recorded:
    """What goes into a checkpoint's folder.

    Attributes:
        tensors: By name, by the path of the file that they go into.
        files: The content of other files by their paths.
    """

    tensors: Mapping[str, Mapping[str, Tensor]]
    files: Mapping[str, bytes]


NOTHING = Recorded(tensors={}, files={})


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerDynamics:
    """What layers gave out on some rows, and the gradients of their weights.

    Attributes:
        loss_nats: The mean over all targets.
        activations: By layer: [B, D'] at one position, or [B, T, D'] at all.
        gradients: By layer, in the shape of its weight.
        attention: By block: [B, H, T, T]; empty if not asked for.
    """

    loss_nats: float
    activations: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    attention: Mapping[str, Tensor]


def dynamics_of(
    model: Decoder,
    layers: Sequence[str],
    batch: TokenBatch,
    *,
    sequence_idx: int | None = -1,
    rows_at_once: int = 32,
    with_attention: bool = False,
) -> LayerDynamics:
    """Take activations and gradients of some layers on rows; nothing of the model is changed.

    Args:
        model: In float32, bare.
        layers: Names of its layers, such as `matching_layers` returns.
        batch: The rows, on any device.
        sequence_idx: At which position activations are taken, from the end if negative; at all if None.
        rows_at_once: How many go through memory together.
        with_attention: Whether each head's attention is taken too.

    Example:
        >>> model = Decoder(ModelConfig(vocab_size=18))
        >>> ids = torch.arange(32).view(2, 16) % 18
        >>> batch = TokenBatch(inputs_BT=ids, targets_BT=ids)
        >>> taken = dynamics_of(model, ["model.layers.0.mlp.down_proj"], batch)
        >>> taken.activations["model.layers.0.mlp.down_proj"].shape, round(taken.loss_nats, 4)   # ln 18
        (torch.Size([2, 64]), 2.8904)
        >>> taken.gradients["model.layers.0.mlp.down_proj"].shape
        torch.Size([64, 128])
    """
    device = next(model.parameters()).device
    weights = [_weight(model, layer) for layer in layers]
    given_out: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    patterns: list[list[Tensor]] = []
    gradients: list[Tensor] = []
    loss_nats = 0.0
    for first in range(0, len(batch.inputs_BT), rows_at_once):
        rows = slice(first, first + rows_at_once)
        part = batch.rows(rows).to(device)
        with torch.enable_grad(), _heard(model, given_out, sequence_idx):
            loss = _mean_loss(model, part, needs_logits=LOGITS in layers) * (part.n_tokens / batch.n_tokens)
            gradients = _added(gradients, torch.autograd.grad(loss, weights))
        loss_nats += loss.item()
        if with_attention:
            patterns.append([pattern.cpu() for pattern in attention_patterns(model, part.inputs_BT)])
    return LayerDynamics(
        loss_nats=loss_nats,
        activations={layer: torch.cat(parts) for layer, parts in given_out.items()},
        gradients=dict(zip(layers, gradients, strict=True)),
        attention={f"model.layers.{i}": torch.cat(parts) for i, parts in enumerate(zip(*patterns, strict=True))},
    )


def _mean_loss(model: Decoder, batch: TokenBatch, *, needs_logits: bool) -> Tensor:
    """Return the mean loss; a decoder that is given targets may leave its output matrix uncalled."""
    if batch.laws_BTV is not None:
        return expected_losses(model, batch.inputs_BT, batch.laws_BTV).mean()
    if needs_logits:
        return token_losses(model, batch).mean()
    loss: Tensor = model(batch.inputs_BT, targets=batch.targets_BT)
    return loss


@contextlib.contextmanager
def _heard(model: nn.Module, given_out: Mapping[str, list[Tensor]], sequence_idx: int | None) -> Iterator[None]:
    """Keep what layers give out while the model reads."""

    def keep(layer: str, output_BTD: Tensor) -> None:
        chosen = output_BTD if sequence_idx is None else output_BTD[:, sequence_idx]
        given_out[layer].append(chosen.detach().to("cpu", torch.float32, copy=True))

    with contextlib.ExitStack() as hooks:
        for layer in given_out:
            handle = model.get_submodule(layer).register_forward_hook(
                lambda module, inputs, output, layer=layer: keep(layer, output)
            )
            hooks.callback(handle.remove)
        yield


def _added(sums: Sequence[Tensor], more: Sequence[Tensor]) -> list[Tensor]:
    return [a + b for a, b in zip(sums, more, strict=True)] if sums else list(more)


class Recorder:
    """Takes the learning dynamics of a run.

    Args:
        config: Of which layers, at which steps.
        model: The sizes of the run's decoder.
        training: Its seed and its steps.
        device: On what it is worked out.
        objective: What the run minimises, for steps of tasks.
        n_parts: Into how many parts the tasks of a step are cut.
        batches: The rows of each step.
        validation: The rows that are the same at every step.

    Raises:
        OptionError: If a suffix matches no layer; with the nearest one that would.
    """

    def __init__(
        self,
        config: LearningDynamicsConfig,
        *,
        model: ModelConfig,
        training: TrainingConfig,
        device: torch.device,
        objective: Objective,
        n_parts: int,
        batches: BatchSource,
        validation: DynamicsRows,
    ) -> None:
        self._config, self._model, self._training = config, model, training
        self._device, self._objective, self._n_parts = device, objective, n_parts
        self._batches, self._validation = batches, validation
        self._reader = _Reader(model, device)
        try:
            self._layers = matching_layers(self._reader.decoder, config.layer_suffixes)
        except OptionError as error:
            raise error.at("checkpointing.learning_dynamics.") from error

    def is_due(self, step: int, *, is_saved: bool) -> bool:
        """Say whether there is something to record after ``step`` steps; ``is_saved``: a checkpoint is due anyway."""
        return self._config.is_due(step, n_steps=self._training.max_steps, is_saved=is_saved)

    def record(self, step: int, weights: Mapping[str, Tensor], remembered: Mapping[str, Tensor]) -> Recorded:
        """Take what a checkpoint after ``step`` steps will keep.

        Args:
            step: How many steps were made.
            weights: The model's state dict, whole.
            remembered: What the optimizers remember, under ``parameter name:what``.
        """
        with self._reader.reading(weights) as model:
            validation_tensors, validation_facts = self._of_rows(model, self._validation)
            train_tensors, train_facts = self._of_step(model, step)
            own_weights = {f"weights/{layer}": _weight(model, layer).detach() for layer in self._layers}
        tensors = {
            VALIDATION: validation_tensors,
            TRAIN: train_tensors,
            WEIGHTS: own_weights,
            OPTIMIZER: self._of_optimizer(remembered),
        }
        facts = {
            "format_version": FORMAT_VERSION,
            "step": step,
            "layers": {layer: pico_name(layer) for layer in self._layers},
            "sequence_idx": self._config.sequence_idx,
            "batches": {VALIDATION: validation_facts, TRAIN: train_facts},
        }
        return Recorded(
            tensors={f"{DYNAMICS_FOLDER}/{file}.safetensors": each for file, each in tensors.items() if each},
            files={f"{DYNAMICS_FOLDER}/{FACTS_FILE}": f"{json.dumps(facts, indent=1)}\n".encode()},
        )

    def _of_step(self, model: Decoder, step: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read what the update after ``step`` others learns from, or would."""
        batch, identity = self._batches(step), self._batches.identity(step)
        if not isinstance(batch, TokenBatch):
            return self._of_tasks(model, step, identity)
        languages = self._batches.languages(step)
        if languages is None:
            return self._of_rows(model, DynamicsRows(batch=batch, facts={"identity": identity}))
        rows = rows_of_languages(languages, identity)  # for their floor; what they are to teach is the batch's
        return self._of_rows(model, dataclasses.replace(rows, batch=batch))

    def _of_rows(self, model: Decoder, rows: DynamicsRows) -> tuple[dict[str, Tensor], dict[str, Any]]:
        n_rows, length = rows.batch.inputs_BT.shape
        taken = dynamics_of(
            model,
            self._layers,
            rows.batch,
            sequence_idx=self._config.sequence_idx,
            rows_at_once=self._config.batch_size * max(1, self._model.max_seq_len // length),  # as many tokens as ever
            with_attention=self._config.attention_patterns,
        )
        tensors = {
            **{f"activations/{layer}": each for layer, each in taken.activations.items()},
            **{f"gradients/{layer}": each for layer, each in taken.gradients.items()},
            **{f"attention/{block}": each for block, each in taken.attention.items()},
            "batch/inputs": rows.batch.inputs_BT.int(),
            "batch/targets": rows.batch.targets_BT.int(),
        }
        facts = {"kind": "rows", "n_rows": n_rows, "length": length, "n_tokens": rows.batch.n_tokens}
        facts |= {"loss_nats": taken.loss_nats, **rows.facts}
        if rows.floor_nats_BT is not None:
            tensors["batch/floor_nats"] = rows.floor_nats_BT
            facts["floor_nats"] = rows.floor_nats_BT.double().mean().item()
        return tensors, facts

    def _of_tasks(self, model: Decoder, step: int, identity: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Take the meta-gradient, as the update does: the mean over parts of equally many tasks."""
        weights = [_weight(model, layer) for layer in self._layers]
        gradients: list[Tensor] = []
        loss_nats, n_tokens = 0.0, 0
        for number in range(self._n_parts):
            batch = self._batches(step, Part(index=number, count=self._n_parts)).to(self._device)
            rng = generator(self._training.seed, "objective", step, number)
            with torch.enable_grad():
                loss = self._objective(model, batch, rng).loss / self._n_parts
                own = torch.autograd.grad(loss, weights, allow_unused=True)
            gradients = _added(gradients, [_or_zeros(*pair) for pair in zip(own, weights, strict=True)])
            loss_nats, n_tokens = loss_nats + loss.item(), n_tokens + batch.n_tokens
        facts = {
            "kind": "tasks",
            "n_tasks": self._batches.batch_size(step),
            "n_tokens": n_tokens,
            "loss_nats": loss_nats,
            "identity": identity,
        }
        return {f"gradients/{layer}": each for layer, each in zip(self._layers, gradients, strict=True)}, facts

    def _of_optimizer(self, remembered: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if not self._config.optimizer_state:
            return {}
        named = {name: name.rpartition(".weight:") for name in remembered}
        return {
            f"{what}/{layer}": remembered[name].float()
            for name, (layer, _, what) in named.items()
            if layer in self._layers
        }


class _Reader:
    """A decoder of its own that reads a run's weights in float32; between two times it has none.

    Weights are copied only if they are in other numbers, or elsewhere.
    """

    def __init__(self, config: ModelConfig, device: torch.device) -> None:
        self._config, self._device = config, device
        with torch.device("meta"):
            self.decoder = Decoder(config)
        self.decoder.model.rotate = RotaryPositions(config).to(device)
        self._nothing = {name: weight.detach() for name, weight in self.decoder.state_dict().items()}

    @contextlib.contextmanager
    def reading(self, weights: Mapping[str, Tensor]) -> Iterator[Decoder]:
        self._take({name: weight.detach().to(self._device, torch.float32) for name, weight in weights.items()})
        try:
            yield self.decoder
        finally:
            self._take(self._nothing)

    def _take(self, weights: Mapping[str, Tensor]) -> None:
        self.decoder.load_state_dict(dict(weights), assign=True)
        if self._config.tie_word_embeddings:
            self.decoder.lm_head.weight = self.decoder.model.embed_tokens.weight


def _weight(model: Decoder, layer: str) -> Tensor:
    weight = model.get_submodule(layer).weight
    assert isinstance(weight, Tensor)
    return weight


def _or_zeros(gradient: Tensor | None, weight: Tensor) -> Tensor:
    return torch.zeros_like(weight) if gradient is None else gradient
