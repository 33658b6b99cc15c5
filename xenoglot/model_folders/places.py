"""Where a model is: a folder here, or a name on the Hugging Face Hub, of which only safe files are fetched."""

from __future__ import annotations

import re
from pathlib import Path

from xenoglot.errors import DataError, MissingExtraError

__all__ = ["hub_name", "model_folder"]

HUB_NAME = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[^@\s]+))?")
SAFE_FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
IN_SUBFOLDERS = "*/*"  # Pico keeps its training state there


def hub_name(path_or_repo: str | Path) -> tuple[str, str | None] | None:
    """Return the repository and the revision that a name says, None if it is a folder here or can be no name.

    Example:
        >>> hub_name("pico-lm/pico-decoder-tiny@step-1000")
        ('pico-lm/pico-decoder-tiny', 'step-1000')
    """
    found = HUB_NAME.fullmatch(str(path_or_repo))
    return (found["repo"], found["revision"]) if found and not Path(path_or_repo).exists() else None


def model_folder(path_or_repo: str | Path) -> Path:
    """Return the folder of a model; one on the Hub is fetched into its own cache first, without any pickle or code.

    Args:
        path_or_repo: A folder, or ``user/name``, or ``user/name@revision``.

    Raises:
        DataError: If there is no such folder, or the Hub does not give it.
        MissingExtraError: If it is on the Hub, and `huggingface_hub` is not installed.
    """
    name = hub_name(path_or_repo)
    if name is None:
        if not Path(path_or_repo).is_dir():
            raise DataError(
                f"{path_or_repo}: got no folder of that name, and no config.json in it; allowed: a model's folder, or "
                "a name on the Hub: user/name, or user/name@revision."
            )
        return Path(path_or_repo)
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtraError(
            "huggingface_hub", extra="hub", purpose=f"a model from the Hub ({path_or_repo})"
        ) from error
    repo, revision = name
    try:
        fetched = huggingface_hub.snapshot_download(
            repo, revision=revision, allow_patterns=list(SAFE_FILES), ignore_patterns=[IN_SUBFOLDERS]
        )
    except Exception as error:  # no such name, no permission, no network: the library has an error for each
        raise DataError(
            f"{path_or_repo}: there is no such folder here, and the Hub gives no such model "
            f"({type(error).__name__}: {_first_line(error)}). Allowed: a model's folder, user/name, user/name@revision."
        ) from error
    return Path(fetched)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "")
