"""One attempt to push: a process that is given a time, and can be ended at any moment."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Any

from xenoglot.hub import uploading

__all__ = ["Attempts", "Failure", "Pushed"]

STOPPED = "it was stopped before it was done"
SURROUNDINGS = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONWARNINGS": "ignore"}


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What came of an attempt: the Hub has it.

    Attributes:
        commit: The commit's id there.
    """

    commit: str


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What came of an attempt: the Hub does not have it.

    Attributes:
        reason: Why, in one line, without anything secret.
        is_final: Whether trying again is in vain.
    """

    reason: str
    is_final: bool = False


class Attempts:
    """Makes attempts, one at a time; another thread may stop them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._is_stopped = False

    def make(self, request: dict[str, Any], *, limit_seconds: float) -> Pushed | Failure:
        """Send one checkpoint, in at most so much time.

        Args:
            request: The arguments of `uploading.upload`.
            limit_seconds: After this the process is ended.
        """
        try:
            process = self._started()
        except OSError as error:
            return Failure(reason=f"no process can be started: {error.strerror}")
        if process is None:
            return Failure(reason=STOPPED)
        is_late = threading.Event()

        def end() -> None:
            is_late.set()
            process.kill()

        limit = threading.Timer(limit_seconds, end)
        limit.daemon = True
        limit.start()
        try:
            with process:
                answer = _asked(process, request)
        finally:
            limit.cancel()
        if answer is None and is_late.is_set():
            return Failure(reason=f"no end after {limit_seconds:,.0f} s")
        if answer is None:
            return Failure(reason=STOPPED if self._is_stopped else "the process that sends it died")
        if "commit" in answer:
            return Pushed(commit=answer["commit"])
        return Failure(reason=uploading.redacted(answer["reason"]), is_final=answer["is_final"])

    def stop(self) -> None:
        """End what is being tried, and try nothing more."""
        with self._lock:
            self._is_stopped = True
            if self._process is not None:
                self._process.kill()

    def _started(self) -> subprocess.Popen[str] | None:
        with self._lock:
            if self._is_stopped:
                return None
            # In a session of its own, so that Ctrl-C reaches the run alone; -P: no file of the current folder is run.
            self._process = subprocess.Popen(
                [sys.executable, "-P", uploading.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                env={**os.environ, **SURROUNDINGS, "PYTHONIOENCODING": "utf-8"},
                start_new_session=True,
            )
            return self._process


def _asked(process: subprocess.Popen[str], request: dict[str, Any]) -> dict[str, Any] | None:
    """Return the answer to a request; None if the process ends without one."""
    if process.stdin is None or process.stdout is None:
        raise ValueError("the process has no pipes")
    try:
        process.stdin.write(f"{json.dumps(request)}\n")
        process.stdin.flush()
        *_, last = ["", *process.stdout]
        answer: dict[str, Any] = json.loads(last)
    except (OSError, ValueError):
        return None
    finally:
        with contextlib.suppress(OSError):  # it may have died with the request unread
            process.stdin.close()
    return answer
