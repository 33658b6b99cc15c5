"""Ready configurations by name: YAML files in `xenoglot/recipes/`, each a run that someone wants.

To add one, put a file there. Its first line, a comment, says in one sentence what it is.
"""

from __future__ import annotations

from pathlib import Path

from xenoglot.errors import UnknownNameError

__all__ = ["path", "summaries"]

FOLDER = Path(__file__).parents[1] / "recipes"
ENDING = ".yaml"


def path(name: str) -> Path:
    """Return a recipe's file.

    Raises:
        UnknownNameError: With the nearest known name.

    Example:
        >>> path("markov").name
        'markov.yaml'
    """
    known = summaries()
    if name not in known:
        raise UnknownNameError("recipe", name, known, "A file of your own is given by --config_path.")
    return FOLDER / f"{name}{ENDING}"


def summaries() -> dict[str, str]:
    """Return every recipe's name with the sentence that says what it is."""
    return {
        file.stem: file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        for file in sorted(FOLDER.glob(f"*{ENDING}"))
    }
