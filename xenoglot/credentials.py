"""The keys of Hugging Face and Weights & Biases, from a file named .env in the current folder.

Only these two are read, so that nothing else of the file reaches the run. They go into the process's environment, where
both libraries look for them, and nowhere else: no configuration, log or file of a run ever holds them.
"""

from __future__ import annotations

import os
from pathlib import Path

import dotenv

from xenoglot.errors import ConfigFileError

__all__ = ["NAMES", "read_credentials"]

NAMES = ("HF_TOKEN", "WANDB_API_KEY")
FILE = ".env"


def read_credentials(folder: str | os.PathLike[str] = ".") -> tuple[str, ...]:
    """Put the keys in a folder's .env file into the environment, as far as they are not there yet.

    Args:
        folder: Where the file is, if there is one.

    Returns:
        The names of the keys that were found, never their values.

    Raises:
        ConfigFileError: If there is a file that cannot be read.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return ()
    try:
        given = dotenv.dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        # without the cause: a decoding error carries the file's bytes
        raise ConfigFileError(path, f"the file cannot be read as text ({type(error).__name__}).") from None
    found = tuple(name for name in NAMES if given.get(name))
    for name in found:
        os.environ.setdefault(name, str(given[name]))
    return found
