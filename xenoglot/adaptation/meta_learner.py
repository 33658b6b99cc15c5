"""A decoder's meta-objective: how well it does on a task's query set after adapting to the support set.

```python
learner = MetaLearner(AdaptationConfig(), ClassifierHeadConfig(kind="ridge"), decoder)
result = learner(decoder, episode, rng)
result.loss.backward()              # the meta-gradient: of the decoder, learned rates and the head's own parameters
```

Only what must be encoded more than once is: with the head alone adapting, every sentence is encoded once, under
attention's fast kernels, whatever the number of steps and the order of the gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from xenoglot import heads
from xenoglot.adaptation.descent import Descent
from xenoglot.adaptation.rates import InnerRates
from xenoglot.adaptation.reading import Reader
from xenoglot.adaptation.selection import select
from xenoglot.adaptation.tasks import HEAD_PREFIX, FeatureTask, LanguageTask, SentenceTask, Task
from xenoglot.config.adaptation import AdaptationConfig, ClassifierHeadConfig
from xenoglot.decoder import Decoder
from xenoglot.episodes import Episode, LanguageEpisode
from xenoglot.errors import DataError, OptionError
from xenoglot.heads import Head, Weights
from xenoglot.rng import derive

__all__ = ["Adapted", "MetaLearner", "MetaResult"]


@dataclass(frozen=True, kw_only=True)
class MetaResult:
    """What a task asks of the shared weights.

    Attributes:
        loss: Of the query set after adapting, in nats; its gradient is the meta-gradient.
        metrics: Scalars without graph: ``query_loss_nats``, ``query_accuracy``, ``support_loss_nats`` and
            ``support_accuracy`` after adapting, ``chance_accuracy``, the mean ``inner_gradient_norm`` of the steps if
            there are any; and, where they cost nothing as only the head adapts, all four ``..._before`` too.
    """

    loss: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """A model after some gradient steps on a task.

    Attributes:
        n_steps: How many.
        weights: What adapted, by name; the head's begin with "head.".
        support_loss_nats: Mean loss on what it adapts to.
        support_accuracy: Share of right answers there.
        query_loss_nats: Mean loss on what it is judged by.
        query_accuracy: Share of right answers there.
    """

    n_steps: int
    weights: Weights
    support_loss_nats: float
    support_accuracy: float
    query_loss_nats: float
    query_accuracy: float


class MetaLearner(nn.Module):
    """Adapts a decoder to tasks, and says how that went.

    It holds what all tasks share beside the decoder: learned rates and a head's own parameters. They are parameters
    as any other, for an optimizer and a checkpoint. The decoder is not held, and nothing about it is changed: steps are
    taken by copies.

    Args:
        config: How it adapts.
        head: What sorts sentences; None where languages are learned, by next-token prediction.
        decoder: Whose weights adapt; bare, as its module is where Fabric or DistributedDataParallel wraps it.
        rng: Where the head's own parameters are drawn from; seed 0's stream "head" if None.

    Raises:
        OptionError: If the options do not fit together, or the decoder.
        UnknownNameError: If there is no such head.

    Example:
        >>> from xenoglot.config import ModelConfig
        >>> from xenoglot.episodes import Examples
        >>> from xenoglot.rng import generator
        >>> decoder = Decoder(ModelConfig(d_model=16, vocab_size=30, max_seq_len=8))
        >>> sentences = Examples(token_ids_NT=torch.arange(1, 25).view(6, 4), lengths_N=torch.full((6,), 4),
        ...                      mask_positions_N=torch.zeros(6, dtype=torch.long), labels_N=torch.arange(6) % 3)
        >>> task = Episode(support=sentences, query=sentences, n_way=3, identity="six sentences")
        >>> config = AdaptationConfig(inner_steps=5, inner_lr=0.1, learn_inner_lr="per-step")
        >>> learner = MetaLearner(config, ClassifierHeadConfig(kind="linear", init_method="zero"), decoder)
        >>> result = learner(decoder, task, generator(0))
        >>> result.loss.backward()
        >>> learner.rates.log_rates["everything"].grad.shape
        torch.Size([5])
        >>> [round(adapted.query_accuracy, 2) for adapted in learner.adapt(decoder, task, generator(0), (0, 20))]
        [0.33, 1.0]
    """

    def __init__(
        self,
        config: AdaptationConfig,
        head: ClassifierHeadConfig | None,
        decoder: Decoder,
        rng: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.head: Head | None = None
        weights = {name: weight.shape for name, weight in _bare(decoder).named_parameters()}
        if head is not None:
            rng = rng or torch.Generator().manual_seed(derive(0, "head"))
            self.head = heads.get(head.kind)(head, decoder.config.d_model, rng)
            weights = {name: shape for name, shape in weights.items() if not name.startswith("lm_head.")}
        names = [*weights, *([] if head is None else [HEAD_PREFIX])]
        self._adapting = select(names, config.adapts)
        own = {name: weights[name] for name in self._adapting if name != HEAD_PREFIX}
        self._check(has_own=bool(own))
        self._only_head_adapts = not own
        self.rates = InnerRates(config, own)
        self._reader = Reader(decoder.config, config.readout)

    def forward(self, decoder: Decoder, episode: Episode | LanguageEpisode, rng: np.random.Generator) -> MetaResult:
        """Adapt to a task's support set, and judge by its query set.

        Args:
            decoder: As in the constructor, or another of the same sizes.
            episode: The task, on the decoder's device.
            rng: Where a fresh head and its dropout are drawn from.

        Raises:
            OptionError: If the decoder is wrapped, cut up, or compiled in place where more than the head adapts.
            DataError: If the task is of the other kind.
        """
        config, task = self.config, self._task(decoder, episode, rng)
        descended = self._descent(task).run(
            task.weights,
            task.given,
            self.rates.table(task.weights, self._n_steps),
            order="first" if config.order == "reptile" else config.order,
            truncated_steps=config.truncated_steps,
        )
        query_loss, query_accuracy = task.judge(descended.weights, "query")
        metrics = {"query_loss_nats": query_loss.detach(), "query_accuracy": query_accuracy}
        metrics |= _judged(task, descended.weights, ("support",))
        if isinstance(task, FeatureTask) and self._n_steps:
            before = _judged(task, task.weights, ("query", "support"))
            metrics |= {f"{name}_before": value for name, value in before.items()}
        metrics["chance_accuracy"] = query_accuracy.new_tensor(1 / task.n_classes)
        if self._n_steps:
            metrics["inner_gradient_norm"] = descended.gradient_norms_K.mean()
        is_reptile = config.order == "reptile"
        loss = _way_back(query_loss, task.weights, descended.weights) if is_reptile else query_loss
        return MetaResult(loss=loss, metrics=metrics)

    def adapt(
        self,
        decoder: Decoder,
        episode: Episode | LanguageEpisode,
        rng: np.random.Generator,
        n_steps: Sequence[int] = (0, 1, 2, 5, 10, 20, 50),
    ) -> Iterator[Adapted]:
        """Yield the model after each of these numbers of steps, one at a time; no graph is kept.

        A head that solves for its weights takes no steps, and is the same after any number.

        Args:
            decoder: As in the constructor.
            episode: The task, on the decoder's device.
            rng: As in a call.
            n_steps: Rising, from 0; they may go past ``inner_steps``.

        Raises:
            OptionError: As a call does, or if the numbers do not rise.
            DataError: If the task is of the other kind.
        """
        if list(n_steps) != sorted(set(n_steps)) or not n_steps or n_steps[0] < 0:
            raise OptionError("n_steps", list(n_steps), "whole numbers from 0 on, each above the one before")
        with torch.no_grad():
            task = self._task(decoder, episode, rng)
            rates = self.rates.table(task.weights, n_steps[-1] if self._takes_steps else 0)
        path = self._descent(task).walk(task.weights, task.given, rates)
        n_taken, weights = 0, next(path)
        for wanted in n_steps:
            while n_taken < wanted and self._takes_steps:
                n_taken, weights = n_taken + 1, next(path)
            judged = _judged(task, weights, ("support", "query"))
            yield Adapted(n_steps=wanted, weights=weights, **{name: value.item() for name, value in judged.items()})

    @property
    def _takes_steps(self) -> bool:
        return self.head is None or self.head.takes_steps

    @property
    def _n_steps(self) -> int:
        return self.config.inner_steps if self._takes_steps else 0

    def _descent(self, task: Task) -> Descent:
        return Descent(loss=task.support_loss, clip_norm=self.config.inner_clip_norm)

    def _task(self, decoder: Decoder, episode: Episode | LanguageEpisode, rng: np.random.Generator) -> Task:
        self._check_compiled(_bare(decoder))
        if isinstance(episode, LanguageEpisode):
            if self.head is not None:
                raise DataError(
                    f"{episode.identity}: got a language; allowed: labelled sentences, for the head to sort."
                )
            return LanguageTask.of(decoder, episode, adapting=self._adapting)
        if self.head is None:
            raise DataError(f"{episode.identity}: got labelled sentences; allowed: languages, as there is no head.")
        if not self._only_head_adapts:
            return SentenceTask.of(
                decoder, episode, head=self.head, reader=self._reader, rng=rng, adapting=self._adapting
            )
        return FeatureTask.of(
            decoder,
            episode,
            head=self.head,
            reader=self._reader,
            rng=rng,
            has_support_graph=self.head.reads_support or self.config.order != "first",
        )

    def _check(self, *, has_own: bool) -> None:
        config, head = self.config, self.head
        if head is not None and not head.takes_steps and self._adapting != [HEAD_PREFIX]:
            raise OptionError("adapts", config.adapts, f"head, as a {head.name} head solves for its weights at once")
        if config.order == "reptile" and not has_own:
            raise OptionError(
                "adapts", config.adapts, "more than the head where order is reptile: that teaches no heads"
            )
        if config.order == "reptile" and head is not None and head.reads_support:
            raise OptionError(
                "order", config.order, f"any but reptile, which would not teach what a {head.name} head is made by"
            )

    def _check_compiled(self, decoder: Decoder) -> None:
        """Refuse what torch.compile cannot do: its code has no second derivative, nor other weights put into it."""
        if not self._only_head_adapts and any(part._compiled_call_impl is not None for part in decoder.modules()):
            raise OptionError(
                "adapts",
                self.config.adapts,
                "head, where the decoder is compiled in place",
                "Use torch.compile(decoder) elsewhere, and give the decoder itself here.",
            )


def _bare(decoder: nn.Module) -> Decoder:
    """Return the decoder if it is one, and whole."""
    if not isinstance(decoder, Decoder):
        raise OptionError(
            "decoder",
            type(decoder).__name__,
            "a bare Decoder",
            "Weights that adapt are put into the module itself: give the one inside (module.module, or "
            "module._orig_mod where it is compiled).",
        )
    if any(isinstance(weight, DTensor) for weight in decoder.parameters()):
        raise OptionError("training.fabric.strategy", "fsdp", "auto or ddp: weights that are cut up cannot adapt")
    return decoder


def _judged(task: Task, weights: Weights, parts: Sequence[str]) -> dict[str, Tensor]:
    """Return loss and accuracy of each set, without graph."""
    judged = {}
    with torch.no_grad():
        for part in parts:
            judged[f"{part}_loss_nats"], judged[f"{part}_accuracy"] = task.judge(weights, part)
    return judged


def _way_back(loss: Tensor, start: Weights, end: Weights) -> Tensor:
    r"""Return a loss's value with Reptile's gradient: of every shared weight that adapted, :math:`w_0 - w_K`.

    Source: Nichol et al. 2018, arXiv 1803.02999. Where we differ: steps are taken on the support set alone, and the
    gradient is not divided by the rate.
    """
    learned = {name: weight for name, weight in start.items() if weight.requires_grad}
    way = torch.stack([(weight * (weight - end[name]).detach()).sum() for name, weight in learned.items()]).sum()
    return loss.detach() + way - way.detach()
