"""What pages take from the code when they are built, so that they cannot disagree with it.

A fenced block of the kind ``options`` becomes a table, one of the kind ``command`` what ``--help`` prints:

    ```options
    languages.metalm-v1
    ```

names a family; ``predictors.NAME`` a predictor; ``config.SECTION`` a section of a run's configuration by its path, and
``config`` all sections, each under its own heading.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import typing
from collections.abc import Iterator
from unittest import mock

from xenoglot import languages, predictors
from xenoglot.cli import main
from xenoglot.config import RunConfig
from xenoglot.options import Option, options_of

__all__ = ["help_of", "options_table", "with_generated_parts"]

BLOCK = re.compile(r"^```(options|command)\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
HELP_COLUMNS = "100"


def with_generated_parts(markdown: str) -> str:
    """Replace the blocks of a page that stand for what the code says."""
    return BLOCK.sub(lambda found:


_GENERATORS = {"options": options_table, "command": help_of}
