"""Folders of models, ours and others': where they are, and what sizes their `config.json` describes.

Nothing here reads weights, so a configuration can ask for sizes without torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from xenoglot.errors import DataError
from xenoglot.model_folders.llama import MODEL_TYPES, llama_sizes, to_llama_config
from xenoglot.model_folders.pico import PICO_TYPE, pico_sizes
from xenoglot.model_folders.places import model_folder

__all__ = ["CONFIG_FILE", "model_folder", "read_description", "read_sizes", "to_llama_config"]

CONFIG_FILE = "config.json"


def read_description(folder: Path) -> dict[str, Any]:
    """Return what stands in a folder's `config.json`.

    Raises:
        DataError: If there is none, it cannot be read, or it is of a model of another kind.
    """
    path = folder / CONFIG_FILE
    try:
        stored = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: got no readable model description ({error}).") from error
    allowed = (*MODEL_TYPES.values(), PICO_TYPE)
    if stored.get("model_type") not in allowed:
        got = stored.get("model_type")
        raise DataError(f"{path}: model_type: got {got!r}; allowed: {' or '.join(allowed)}.")
    return stored


def read_sizes(folder: Path) -> dict[str, Any]:
    """Return the sizes that a folder's `config.json` describes, as options of `ModelConfig`.

    Raises:
        DataError: If there is none, or it describes something that this decoder is not.
    """
    stored, place = read_description(folder), str(folder / CONFIG_FILE)
    return pico_sizes(stored, place) if stored["model_type"] == PICO_TYPE else llama_sizes(stored, place)
