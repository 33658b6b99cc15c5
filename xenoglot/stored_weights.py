"""Weights as model folders keep them: safetensors, in one file or in several with an index; never a pickle.

Whatever floating type they are stored in, what is read is float32. Where a folder has a manifest of ours, every byte is
compared with its SHA-256 first; elsewhere, damage shows as far as the format or a number that is not finite betrays it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from xenoglot.errors import DataError
from xenoglot.storage.manifest import MANIFEST_FILE, inspect_folder

__all__ = ["INDEX_FILE", "WEIGHTS_FILE", "read_weights", "refuse_damage"]

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
READ = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
OF_OUR_MANIFEST = (b'"format_version"', b'"sha256"')


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return all tensors of a model folder by name, as float32.

    Raises:
        DataError: If there are none, only pickled ones, or they are torn or changed; the file is named.
    """
    if (folder / WEIGHTS_FILE).is_file():
        return dict(_tensors(folder / WEIGHTS_FILE))
    if (folder / INDEX_FILE).is_file():
        return _sharded(folder / INDEX_FILE)
    pickled = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
    if pickled:
        raise DataError(
            f"{folder / pickled[0]}: got pickled weights, which may run any code when they are read; allowed: "
            f"{WEIGHTS_FILE}. Ask their author for safetensors, or convert them where you trust them."
        )
    raise DataError(f"{folder}: got no {WEIGHTS_FILE}, nor {INDEX_FILE}; allowed: a model's folder with one of them.")


def refuse_damage(folder: Path, names: tuple[str, ...]) -> None:
    """Compare files with the folder's manifest, if it has one of ours.

    Raises:
        DataError: If one of them, or the manifest, is torn or changed.
    """
    try:
        raw = (folder / MANIFEST_FILE).read_bytes()
    except OSError:
        return
    if not any(mark in raw for mark in OF_OUR_MANIFEST):
        return  # another program's file of that name
    damage = inspect_folder(folder, only=names).damage
    if damage:
        raise DataError(
            f"{folder}: the model is not what was saved: {'; '.join(damage)}. Get another copy; or, if it was changed "
            f"on purpose, remove {MANIFEST_FILE}."
        )


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                yield name, _as_float32(file.get_tensor(name), name, path)
    except (OSError, SafetensorError, ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: got no readable weights ({error}). Get another copy.") from error


def _as_float32(stored: Tensor, name: str, path: Path) -> Tensor:
    if stored.dtype not in READ:
        kind = str(stored.dtype).removeprefix("torch.")
        raise DataError(f"{path}: {name}: got {kind} numbers; allowed: float32, float16, bfloat16, or float64.")
    weight = stored.to(torch.float32)
    if not bool(torch.isfinite(weight).all()):
        raise DataError(f"{path}: {name}: got numbers that are not finite; allowed: finite ones. The file is damaged.")
    return weight


def _sharded(index: Path) -> dict[str, Tensor]:
    """Read the files that an index names, and compare what is in them with what it says."""
    places = _weight_map(index)
    weights: dict[str, Tensor] = {}
    for shard in sorted(set(places.values())):
        path = index.parent / shard
        if shard != Path(shard).name or not path.is_file():
            raise DataError(f"{index}: got {shard!r}, of which there is no file beside it; allowed: names of files.")
        found = dict(_tensors(path))
        expected = {name for name, place in places.items() if place == shard}
        if found.keys() != expected:
            differing = ", ".join(sorted(found.keys() ^ expected))
            raise DataError(f"{path}: its tensors are not those that {index.name} says. They differ in: {differing}.")
        weights |= found
    return weights


def _weight_map(index: Path) -> Mapping[str, str]:
    try:
        places = dict(json.loads(index.read_bytes())["weight_map"])
        if not all(isinstance(place, str) for place in places.values()):
            raise TypeError("weight_map names something that is no file")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{index}: got no readable index of weights ({error!r}).") from error
    return places
