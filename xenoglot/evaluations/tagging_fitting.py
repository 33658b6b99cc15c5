"""A head, and as much of a decoder as is asked for, learn to tag words; dev says when to stop and at which rate.

What learns, besides the head:

- ``head``: nothing. The decoder reads every sentence once; only the head sees the features again (a linear probe).
- ``embedding``: the vectors of the tokens. The blocks stay as they are: what a decoder can do whose vocabulary is new.
- ``all``: everything that the head reads: token vectors, blocks and the last norm.

The head is linear and starts at zero. Adam (Kingma and Ba 2015, arXiv 1412.6980) takes steps on batches of sentences,
each word counting the same. After every epoch dev is tagged; the weights of the best epoch are kept: the highest F1, or
at equal F1 the lowest loss, since at first nothing but ``O`` is predicted.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xenoglot.decoder import Backbone, Decoder
from xenoglot.errors import DivergenceError
from xenoglot.evaluations.tagging_scores import ALL_TYPES, best_valid_tags, span_scores
from xenoglot.evaluations.tagging_words import Window, collate
from xenoglot.languages.base import Floats
from xenoglot.rng import derive, generator

__all__ = ["Fitted", "Part", "Recipe", "best_of_rates"]

CLIP_NORM = 1.0
WINDOWS_AT_ONCE = 32
POOLED_BATCHES = 16
"""So many batches together are sorted by length before they are cut apart."""


class Part(NamedTuple):
    """Sentences as a decoder reads them.

    Attributes:
        windows: Rows of tokens.
        tags: The true ones of each sentence.
    """

    windows: Sequence[Window]
    tags: Sequence[Sequence[str]]


class Recipe(NamedTuple):
    """How taggers are fitted.

    Attributes:
        adapts: What learns: "head", "embedding" or "all".
        sees_all: Whether attention looks to both sides, whatever it was trained for.
        rates: Adam's, to choose from.
        max_epochs: Epochs at most.
        patience: Epochs without a better one after which to stop.
        batch_size: Windows of a step.
    """

    adapts: str
    sees_all: bool
    rates: Sequence[float]
    max_epochs: int
    patience: int
    batch_size: int


class Tagger(nn.Module):
    """A decoder's hidden states at the ends of words, and a linear head on them.

    Args:
        decoder: What reads; a copy of its weights is made.
        n_tags: Outputs of the head, L.
        recipe: What learns.
    """

    def __init__(self, decoder: Decoder, n_tags: int, recipe: Recipe) -> None:
        super().__init__()
        self.backbone: Backbone = copy.deepcopy(decoder.model)
        self.sees_all = recipe.sees_all or decoder.config.attention != "causal"
        device = self.backbone.embed_tokens.weight.device
        self.head_weight_LD = nn.Parameter(torch.zeros(n_tags, decoder.config.d_model, device=device))
        self.head_bias_L = nn.Parameter(torch.zeros(n_tags, device=device))
        self.backbone.requires_grad_(recipe.adapts == "all")
        self.backbone.embed_tokens.requires_grad_(recipe.adapts in ("all", "embedding"))

    def features(self, windows: Sequence[Window]) -> Tensor:
        """Return the hidden state that each word is tagged by, [W, D], in float32."""
        batch = collate(windows, self.head_bias_L.device)
        is_seen_BHTS = None
        if self.sees_all:
            places_T = torch.arange(batch.token_ids_NT.shape[1], device=batch.lengths_N.device)
            is_seen_BHTS = (places_T < batch.lengths_N[:, None])[:, None, None]
        hidden_NTD = self.backbone(batch.token_ids_NT, is_seen_BHTS=is_seen_BHTS)
        features_WD: Tensor = hidden_NTD[batch.rows_W, batch.positions_W].float()
        return features_WD

    def logits(self, features_WD: Tensor) -> Tensor:
        """Return a number for each word and tag, [W, L]."""
        return F.linear(features_WD, self.head_weight_LD, self.head_bias_L)


class Fitted(NamedTuple):
    """A tagger that was fitted.

    Attributes:
        tagger: With the weights of its best epoch.
        rate: It was fitted at.
        n_epochs: After which it was best; 0 is the head of zeros.
        dev_f1: Of that epoch.
        dev_loss_nats: Of that epoch, a word.
    """

    tagger: Tagger
    rate: float
    n_epochs: int
    dev_f1: float
    dev_loss_nats: float

    @property
    def quality(self) -> tuple[float, float]:
        """What the best is best by."""
        return self.dev_f1, -self.dev_loss_nats

    def predicted(self, part: Part, tags: Sequence[str]) -> list[list[str]]:
        """Return the tags of each sentence of a part."""
        return _predicted(_log_probs(self.tagger, part.windows, None), part, tags)


def best_of_rates(decoder: Decoder, train: Part, dev: Part, tags: Sequence[str], recipe: Recipe, seed: int) -> Fitted:
    """Fit a tagger at every rate, and return the one that tags dev best.

    Args:
        decoder: Where it begins; is left as it was.
        train: What is learned.
        dev: What is chosen by.
        tags: All tags, ``O`` first.
        recipe: How.
        seed: What the order of the sentences is drawn from.

    Raises:
        DivergenceError: If the loss was not finite at any rate.
    """
    cached = _Cached(Tagger(decoder, len(tags), recipe), (train, dev)) if recipe.adapts == "head" else None
    fitted = [
        best
        for rate in recipe.rates
        if (best := _fit(Tagger(decoder, len(tags), recipe), train, dev, tags, recipe, rate, seed, cached)) is not None
    ]
    if not fitted:
        raise DivergenceError(f"tagging: the loss was not finite at the rates {list(recipe.rates)}. Try smaller ones.")
    return max(fitted, key=lambda each: each.quality)


class _Cached:
    """Features of windows that are read once."""

    @torch.no_grad()
    def __init__(self, tagger: Tagger, parts: Sequence[Part]) -> None:
        self._known: dict[int, Tensor] = {}
        for windows in (chunk for part in parts for chunk in _chunks(part.windows)):
            features = torch.split(tagger.features(windows), [len(window.positions) for window in windows])
            self._known |= {id(window): of_window for window, of_window in zip(windows, features, strict=True)}

    def features(self, windows: Sequence[Window]) -> Tensor:
        """Return what the tagger's own method does."""
        return torch.cat([self._known[id(window)] for window in windows])


def _fit(
    tagger: Tagger,
    train: Part,
    dev: Part,
    tags: Sequence[str],
    recipe: Recipe,
    rate: float,
    seed: int,
    cached: _Cached | None,
) -> Fitted | None:
    """Fit at one rate, from epoch to epoch, until dev has not been tagged better for a while; None if it diverges."""
    learned = [parameter for parameter in tagger.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=rate)
    best = _judged(tagger, dev, tags, rate, 0, cached)
    kept = [parameter.detach().clone() for parameter in learned]
    for epoch in range(1, recipe.max_epochs + 1):
        rng = generator(derive(seed, "tagging", "order"), epoch)
        for windows in _batches(train.windows, recipe.batch_size, rng):
            if not _step(tagger, windows, learned, optimizer, cached):
                return None
        now = _judged(tagger, dev, tags, rate, epoch, cached)
        if now.quality > best.quality:
            best, kept = now, [parameter.detach().clone() for parameter in learned]
        if epoch - best.n_epochs >= recipe.patience:
            break
    with torch.no_grad():
        for parameter, value in zip(learned, kept, strict=True):
            parameter.copy_(value)
    return best


def _batches(windows: Sequence[Window], size: int, rng: np.random.Generator) -> list[list[Window]]:
    """Go through all windows at random, those of a batch being of like lengths: padding is read as slowly as words."""
    shuffled = [windows[place] for place in rng.permutation(len(windows)).tolist()]
    batches: list[list[Window]] = []
    for first in range(0, len(shuffled), POOLED_BATCHES * size):
        pool = sorted(shuffled[first : first + POOLED_BATCHES * size], key=lambda window: len(window.token_ids))
        batches += [pool[start : start + size] for start in range(0, len(pool), size)]
    return [batches[place] for place in rng.permutation(len(batches)).tolist()]


def _step(
    tagger: Tagger,
    windows: Sequence[Window],
    learned: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    cached: _Cached | None,
) -> bool:
    """Take one step, and say whether loss and gradient were finite."""
    labels_W = torch.tensor([label for window in windows for label in window.labels], device=learned[0].device)
    features_WD = (cached or tagger).features(windows)
    loss = F.cross_entropy(tagger.logits(features_WD), labels_W)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(learned, CLIP_NORM)
    if not bool(torch.isfinite(norm)):
        return False
    optimizer.step()
    return True


def _judged(
    tagger: Tagger, dev: Part, tags: Sequence[str], rate: float, n_epochs: int, cached: _Cached | None
) -> Fitted:
    log_probs_WL = _log_probs(tagger, dev.windows, cached)
    labels_W = np.array([label for window in dev.windows for label in window.labels])
    return Fitted(
        tagger=tagger,
        rate=rate,
        n_epochs=n_epochs,
        dev_f1=span_scores(dev.tags, _predicted(log_probs_WL, dev, tags))[ALL_TYPES].f1,
        dev_loss_nats=-float(log_probs_WL[np.arange(len(labels_W)), labels_W].mean()),
    )


@torch.no_grad()
def _log_probs(tagger: Tagger, windows: Sequence[Window], cached: _Cached | None) -> Floats:
    parts = [tagger.logits((cached or tagger).features(chunk)) for chunk in _chunks(windows)]
    return torch.cat(parts).cpu().double().log_softmax(dim=1).numpy()


def _predicted(log_probs_WL: Floats, part: Part, tags: Sequence[str]) -> list[list[str]]:
    return best_valid_tags(log_probs_WL, [len(true) for true in part.tags], tags)


def _chunks(windows: Sequence[Window]) -> Iterator[Sequence[Window]]:
    for first in range(0, len(windows), WINDOWS_AT_ONCE):
        yield windows[first : first + WINDOWS_AT_ONCE]
