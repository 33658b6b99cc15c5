"""What a model folder holds besides the model so that others can use it: a tokenizer, and where writing ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

from xenoglot.corpus.id_words import id_word_files
from xenoglot.corpus.subwords import restore_tokenizer

__all__ = ["GENERATION_FILE", "further_files"]

GENERATION_FILE = "generation_config.json"
TOKENIZER_FILE, TOKENIZER_CONFIG_FILE = "tokenizer.json", "tokenizer_config.json"


def further_files(n_ids: int, tokenizer_files: Mapping[str, bytes] = MappingProxyType({})) -> dict[str, bytes]:
    """Return `tokenizer.json`, `tokenizer_config.json` and `generation_config.json` by name.

    Args:
        n_ids: Ids of the model, V.
        tokenizer_files: The tokenizer's own; none for a model of bare ids, whose words are numbers.

    Example:
        >>> files = further_files(18)
        >>> json.loads(files["generation_config.json"])
        {'bos_token_id': None, 'eos_token_id': None, 'pad_token_id': None}
    """
    from tokenizers import Tokenizer

    files = dict(tokenizer_files or id_word_files(n_ids))
    engine = Tokenizer.from_str(files[TOKENIZER_FILE].decode())
    names = json.loads(files[TOKENIZER_CONFIG_FILE])
    bos_id, pad_id = (engine.token_to_id(names.get(task) or "") for task in ("bos_token", "pad_token"))
    eos_id = restore_tokenizer(TOKENIZER_FILE, files[TOKENIZER_FILE], files[TOKENIZER_CONFIG_FILE]).end_of_text
    if not tokenizer_files:
        pad_id = None  # rows of ids hold MASK, and transformers would not let a model see what it calls padding
    settings = {"bos_token_id": bos_id, "eos_token_id": eos_id, "pad_token_id": pad_id}
    return files | {GENERATION_FILE: f"{json.dumps(settings, indent=2)}\n".encode()}
