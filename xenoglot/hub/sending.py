"""Sends what is held, one checkpoint after another; how long is waited for what."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from xenoglot.config.hub import HFCheckpointConfig
from xenoglot.hub.attempts import Attempts, Failure, Pushed
from xenoglot.hub.outbox import Held, Outbox, revision_of

__all__ = ["NO_TOKEN", "Patience", "has_token", "push_all", "send"]

NO_TOKEN = "there is no token: put HF_TOKEN into the environment or into a file .env"
SLOWEST_BYTES_PER_SECOND = 200_000.0


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long is waited for what, and how often it is tried.

    Attributes:
        first_wait_seconds: Between the first attempt and the second; twice as long after each further one.
        longest_wait_seconds: Between two attempts.
        attempt_seconds: An attempt may take so long, and besides what its bytes take at 200 kB a second.
        n_attempts: How often `push_all` tries one checkpoint.
    """

    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 300.0
    attempt_seconds: float = 300.0
    n_attempts: int = 5

    def wait_seconds(self, n_failures: int) -> float:
        """Return how long to wait after so many failures in a row.

        Example:
            >>> [Patience().wait_seconds(n) for n in (1, 2, 3, 9, 10, 5000)]
            [1.0, 2.0, 4.0, 256.0, 300.0, 300.0]
        """
        return float(min(self.first_wait_seconds * 2 ** min(n_failures - 1, 60), self.longest_wait_seconds))

    def limit_seconds(self, n_bytes: int) -> float:
        """Return how long an attempt to send so many bytes may take.

        Example:
            >>> Patience().limit_seconds(60_000_000)
            600.0
        """
        return self.attempt_seconds + n_bytes / SLOWEST_BYTES_PER_SECOND


def has_token() -> bool:
    """Say whether there is a token, in the environment or left by the client's own login."""
    if os.environ.get("HF_TOKEN", "").strip():
        return True
    from huggingface_hub import get_token

    return bool(get_token())


def send(
    held: Held, outbox: Outbox, config: HFCheckpointConfig, attempts: Attempts, patience: Patience
) -> Pushed | Failure:
    """Try once to push a checkpoint, and write down what came of it.

    Raises:
        OutputError: If that cannot be written.
    """
    damage = outbox.set_aside_if_damaged(held)
    if damage is not None:
        outbox.note_failed(held, damage)
        return Failure(reason=damage)
    is_newest = held.step >= max([*outbox.unpushed(), *outbox.pushed_steps()])
    request = {
        "folder": str(held.folder),
        "repo_id": config.repo_id,
        "revision": revision_of(held.step),
        "private": config.private,
        "is_newest": config.newest_on_main and is_newest,
    }
    result = attempts.make(request, limit_seconds=patience.limit_seconds(held.n_bytes))
    if isinstance(result, Pushed):
        outbox.note_pushed(held, result.commit)
    else:
        outbox.note_failed(held, result.reason)
    return result


def push_all(
    outbox: Outbox,
    config: HFCheckpointConfig,
    attempts: Attempts,
    patience: Patience,
    tell: Callable[[Held, Pushed | Failure, float], None],
) -> bool:
    """Push everything that is held, and say whether all went well; the first that cannot be pushed ends it.

    Args:
        outbox: What is held.
        config: Where it goes.
        attempts: Makes them.
        patience: How often each is tried, and how long is waited in between.
        tell: Is told of every attempt, and how many seconds it took.

    Raises:
        OutputError: If what came of it cannot be written down.
    """
    n_failures = 0
    while (held := outbox.next()) is not None:
        started = time.perf_counter()
        result = send(held, outbox, config, attempts, patience)
        tell(held, result, time.perf_counter() - started)
        if isinstance(result, Pushed):
            n_failures = 0
            continue
        n_failures += 1
        if result.is_final or n_failures == patience.n_attempts:
            return False
        time.sleep(patience.wait_seconds(n_failures))
    return True
