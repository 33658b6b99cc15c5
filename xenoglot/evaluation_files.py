"""The files of a run's evaluations: one for each step that was evaluated, under one name."""

from __future__ import annotations

import re
from pathlib import Path

from xenoglot.errors import OutputError

__all__ = ["OF_THE_WHOLE_RUN", "RESULTS", "drop_later_evaluations", "evaluation_file", "evaluation_files"]

RESULTS = "eval_results"
NAME = re.compile(r"step_(0|[1-9][0-9]*)\.json")
OF_THE_WHOLE_RUN = ("references.json", "samples.json")
"""The best learners' results, and rows token by token."""


def evaluation_file(run_folder: Path, step: int) -> Path:
    """Return where the rows of the evaluation after ``step`` steps are, or will be."""
    return run_folder / RESULTS / f"step_{step}.json"


def evaluation_files(run_folder: Path) -> dict[int, Path]:
    """Return a run's evaluations by step, in order; what else lies in the folder is none of them.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / RESULTS).mkdir()
        >>> for name in ("step_100.json", "step_20.json", "step_20_in-context.json", "references.json"):
        ...     (folder / RESULTS / name).touch()
        >>> list(evaluation_files(folder))
        [20, 100]
    """
    paths = (run_folder / RESULTS).glob("step_*.json")
    return dict(sorted((int(found[1]), path) for path in paths if (found := NAME.fullmatch(path.name))))


def drop_later_evaluations(run_folder: Path, *, after_step: int) -> None:
    """Remove what an attempt that did not last left of steps that are made again: its results are not the run's.

    Args:
        run_folder: The run's.
        after_step: How many steps the run goes on after. Of one that begins anew the best learners' rows go too, since
            they may be of other options.

    Raises:
        OutputError: If a file cannot be removed.
    """
    later = [path for step, path in evaluation_files(run_folder).items() if step > after_step]
    if after_step == 0:
        later += [run_folder / RESULTS / name for name in OF_THE_WHOLE_RUN]
    for path in later:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{path}: an earlier attempt's results cannot be removed: {error.strerror}.") from error
