"""Which of a model's weights adapt: a few words, read from left to right.

```
head                      the head alone: ANIL (Raghu et al. 2020, arXiv 1909.09157)
all                       every weight, and the head: MAML (Finn et al. 2017, arXiv 1703.03400)
all !head                 every weight but the head's: BOIL (Oh et al. 2021, arXiv 2008.08882)
top-2                     the last two layers, the last norm and the head
head *.self_attn.*        the head and every matrix of attention
all !*.mlp.*              without the gated networks: warp layers (Flennerhag et al. 2020, arXiv 1909.00025)
```
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from xenoglot.errors import OptionError

__all__ = ["HEAD", "layer_of", "select"]

HEAD = "head"
LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
ALLOWED = "head, all, top-K or patterns of weights' names such as *.self_attn.*, each also with ! before it"


def layer_of(name: str) -> str:
    """Return which part of a model a weight belongs to: a layer, or else its module.

    Example:
        >>> [layer_of(name) for name in ("model.layers.3.mlp.up_proj.weight", "model.norm.weight", "head.bias_0")]
        ['layers.3', 'norm', 'head']
    """
    found = LAYER.search(name)
    if found:
        return f"layers.{found[1]}"
    return HEAD if _is_head(name) else name.split(".")[-2]


def select(names: Sequence[str], words: str) -> list[str]:
    """Return the names that the words choose, in their order.

    Args:
        names: Of all weights; those of a head begin with "head.", and a decoder's output matrix counts as its head.
        words: As above; a later word overrules an earlier one.

    Raises:
        OptionError: If a word chooses nothing, or all of them together.

    Example:
        >>> names = ["model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight", "head.bias"]
        >>> select(names, "top-1 !head")
        ['model.layers.1.mlp.up_proj.weight']
    """
    chosen: set[str] = set()
    for word in words.split():
        meant = _meant_by(word.removeprefix("!"), names)
        if not meant:
            known = sorted({layer_of(name) for name in names})
            raise OptionError("adapts", word, ALLOWED, f"No weight is called so; there are {', '.join(known)}.")
        chosen = chosen - meant if word.startswith("!") else chosen | meant
    if not chosen:
        raise OptionError("adapts", words, ALLOWED, "Something must adapt.")
    return [name for name in names if name in chosen]


def _meant_by(word: str, names: Sequence[str]) -> set[str]:
    if word == "all":
        return set(names)
    if word == HEAD:
        return set(filter(_is_head, names))
    if re.fullmatch(r"top-\d+", word):
        return _top_layers(int(word.removeprefix("top-")), names)
    return set(fnmatch.filter(names, word))


def _top_layers(n_top: int, names: Sequence[str]) -> set[str]:
    """Everything above the input of the last layers; nothing if there are not so many."""
    layers = [int(found[1]) for name in names if (found := LAYER.search(name))]
    n_layers = max(layers, default=-1) + 1
    if not 1 <= n_top <= n_layers:
        return set()
    above = {f"layers.{layer}" for layer in range(n_layers - n_top, n_layers)} | {"norm", HEAD}
    return {name for name in names if layer_of(name) in above}


def _is_head(name: str) -> bool:
    return name.startswith((f"{HEAD}.", "lm_head."))
