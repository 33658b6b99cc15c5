"""Configurations: round trips, overrides, and errors that name the key."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenoglot.config import default_config, from_mapping, options_by_path, to_mapping, with_overrides
from xenoglot.errors import OptionError, UnknownNameError
from xenoglot.languages.metalm_v1 import MetaLMv1


class Mine(MetaLMv1):
    """A user's own family, in no registry."""

    name = "mine"


@pytest.mark.parametrize("text", [None, "book.txt"])
def test_a_configuration_survives_json(text):
    config = default_config(text)
    assert from_mapping(json.loads(json.dumps(to_mapping(config)))) == config


def test_the_default_is_the_one_that_the_project_promises():
    config = default_config()
    expected = MetaLMv1(vocab_size=16, n_elements=4, element_length=8, error_rate=0.05, separator=True)
    assert config.languages == expected
    assert (config.model.max_seq_len, config.model.n_layers, config.model.d_model) == (256, 2, 64)
    text = default_config("book.txt")
    assert (text.model.n_layers, text.model.d_model, text.model.max_seq_len) == (4, 128, 64)
    assert (text.training.max_steps, text.data.dataloader.batch_size, text.languages) == (2000, 12, None)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_every_option_can_be_overridden_alone(data):
    config = default_config()
    options = options_by_path(config)
    path = data.draw(
        st.sampled_from(sorted(path for path, option in options.items() if option.kind is int and not option.is_list))
    )
    value = 1 if path == "model.attention_n_kv_heads" else (options[path].default or 16) * 2
    changed = to_mapping(with_overrides(config, {path: value}))
    expected = to_mapping(config)
    owner = expected
    *sections, key = path.split(".")
    for section in sections:
        owner = owner[section]
    owner[key] = value
    assert changed == expected


def test_another_family_starts_from_its_own_defaults():
    config = with_overrides(default_config(), {"languages.family": "v1", "languages.n_elements": 3})
    assert config.languages == MetaLMv1(n_elements=3)


def test_a_family_of_the_users_is_stored_by_its_path():
    config = with_overrides(default_config(), {"languages.family": f"{__name__}:Mine"})
    assert isinstance(config.languages, Mine)
    stored = to_mapping(config)
    assert stored["languages"]["family"] == f"{__name__}:Mine"
    assert from_mapping(stored) == config


@pytest.mark.parametrize(
    ("path", "value", "nearest"),
    [
        ("training.max_step", 3, "training.max_steps"),
        ("training.optimization.lr_warmup", 3, "training.optimization.lr_warmup_steps"),
        ("languages.vocabsize", 3, "languages.vocab_size"),
        ("modle.d_model", 3, "model"),
    ],
)
def test_unknown_keys_name_the_nearest(path, value, nearest):
    with pytest.raises(UnknownNameError, match=f"Did you mean '{nearest}'"):
        with_overrides(default_config(), {path: value})


def test_unknown_keys_in_a_mapping_name_the_nearest():
    stored = to_mapping(default_config())
    stored["model"]["n_layer"] = stored["model"].pop("n_layers")
    with pytest.raises(UnknownNameError, match=r"'model\.n_layer'. Did you mean 'model\.n_layers'"):
        from_mapping(stored)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("training.max_steps", 0),
        ("training.max_steps", "many"),
        ("training.optimization.lr", float("nan")),
        ("training.optimization.lr_scheduler", "sawtooth"),
        ("checkpointing.run_name", "a/b"),
        ("checkpointing.run_name", ".."),
        ("model.d_model", 65),
        ("model", 3),
    ],
)
def test_values_that_are_not_allowed_name_the_option(path, value):
    stored = to_mapping(default_config())
    owner = stored
    *sections, key = path.split(".")
    for section in sections:
        owner = owner[section]
    owner[key] = value
    with pytest.raises(OptionError, match=path.rpartition(".")[2]):
        from_mapping(stored)


def test_text_and_languages_exclude_each_other():
    both = to_mapping(default_config()) | {"data": {"text": "book.txt"}}
    with pytest.raises(OptionError, match="one thing to learn"):
        from_mapping(both)
    with pytest.raises(OptionError, match="one thing to learn"):
        from_mapping({})


def test_a_curriculum_changes_some_options_of_the_family():
    config = default_config()
    first, second = config.curriculum
    assert config.family_of(first) == MetaLMv1(
        vocab_size=16, n_elements=1, element_length=8, error_rate=0.0, separator=True
    )
    assert config.family_of(second).n_elements == 2
    assert with_overrides(config, {"languages.family": "markov"}).curriculum == ()


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            [{"until_step": 20}, {"until_step": 10}],
            "curriculum: got \\[20, 10\\]; allowed: stages whose until_step grows",
        ),
        ([{"until_step": 0}], "curriculum.0.until_step: got 0"),
        ([{"until_step": 9, "languages": {"n_element": 1}}], "Did you mean 'curriculum.0.languages.n_elements'"),
        ([{"until_step": 9, "languages": {"n_elements": 0}}], "languages.n_elements: got 0"),
        ([{"until_step": 9, "languages": {"vocab_size": 99}}], "at most the run's own 18 ids"),
    ],
)
def test_stages_that_cannot_be_are_refused(stages, message):
    mapping = to_mapping(default_config())
    with pytest.raises((OptionError, UnknownNameError), match=message):
        from_mapping({**mapping, "curriculum": stages})
