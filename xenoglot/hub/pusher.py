"""Pushes what is held in the background of a run.

What fails is tried again after a second, then two, four, and so on, at most every five minutes, as long as the run
goes on. What the Hub refuses (a wrong token, no right to write) is not tried again by this process.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shlex
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from xenoglot.config import CheckpointingConfig, HFCheckpointConfig
from xenoglot.errors import MissingExtraError
from xenoglot.hub.attempts import Attempts, Failure, Pushed
from xenoglot.hub.outbox import UNPUSHED, Held, Outbox
from xenoglot.hub.sending import NO_TOKEN, Patience, has_token, send

__all__ = ["Pusher", "require_hub"]

SILENT_SECONDS = 1.0
"""A run's end may take so long without a word."""
LAST_ATTEMPTS = 3
"""After so many failures in a row nothing more is tried when the run is at its end."""


def require_hub(config: CheckpointingConfig) -> None:
    """Check, before anything else is done, that what pushes is installed, if it is asked for.

    Raises:
        MissingExtraError: If it is not.
    """
    if config.save_to_hf and importlib.util.find_spec("huggingface_hub") is None:
        raise MissingExtraError("huggingface_hub", extra="hub", purpose="--checkpointing.save_to_hf")


class Pusher:
    """Pushes a run's checkpoints while it goes on; a context manager, within the `RunLock`'s block.

    Nothing that happens here stops or slows the run. At its end it waits ``wait_seconds``, not after an error, and
    one line on stderr lists what was not pushed.

    Args:
        run_folder: The run's folder.
        config: Where checkpoints go.
        patience: How long is waited for what.
    """

    def __init__(self, run_folder: Path, config: HFCheckpointConfig, patience: Patience | None = None) -> None:
        self._config, self._patience = config, patience or Patience()
        self._outbox = Outbox(run_folder, str(config.repo_id), with_state=config.training_state)
        self._attempts = Attempts()
        self._changed = threading.Condition()
        self._n_saved = 0
        self._is_ending = self._is_stopped = self._has_given_up = False
        self._is_done = threading.Event()  # until Python 3.12, Ctrl-C during a thread's join makes it look ended
        self._thread = threading.Thread(target=self._run, name="xenoglot-hub", daemon=True)

    def take(self, step: int) -> None:
        """Hold a checkpoint that was just saved; it is pushed in the background."""
        with self._surviving(f"step {step} is not held"):
            self._outbox.hold(step)
        with self._changed:
            self._n_saved += 1
            self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def begin(self) -> None:
        """Begin to push, with what an earlier process left; what it left half-written has been cleaned up."""
        with self._surviving("earlier checkpoints are not held"):
            self._outbox.hold_the_rest()
        if not has_token():
            self._has_given_up = True
            self._warn(f"{NO_TOKEN}. Training goes on; every checkpoint is held, to be pushed later.")
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._thread.ident is None:
            return  # it did not begin
        try:
            if kind is None:
                self._end()
        finally:
            self._stop()
            self._is_done.wait()
            with self._surviving("what was not pushed is not listed"):
                self._list_the_rest()

    def _end(self) -> None:
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        repo_id, seconds = self._config.repo_id, self._config.wait_seconds
        if not self._is_done.wait(min(SILENT_SECONDS, seconds)) and seconds > SILENT_SECONDS:
            print(f"still pushing to {repo_id}: waiting for it, at most {seconds:g} s", file=sys.stderr)
            self._is_done.wait(seconds - SILENT_SECONDS)

    def _stop(self) -> None:
        with self._changed:
            self._is_ending = self._is_stopped = True
            self._changed.notify_all()
        self._attempts.stop()

    def _run(self) -> None:
        try:
            with self._surviving("pushing stopped"):
                self._push_until_the_end()
        finally:
            self._is_done.set()

    def _push_until_the_end(self) -> None:
        n_failures = 0
        while not self._is_stopped:
            seen = self._n_saved
            held = None if self._has_given_up else self._outbox.next()
            if held is None:
                if not self._is_more_saved(seen):
                    return
                continue
            result = send(held, self._outbox, self._config, self._attempts, self._patience)
            if isinstance(result, Pushed):
                n_failures = 0
                continue
            n_failures += 1
            if self._is_ending and n_failures >= LAST_ATTEMPTS:
                return
            self._has_given_up = result.is_final
            self._tell(held, result, n_failures)
            if not result.is_final:
                self._pause(self._patience.wait_seconds(n_failures))

    def _is_more_saved(self, seen: int) -> bool:
        """Wait until more checkpoints were saved than were seen, or until the end; say whether they were."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_ending or self._n_saved > seen)
            return self._n_saved > seen

    def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until the run begins to end: then comes the last chance."""
        with self._changed:
            was_ending = self._is_ending
            self._changed.wait_for(lambda: self._is_stopped or self._is_ending > was_ending, timeout=seconds)

    def _tell(self, held: Held, failure: Failure, n_failures: int) -> None:
        if self._is_ending:
            return  # what is left is listed
        if failure.is_final:
            self._warn(f"it refuses step {held.step} ({failure.reason}). Training goes on; nothing more is sent.")
        elif n_failures == 1:
            self._warn(f"step {held.step} is not pushed yet ({failure.reason}). Training goes on; it is tried again.")

    def _list_the_rest(self) -> None:
        if not has_token():
            self._outbox.note_reason(NO_TOKEN)
        rest, folder = self._outbox.unpushed(), self._outbox.run_folder
        if rest:
            steps = f"{'steps' if len(rest) > 1 else 'step'} {', '.join(map(str, rest))}"
            reason = next(iter(rest.values()))
            self._warn(
                f"{steps} not pushed ({reason}). Held in {folder / UNPUSHED}; to push them: "
                f"xenoglot push {shlex.quote(str(folder))}"
            )

    @contextlib.contextmanager
    def _surviving(self, what: str) -> Iterator[None]:
        """Go on whatever happens: a full disk here must not cost the run."""
        try:
            yield
        except Exception as error:
            self._warn(f"{what} ({type(error).__name__}: {error}). Training goes on.")

    def _warn(self, message: str) -> None:
        print(f"warning: {self._config.repo_id} on the Hub: {message}", file=sys.stderr)
