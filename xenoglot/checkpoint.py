"""A checkpoint is a folder that is there whole or not at all.

It is written beside its place under a temporary name, and renamed at the end. It is a native Llama model folder
(`config.json`, `model.safetensors`) with `state/progress.json`: no pickle anywhere.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from xenoglot.decoder import Decoder
from xenoglot.errors import OutputError
from xenoglot.tracking import write_json

__all__ = ["save_checkpoint", "staged_folder"]


@contextlib.contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Give a temporary sibling folder that becomes ``target`` if the block ends well, and vanishes if not.

    Raises:
        OutputError: If ``target`` is there already, or cannot be written.
    """
    if target.exists():
        raise OutputError(f"{target}: it is there already. Remove it, or choose another place.")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(target)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{target}: it cannot be written: {error.strerror}. Nothing half-written is left.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def save_checkpoint(run_folder: Path, step: int, model: Decoder) -> Path:
    """Save the model after ``step`` steps to ``checkpoints/step_N`` of a run, and return that folder.

    Raises:
        OutputError: If it cannot be written; earlier checkpoints are untouched.
    """
    target = run_folder / "checkpoints" / f"step_{step}"
    with staged_folder(target) as folder:
        model.save_pretrained(folder)
        (folder / "state").mkdir()
        write_json(folder / "state" / "progress.json", {"step": step})
    return target
