r"""Writing on: tokens drawn one after the other, each from the model's law given all before it.

Shapes: B rows, T tokens, V ids.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from xenoglot.errors import DataError
from xenoglot.options import check_options, option, whole_number
from xenoglot.transformer.key_values import KeyValueCache

__all__ = ["Sampling", "check_prompt", "generate"]

TINY = torch.finfo(torch.float32).tiny
"""What divides logits at least: a lower temperature would be zero in float32."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    r"""The law that a token is drawn from, given the logits z.

    .. math::
        p_v \propto e^{z_v / \tau} \quad \text{for the ids that are kept,}

    where ``top_k`` keeps the k greatest logits (and what equals the least of them), and ``top_p``, after it, the fewest
    ids, likeliest first, whose mass reaches p (Holtzman et al. 2020, arXiv 1904.09751).

    Args:
        temperature: tau; at 0 the likeliest id is certain, the first one if several are.
        top_k: At least 1; every id if None.
        top_p: Above 0, at most 1; every id if None.

    Raises:
        OptionError: If a value is not allowed.

    Example:
        >>> z = torch.tensor([[4.0, 3.0, 2.0, 1.0]]).log()
        >>> Sampling(top_k=2).law(z)   # 4 and 3 of 7
        tensor([[0.5714, 0.4286, 0.0000, 0.0000]])
        >>> Sampling(top_p=0.6).law(z)   # 4/10 is too little, 7/10 is enough
        tensor([[0.5714, 0.4286, 0.0000, 0.0000]])
        >>> Sampling(temperature=0).law(z)
        tensor([[1., 0., 0., 0.]])
    """

    temperature: float = option(1.0, "divides the logits; 0 is greedy", minimum=0)
    top_k: int | None = option(None, "how many of the greatest logits are kept; all if none", unit="ids", minimum=1)
    top_p: float | None = option(
        None,
        "mass that the likeliest ids must reach; all are kept if none",
        minimum=0,
        maximum=1,
        exclusive_minimum=True,
    )

    def __post_init__(self) -> None:
        check_options(self)

    def law(self, logits_BV: Tensor) -> Tensor:
        """Return the probability of every id, float32 [B, V]."""
        logits_BV = logits_BV.float()
        if self.temperature == 0:
            return torch.zeros_like(logits_BV).scatter(1, logits_BV.argmax(1, keepdim=True), 1.0)
        largest_B1 = logits_BV.amax(1, keepdim=True)  # a tiny temperature must not overflow
        logits_BV = (logits_BV - largest_B1) / max(self.temperature, TINY)
        if self.top_k is not None and self.top_k < logits_BV.shape[1]:
            least_B1 = logits_BV.topk(self.top_k, dim=1).values[:, -1:]
            logits_BV = logits_BV.masked_fill(logits_BV < least_B1, -torch.inf)
        if self.top_p is not None:
            sorted_BV, order_BV = logits_BV.sort(dim=1, descending=True, stable=True)
            mass_BV = sorted_BV.softmax(1)
            is_beyond_BV = mass_BV.cumsum(1) - mass_BV >= self.top_p  # those before it were enough
            is_beyond_BV[:, 0] = False
            logits_BV = logits_BV.masked_fill(is_beyond_BV.gather(1, order_BV.argsort(1)), -torch.inf)
        return logits_BV.softmax(1)

    def draw(self, logits_BV: Tensor, rng: torch.Generator) -> Tensor:
        """Draw an id for each row, int64 [B]; on the generator's device, so that every device draws the same."""
        if self.temperature == 0:
            return logits_BV.argmax(1)
        law_BV = self.law(logits_BV).to(rng.device)
        return torch.multinomial(law_BV, 1, generator=rng)[:, 0].to(logits_BV.device)


def generate(
    next_logits: Callable[[Tensor, KeyValueCache | None], Tensor],
    input_ids: Tensor,
    *,
    max_new_tokens: int,
    sampling: Sampling,
    rng: torch.Generator,
    stop_ids: Collection[int],
    pad_id: int,
    cache: KeyValueCache | None,
) -> Tensor:
    """Return the prompts [B, T] and what follows, [B, T + n] with n at most ``max_new_tokens``.

    A row ends with the first of ``stop_ids`` that it draws; until the others have ended, it is filled with ``pad_id``.

    Args:
        next_logits: Gives logits [B, V] of what follows ids [B, T], read on from where the cache, if any, has stopped.
        input_ids: The prompts.
        max_new_tokens: After which all rows end.
        sampling: What a token is drawn from.
        rng: What it is drawn with.
        stop_ids: End a row.
        pad_id: Fills a row that has ended.
        cache: A new one; if None, everything is read again for every token.
    """
    ids_BT, unread_BT = input_ids, input_ids
    stops = torch.tensor(sorted(stop_ids), dtype=torch.long, device=input_ids.device)
    has_ended_B = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
    for _ in range(max_new_tokens):
        drawn_B = sampling.draw(next_logits(unread_BT, cache), rng).masked_fill(has_ended_B, pad_id)
        ids_BT = torch.cat([ids_BT, drawn_B[:, None]], dim=1)
        unread_BT = ids_BT if cache is None else drawn_B[:, None]
        has_ended_B = has_ended_B | torch.isin(drawn_B, stops)
        if has_ended_B.all():
            break
    return ids_BT


def check_prompt(input_ids: Tensor, *, vocab_size: int, max_seq_len: int, max_new_tokens: int) -> None:
    """Refuse prompts that cannot be written on.

    Raises:
        OptionError: If ``max_new_tokens`` is not a whole number, at least 1.
        DataError: If the ids are none of the model's, or there is no room for what follows.
    """
    whole_number("max_new_tokens", max_new_tokens, minimum=1)
    if input_ids.ndim != 2 or not input_ids.numel():
        raise DataError(f"input_ids: got shape {list(input_ids.shape)}; allowed: [B, T], at least one token a row.")
    low, high = int(input_ids.min()), int(input_ids.max())
    if low < 0 or high >= vocab_size:
        raise DataError(f"input_ids: got ids from {low} to {high}; allowed: 0 to {vocab_size - 1}, the model's own.")
    n_allowed = max_seq_len + 1 - input_ids.shape[1]  # the last one is not read
    if max_new_tokens > n_allowed:
        raise DataError(
            f"max_new_tokens: got {max_new_tokens} after {input_ids.shape[1]} tokens; allowed: {max(0, n_allowed)}, "
            f"since the model reads max_seq_len, {max_seq_len}, tokens. Give a shorter prompt, or ask for fewer."
        )
