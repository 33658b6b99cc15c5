"""Files of Pico-MAML and pico-train, read as what they say there.

A file is recognised by keys that only those systems have. Then

- what it leaves out has Pico's default, as far as the option is one here too: 12 layers, 12 heads, 4 of keys and
  values, rows of 2,048 tokens, and so on; the data set is Pico's unless the file or the command line names another;
- `smlmt.support_size`, of Pico-MAML's early files, is `k_shot` under its first name: so many masked places of each
  class to learn from;
- a task is drawn for each part of a step, as there, so `tasks_per_step` is `gradient_accumulation_steps`; it asks one
  question of each class, so `q_query` is 1;
- a section `checkpointing.learning_dynamics` means that they are kept, with every checkpoint, unless it says that there
  are no `layer_suffixes`; its validation rows are the run's own unless `eval_data` names others;
- `checkpointing.save_to_hf` pushes, as there, but to a private repository unless it is told otherwise, each checkpoint
  to a branch of its own; without a token, as without a network, the run goes on, and what was not pushed is held;
- keys of what there is not yet, or of the machines that its authors ran it on, have no effect, and one warning names
  them; any other unknown key is an error.

Source: the defaults in `src/config` of pico-train, and of its fork Pico-MAML. Where we differ: `smlmt.enabled` is false
where it is not said (there true, so that files meant for plain training train the hybrid); classes of a task are words
that were drawn for it, and `order` is exact; Paloma is measured only if its data set is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from xenoglot.config.layers import merged
from xenoglot.errors import OptionError

__all__ = ["DATASET", "PicoWarning", "translated"]

DATASET = "pico-lm/pretokenized-dolma"

WITHOUT_EFFECT = (
    "checkpointing.hf_checkpoint.collection_slug",
    "training.fabric.devices",
    "training.optimization.gradient_checkpointing",
)
"""Keys that only files of Pico's have; a section alone stands for an empty one."""
EARLY_SHOTS = "smlmt.support_size"
DYNAMICS_KEYS = frozenset(("batch_size", "eval_data", "layer_suffixes", "sequence_idx"))
"""All that its section of learning dynamics has; ours says in it whether they are kept."""

DEFAULT_PARTS = 128
DEFAULTS: Mapping[str, Any] = {
    "data": {"dataset": {"name": DATASET}, "dataloader": {"batch_size": 1024}},
    "model": {
        "d_model": 768,
        "n_layers": 12,
        "attention_n_heads": 12,
        "attention_n_kv_heads": 4,
        "activation_hidden_dim": 3072,
        "max_seq_len": 2048,
    },
    "training": {
        "max_steps": 200_000,
        "optimization": {
            "lr": 3e-4,
            "lr_scheduler": "linear_with_warmup",
            "lr_warmup_steps": 2500,
            "gradient_accumulation_steps": DEFAULT_PARTS,
        },
    },
    "smlmt": {
        "n_way": 32,
        "k_shot": 4,
        "q_query": 1,
        "inner_steps": 10,
        "inner_lr": 0.001,
        "max_token_freq": 1_000_000,
        "classifier_head": {"kind": "mlp", "num_layers": 2, "hidden_dim": 256, "dropout": 0.1, "init_method": "xavier"},
    },
    "monitoring": {"logging": {"log_every_n_steps": 100}},
}


class PicoWarning(UserWarning):
    """A file was read as Pico's, and some of its keys have no effect."""


def translated(said: Mapping[str, Any]) -> tuple[Mapping[str, Any], str | None]:
    """Return what a file of Pico's means here, and what to warn of; any other file as it is, and None.

    Args:
        said: Nested plain values.

    Raises:
        OptionError: If the early and the later name of one option are both there.

    Example:
        >>> layer, warning = translated({"training": {"fabric": {"devices": 4}}, "model": {"d_model": 96}})
        >>> layer["model"]["d_model"], layer["model"]["n_layers"], layer["training"]["fabric"]
        (96, 12, {})
        >>> warning
        "read as a file of Pico's, with Pico's defaults; without effect here: training.fabric.devices"
    """
    found = {path: value for path, value in _leaves(said, "") if path in WITHOUT_EFFECT}
    smlmt = _section(said, "smlmt")
    if not found and EARLY_SHOTS.rpartition(".")[2] not in smlmt and not _has_its_dynamics(said):
        return said, None
    ignored = list(found)
    if "training.fabric.devices" in found and "num_nodes" in _section(_section(said, "training"), "fabric"):
        ignored.append("training.fabric.num_nodes")
    own = _without(said, ignored, "")
    if "support_size" in smlmt:
        own["smlmt"] = _with_shots(own["smlmt"])
    if _has_its_dynamics(said):
        own["checkpointing"] = _with_dynamics(own["checkpointing"])
    return _on_defaults(own), (
        f"read as a file of Pico's, with Pico's defaults; without effect here: {', '.join(ignored) or 'nothing'}"
    )


def _with_shots(smlmt: Mapping[str, Any]) -> dict[str, Any]:
    later = {name: value for name, value in smlmt.items() if name != "support_size"}
    if "k_shot" in later:
        raise OptionError(EARLY_SHOTS, smlmt["support_size"], "nothing beside smlmt.k_shot, which means the same")
    return later | {"k_shot": smlmt["support_size"]}


def _has_its_dynamics(said: Mapping[str, Any]) -> bool:
    """Say whether there is a section of learning dynamics, empty or not, as Pico's files have it."""
    checkpointing = _section(said, "checkpointing")
    keys = _section(checkpointing, "learning_dynamics").keys()
    return "learning_dynamics" in checkpointing and keys <= DYNAMICS_KEYS


def _with_dynamics(checkpointing: Mapping[str, Any]) -> dict[str, Any]:
    section = dict(_section(checkpointing, "learning_dynamics"))
    wanted = section.get("layer_suffixes", True)
    if not wanted:
        del section["layer_suffixes"]
    return {**checkpointing, "learning_dynamics": {**section, "enabled": bool(wanted)}}


def _on_defaults(own: Mapping[str, Any]) -> dict[str, Any]:
    """Put a file's own values onto Pico's defaults."""
    data, optimization = _section(own, "data"), _section(_section(own, "training"), "optimization")
    tasks = {"tasks_per_step": optimization.get("gradient_accumulation_steps", DEFAULT_PARTS)}
    defaults = {**DEFAULTS, "smlmt": {**DEFAULTS["smlmt"], **tasks}}
    if data.get("text") is not None or data.get("samples") is not None:
        defaults["data"] = {name: section for name, section in DEFAULTS["data"].items() if name != "dataset"}
    return merged(defaults, own)


def _leaves(said: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield what is said by dotted path; an empty section as None."""
    for key, value in said.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _without(said: Mapping[str, Any], paths: list[str], prefix: str) -> dict[str, Any]:
    """Leave out what stands at some paths, and sections of which nothing else is left but those that are known."""
    kept: dict[str, Any] = {}
    for key, value in said.items():
        path = f"{prefix}{key}"
        if path in paths:
            continue
        if isinstance(value, Mapping):
            inner = _without(value, paths, f"{path}.")
            if inner or not value or path not in WITHOUT_EFFECT:
                kept[key] = inner
        else:
            kept[key] = value
    return kept


def _section(said: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = said.get(name)
    return section if isinstance(section, Mapping) else {}
