"""Checkpoints to the Hugging Face Hub, as revisions ``step-N`` of one repository; training never waits for it.

A checkpoint that is saved is at once held: its files are linked into the run's folder `unpushed/step_N`, where no
retention reaches them. What is there is what was not pushed; each goes when the Hub has it. Whatever kills the run,
the next one, or `xenoglot push`, finds them there. They take room only when the checkpoint itself is gone: then that of
its weights.

A process of its own talks to the Hub, for one checkpoint at a time: a server that hangs, a library that leaks or
crashes, takes nothing from the training process, and it can be ended at any moment.
"""

from xenoglot.hub.attempts import Attempts, Failure, Pushed
from xenoglot.hub.outbox import LEDGER, UNPUSHED, Held, Outbox, held_folder, held_steps
from xenoglot.hub.pusher import Pusher, require_hub
from xenoglot.hub.sending import NO_TOKEN, Patience, has_token, push_all

__all__ = [
    "LEDGER",
    "NO_TOKEN",
    "UNPUSHED",
    "Attempts",
    "Failure",
    "Held",
    "Outbox",
    "Patience",
    "Pushed",
    "Pusher",
    "has_token",
    "held_folder",
    "held_steps",
    "push_all",
    "require_hub",
]
