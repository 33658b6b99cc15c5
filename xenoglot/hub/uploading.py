"""The process that sends one checkpoint to the Hub: a program of its own, which needs nothing of the package.

It reads one line of JSON, what to send where, and answers with one: the commit, or why there is none. Standard input
stays open as long as somebody waits for the answer; when it ends, so does the process. The token is found by
`huggingface_hub` as always (HF_TOKEN, or what its login left), and no word of an answer holds it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
from pathlib import Path

__all__ = ["describe", "is_final", "redacted", "upload"]

SILENCE_SECONDS = 60.0
"""How long a connection may be silent before it counts as broken."""
LONGEST_REASON = 300
MANIFEST = "manifest.json"
OF_THE_HUB = (".gitattributes",)
"""Files that every branch has; the rest of what it began with, main's, is not of this checkpoint."""
PASSING_STATUSES = (408, 409, 412, 423, 425, 429)
"""Refusals by HTTP status that may be over at the next attempt: time-outs, conflicts, limits of rate."""
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
LIKE_A_TOKEN = re.compile(r"hf_\w{6,}|(?<=Bearer )\S+")
SIGNED_QUERY = re.compile(r"(?<=\w)\?[^\s'\")]+=[^\s'\")]+")


def main() -> None:
    """Answer one request."""
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    with contextlib.suppress(AttributeError, OSError):
        os.nice(10)  # whoever trains goes first
    try:
        answer: dict[str, str | bool] = {"commit": upload(**request)}
    except Exception as error:
        answer = {"reason": describe(error), "is_final": is_final(error)}
    print(json.dumps(answer), flush=True)
    os._exit(0)  # threads of the client's may still hang


def upload(folder: str, repo_id: str, revision: str, *, private: bool, is_newest: bool) -> str:
    """Send a folder as one commit to a branch, and return the commit's id.

    Args:
        folder: Everything in it is sent.
        repo_id: The repository, which is made if it is not there.
        revision: The branch, which is made if it is not there, and has nothing else afterwards.
        private: Whether a repository that is made is private.
        is_newest: Whether the model goes to the branch main too, without folders and without the manifest that counts
            them; nothing is deleted there.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, utils

    session = utils.get_session()  # type: ignore[attr-defined, unused-ignore]
    session.timeout = SILENCE_SECONDS  # of clients before 1.0 it does nothing: there the attempt's limit must do
    api = HfApi()
    api.create_repo(repo_id, private=private, exist_ok=True)
    api.create_branch(repo_id, branch=revision, exist_ok=True)
    names = sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())

    def commit(branch: str, names: list[str], deleted: set[str]) -> str:
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=f"{folder}/{name}") for name in names),
            *(CommitOperationDelete(path_in_repo=name) for name in sorted(deleted)),
        ]
        message = f"Checkpoint {revision}"
        return str(api.create_commit(repo_id, operations, commit_message=message, revision=branch).oid)

    inherited = set(api.list_repo_files(repo_id, revision=revision)) - {*names, *OF_THE_HUB}
    oid = commit(revision, names, inherited)
    if is_newest:
        commit("main", [name for name in names if "/" not in name and name != MANIFEST], set())
    return oid


def is_final(error: Exception) -> bool:
    """Say whether trying again is in vain: the Hub refused, or what was to be sent is not allowed."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return 400 <= status < 500 and status not in PASSING_STATUSES
    is_garbled_answer = isinstance(error, json.JSONDecodeError) or type(error).__name__ == "JSONDecodeError"
    return isinstance(error, ValueError) and not is_garbled_answer


def describe(error: Exception) -> str:
    """Say in one line what went wrong, without anything that is secret."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    said = " ".join(str(error).split())
    words = f"{type(error).__name__}: {said}" if status is None else f"HTTP {status}: {said}"
    return redacted(words)[:LONGEST_REASON]


def redacted(text: str) -> str:
    """Leave out tokens, and what signs addresses.

    Example:
        >>> redacted("401 for Bearer hf_abcdefgh at https://hub/x?sig=1&y=2")
        '401 for Bearer *** at https://hub/x?***'
    """
    for token in _tokens():
        text = text.replace(token, "***")
    return SIGNED_QUERY.sub("?***", LIKE_A_TOKEN.sub("***", text))


def _tokens() -> list[str]:
    known = [os.environ.get(name, "").strip() for name in TOKEN_VARIABLES]
    with contextlib.suppress(Exception):  # a token file that cannot be read has nothing to hide here
        from huggingface_hub import get_token

        known.append(get_token() or "")
    return [token for token in known if token]


def _end_with_standard_input() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
