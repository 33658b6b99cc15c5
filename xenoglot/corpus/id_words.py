"""A tokenizer for models of bare ids: every id is a word, its number, so that other programs can read and write them.

`transformers` and what builds on it ask for a tokenizer even where there is no text. A row of a language is then
"3 1 16 17": numbers between blanks. Id 0, MASK, is ``<mask>``, the padding, and whatever word is no id. A word is
written with the blank before it, so that what a model writes can be put behind its prompt as it is.
"""

from __future__ import annotations

import json

from xenoglot.corpus.subwords import METASPACE
from xenoglot.corpus.tokenizer import MASK_TOKEN, tokenizer_config

__all__ = ["are_id_words", "id_word_files"]


def id_word_files(n_ids: int) -> dict[str, bytes]:
    """Return ``tokenizer.json`` and ``tokenizer_config.json`` of a model of bare ids.

    Args:
        n_ids: Ids of the model, V.

    Example:
        >>> from tokenizers import Tokenizer
        >>> engine = Tokenizer.from_str(id_word_files(18)["tokenizer.json"].decode())
        >>> engine.encode("3 1 17 18").ids      # 18 is no id of the model
        [3, 1, 17, 0]
        >>> engine.decode([3, 1, 17])
        ' 3 1 17'
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    engine = Tokenizer(models.WordLevel(vocab=_vocabulary(n_ids), unk_token=MASK_TOKEN))
    blank_before = pre_tokenizers.Metaspace(replacement=METASPACE, prepend_scheme="always")
    engine.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), blank_before])
    engine.decoder = decoders.Metaspace(replacement=METASPACE, prepend_scheme="never")
    engine.add_special_tokens([AddedToken(MASK_TOKEN, special=True, normalized=False)])
    names = {"pad_token": MASK_TOKEN, "mask_token": MASK_TOKEN, "unk_token": MASK_TOKEN}
    return {"tokenizer.json": engine.to_str().encode(), "tokenizer_config.json": tokenizer_config(names)}


def are_id_words(tokenizer_json: bytes) -> bool:
    """Say whether a ``tokenizer.json`` is one of these: what it reads is no text."""
    try:
        model = json.loads(tokenizer_json)["model"]
        return bool(model["type"] == "WordLevel" and model["vocab"] == _vocabulary(len(model["vocab"])))
    except (ValueError, KeyError, TypeError):
        return False


def _vocabulary(n_ids: int) -> dict[str, int]:
    return {MASK_TOKEN: 0} | {f"{METASPACE}{number}": number for number in range(1, n_ids)}
