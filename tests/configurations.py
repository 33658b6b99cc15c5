"""Random valid configurations, and one that is tiny: what several test files need."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from hypothesis import reject
from hypothesis import strategies as st

from xenoglot import languages
from xenoglot.config import RunConfig, from_mapping, to_mapping
from xenoglot.errors import OptionError
from xenoglot.options import Option, options_of

TINY = {
    "model.d_model": 16,
    "model.n_layers": 1,
    "model.attention_n_heads": 2,
    "model.attention_n_kv_heads": 2,
    "model.activation_hidden_dim": 16,
    "model.max_seq_len": 16,
    "data.dataloader.batch_size": 2,
    "training.max_steps": 4,
    "training.optimization.lr_warmup_steps": 1,
    "evaluation.n_languages": 4,
}
TINY_FLAGS = [word for path, value in TINY.items() for word in (f"--{path}", str(value))]

LARGEST = 40
SCHEDULES: list[tuple[str, Any]] = [("every_n_steps", None), ("n_log_spaced", None), ("steps", [])]
"""Of these, one is given at most."""
AWKWARD_WORDS = ("none", "on", "1e-4", "true", "7", "-", "a: b", "#", "'", '"', "é ü", "{x}", "a\nb", "~", " ", "--x")
ANY_WORDS = st.sampled_from(AWKWARD_WORDS) | st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
HAVE_LAWS = ("context-tree", "markov")
"""Families that always have a best learner."""
FLAG_WORDS = ANY_WORDS.filter(lambda word: word.lower() != "none")  # to an option, that is no text


def values_of(declared: Option, words: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Every value that an option allows, if it is not too large."""
    low = 0 if declared.minimum is None else declared.minimum
    high = low + LARGEST if declared.maximum is None else min(declared.maximum, low + LARGEST)
    values: st.SearchStrategy[Any]
    if declared.is_list:
        each = (
            st.sampled_from(["lm_head", "mlp.down_proj"]) if declared.kind is str else st.integers(int(low), int(high))
        )
        return st.lists(each, max_size=3)
    if declared.choices:
        values = st.sampled_from(declared.choices)
    elif declared.kind is bool:
        values = st.booleans()
    elif declared.kind is int:
        values = st.integers(int(low), int(high))
    elif declared.kind is float:
        values = st.floats(low, high, exclude_min=declared.exclusive_minimum)
    else:
        values = words
    return st.none() | values if declared.optional else values


def section_values(draw: st.DrawFn, section: type[Any], words: st.SearchStrategy[str]) -> dict[str, Any]:
    """Draw all options of a section, and of the sections in it."""
    values = {known.name: draw(values_of(known, words)) for known in options_of(section)}
    for name, kind in typing.get_type_hints(section).items():
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            values[name] = section_values(draw, kind, words)
    return values


@st.composite
def configurations(draw: st.DrawFn, words: st.SearchStrategy[str] = ANY_WORDS) -> RunConfig:
    """Draw a configuration with any options of any family, or of a text."""
    mapping = section_values(draw, RunConfig, words)
    heads, groups = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    mapping["model"] |= {
        "attention_n_kv_heads": heads,
        "attention_n_heads": heads * groups,
        "d_model": 2 * heads * groups * draw(st.integers(1, 9)),
        "from_pretrained": None,  # sizes would be read from there: tests/test_train_from_pretrained.py
    }
    mapping["evaluation"]["paloma"]["max_length"] = None
    fabric, parts = mapping["training"]["fabric"], mapping["training"]["optimization"]["gradient_accumulation_steps"]
    n_parts = fabric["num_devices"] * fabric["num_nodes"] * parts
    mapping["data"]["dataloader"]["batch_size"] = n_parts * draw(st.integers(1, 5))
    tasks = mapping["smlmt"]
    tasks |= {"tasks_per_step": n_parts * draw(st.integers(1, 5)), "max_token_freq": None}
    tasks["learn_inner_lr"] = "none" if tasks["order"] == "reptile" else tasks["learn_inner_lr"]
    fabric["strategy"] = "ddp" if tasks["enabled"] else fabric["strategy"]
    mapping["checkpointing"]["run_name"] = draw(st.none() | st.sampled_from(["nothing", "1e-4", "a b", "ü", "-"]))
    repository = draw(st.none() | st.sampled_from(["me/model", "a-team/x_1.5"]))
    mapping["checkpointing"]["hf_checkpoint"]["repo_id"] = repository
    mapping["checkpointing"]["save_to_hf"] &= repository is not None
    mapping["checkpointing"]["learning_dynamics"] |= {
        "enabled": False,
        **dict(draw(st.permutations(SCHEDULES))[:2]),
    }
    family = draw(st.none() | st.sampled_from(languages.names()))
    mapping["data"] |= {"samples": None, "text": draw(words) if family is None else None}
    mapping["data"]["dataset"]["name"] = None
    if family is None:
        mapping["data"]["n_languages"] = None
    else:
        mapping["data"]["tokenizer"]["name"] = tasks["sentences"] = None
        mapping |= {"languages": {"family": family} | section_values(draw, languages.get(family), words)}
        ends = sorted(draw(st.sets(st.integers(1, 10**6), max_size=3)))
        mapping["curriculum"] = [
            {"until_step": end, "length": draw(st.none() | st.integers(1, 99)), "batch_size": n_parts} for end in ends
        ]
    if family not in HAVE_LAWS or mapping["data"]["n_languages"] is not None:
        mapping["data"]["targets"] = "words"
    try:
        return from_mapping(mapping)
    except OptionError as error:
        if error.option.startswith("languages"):
            reject()  # a table of this order would be too large
        raise


def flags_of(config: RunConfig) -> list[str]:
    """Say everything about a configuration in options of the command line; a curriculum cannot be said."""
    written = []

    def walk(section: dict[str, Any], prefix: str) -> None:
        for key, value in section.items():
            if isinstance(value, dict):
                walk(value, f"{prefix}{key}.")
            else:
                word = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
                word = ",".join(map(str, value)) if isinstance(value, list) else word
                written.append(f"--{prefix}{key}={word}")

    mapping = to_mapping(config)
    mapping.pop("curriculum")
    if mapping["languages"] is None:
        mapping.pop("languages")
    walk(mapping, "")
    return written
