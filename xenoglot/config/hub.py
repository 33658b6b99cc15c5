"""What a run can be told about the Hugging Face Hub, to which it pushes its checkpoints."""

from __future__ import annotations

import re
from dataclasses import dataclass

from xenoglot.errors import OptionError
from xenoglot.options import check_options, option

__all__ = ["HFCheckpointConfig"]

REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
LONGEST_NAME = 96
"""Characters of a repository's name, as the Hub allows them."""


@dataclass(frozen=True, kw_only=True)
class HFCheckpointConfig:
    """Where checkpoints are pushed to, and what of them. One repository belongs to one run.

    Raises:
        OptionError: If ``repo_id`` is no name of a repository.
    """

    repo_id: str | None = option(None, "repository on the Hub, NAMESPACE/NAME; it is made if it is not there")
    private: bool = option(True, "whether a repository that is made is private; one that is there stays as it is")
    newest_on_main: bool = option(
        True, "whether the newest checkpoint is the branch main's too, which is opened if no revision is named"
    )
    training_state: bool = option(
        False, "whether the optimizer's state is pushed too, so that training can go on from there"
    )
    wait_seconds: float = option(
        10.0, "how long the end of a run waits for what is still being pushed", unit="seconds", minimum=0
    )

    def __post_init__(self) -> None:
        check_options(self)
        name = self.repo_id
        if name is not None and (not REPOSITORY.fullmatch(name) or len(name) > LONGEST_NAME):
            allowed = f"NAMESPACE/NAME of letters, digits, '-', '_' and '.', at most {LONGEST_NAME} characters"
            raise OptionError("repo_id", name, allowed)
