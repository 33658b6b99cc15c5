"""The contract of languages, over every registered family: a new file in languages/ is tested by itself."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
import typing
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xenoglot
from xenoglot.errors import DataError, OptionError, UnknownNameError
from xenoglot.languages import Family, MetaLMv1, MetaLMv2
from xenoglot.options import options_of

ALL = [xenoglot.languages.get(name) for name in xenoglot.languages.names()]


def _variants() -> Iterator[Family]:
    """Every family at a small vocabulary, and once with each other value of its switches and choices."""
    for family_class in ALL:
        small = {"vocab_size": 3} if any(declared.name == "vocab_size" for declared in options_of(family_class)) else {}
        family = family_class(**small)
        yield family
        for declared in options_of(family_class):
            others = [True, False] if declared.kind is bool else list(declared.choices)
            for value in others:
                if value != declared.default:
                    yield dataclasses.replace(family, **{declared.name: value})


each_family = pytest.mark.parametrize("family", list(_variants()), ids=repr)
few = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@each_family
@few
@given(seed=st.integers(0, 2**63 - 1), start=st.integers(0, 2**40), first=st.integers(1, 5), second=st.integers(1, 5))
def test_rows_do_not_depend_on_how_they_are_asked_for(
    family: Family, seed: int, start: int, first: int, second: int
) -> None:
    whole = family.batch(first + second, 40, seed, start=start, floor=True, threads=1)
    parts = [
        family.batch(first, 40, seed, start=start, floor=True),
        family.batch(second, 40, seed, start=start + first, floor=True),
    ]
    for name in ("inputs", "targets", "floor_nats"):
        np.testing.assert_array_equal(getattr(whole, name), np.concatenate([getattr(part, name) for part in parts]))


@each_family
def test_rows_do_not_depend_on_the_threads(family: Family) -> None:
    one = family.batch(40, 1100, 5, floor=True, threads=1)
    two = family.batch(40, 1100, 5, floor=True, threads=2)
    for name in ("inputs", "targets", "floor_nats"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


FINGERPRINT = """
import hashlib, xenoglot
collected = hashlib.sha256()
for name in xenoglot.languages.names():
    batch = xenoglot.languages.get(name)().batch(3, 50, seed=12, start=7, floor=True)
    for array in (batch.inputs, batch.targets, batch.floor_nats):
        collected.update(array.tobytes())
fingerprint = collected.hexdigest()
"""


def test_rows_do_not_depend_on_the_process() -> None:
    here: dict[str, str] = {}
    exec(FINGERPRINT, here)
    command = [sys.executable, "-c", FINGERPRINT + "print(fingerprint)"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == here["fingerprint"]


@each_family
def test_a_shorter_row_is_the_beginning_of_a_longer_one(family: Family) -> None:
    short, long = family.batch(4, 30, 3, floor=True), family.batch(4, 200, 3, floor=True)
    np.testing.assert_array_equal(short.inputs, long.inputs[:, :30])
    np.testing.assert_array_equal(short.targets, long.targets[:, :30])
    np.testing.assert_array_equal(short.floor_nats, long.floor_nats[:, :30])


@each_family
def test_a_row_of_a_batch_is_its_own_language_s_row(family: Family) -> None:
    batch = family.batch(3, 60, 8, start=5, floor=True)
    for i, language in enumerate(batch.languages):
        own = language.batch(1, 60, 8, start=5 + i, floor=True)
        np.testing.assert_array_equal(own.inputs[0], batch.inputs[i])
        np.testing.assert_array_equal(own.targets[0], batch.targets[i])
        np.testing.assert_array_equal(own.floor_nats[0], batch.floor_nats[i])
    drawn = family.draw(8, row=6)
    np.testing.assert_array_equal(drawn.predict(batch.inputs[1]), batch.languages[1].predict(batch.inputs[1]))


@each_family
def test_the_floor_is_the_prediction_of_the_true_language(family: Family) -> None:
    batch = family.batch(5, 80, 21, floor=True)
    later = family.batch(5, 80, 21)  # the floor asked for afterwards
    np.testing.assert_array_equal(later.floor_nats, batch.floor_nats)
    assert batch.floor_nats.dtype == np.float32
    assert batch.floor_nats.min() >= 0.0
    for i, language in enumerate(batch.languages):
        nats = language.nats(batch.inputs[i], batch.targets[i])
        np.testing.assert_allclose(nats, batch.floor_nats[i], rtol=1e-6, atol=1e-6)


@each_family
def test_ids_stay_within_the_vocabulary(family: Family) -> None:
    batch = family.batch(20, 300, 2)
    assert batch.inputs.dtype == batch.targets.dtype == np.int32
    assert batch.inputs.min() >= 0
    assert batch.inputs.max() < family.n_tokens
    assert batch.targets.min() >= 1, "MASK is never a target"
    assert set(np.unique(batch.targets)) >= set(range(1, 4)), "token V comes too"


@each_family
def test_predictions_are_laws(family: Family) -> None:
    language = family.draw(4)
    inputs = np.random.default_rng(0).integers(0, family.n_tokens, size=(6, 50))  # whatever is read, possible or not
    log_probs_BLV = language.predict(inputs)
    assert log_probs_BLV.shape == (6, 50, family.n_tokens)
    np.testing.assert_allclose(np.exp(log_probs_BLV).sum(axis=-1), 1.0, atol=1e-9)
    np.testing.assert_array_equal(language.predict(inputs[2]), log_probs_BLV[2])


@each_family
def test_the_evidence_for_all_possible_readings_sums_to_one(family: Family) -> None:
    language = family.draw(9)
    readings = np.array(list(itertools.product(range(family.n_tokens), repeat=4)))
    evidence = np.exp(language.input_log_probs(readings).sum(axis=1))
    assert evidence.sum() == pytest.approx(1.0, abs=1e-9)


@each_family
def test_what_is_drawn_follows_the_law(family: Family) -> None:
    """Counts of every target at every position, and the losses, against the law's own means and variances."""
    language = family.draw(17)
    batch = language.batch(4000, 12, 3, floor=True)
    log_probs_BLV = language.predict(batch.inputs)
    law_BLV = np.exp(log_probs_BLV)
    came_BLV = np.arange(family.n_tokens) == batch.targets[..., None]
    surplus_LV = (came_BLV - law_BLV).sum(axis=0)
    variance_LV = (law_BLV * (1 - law_BLV)).sum(axis=0)
    assert np.all(np.abs(surplus_LV) < 5 * np.sqrt(variance_LV) + 5)
    nats_BLV = np.where(law_BLV > 0, -np.where(law_BLV > 0, log_probs_BLV, 0.0), 0.0)
    entropy_BL = (law_BLV * nats_BLV).sum(axis=-1)
    spread_BL = (law_BLV * nats_BLV**2).sum(axis=-1) - entropy_BL**2
    assert abs((batch.floor_nats - entropy_BL).sum()) < 5 * np.sqrt(spread_BL.sum()) + 1e-2


@each_family
def test_no_global_random_state_is_touched(family: Family) -> None:
    global_state = np.random.mtrand._rand.get_state  # of the legacy generator behind numpy.random's functions
    before = global_state()[1].copy()
    family.batch(2, 20, 0, floor=True)
    family.draw(3).predict([1, 2])
    np.testing.assert_array_equal(before, global_state()[1])


@each_family
def test_one_token_rows_work(family: Family) -> None:
    batch = family.batch(2, 1, 0, floor=True)
    assert batch.inputs.shape == batch.targets.shape == batch.floor_nats.shape == (2, 1)


@pytest.mark.parametrize("family_class", ALL, ids=lambda family_class: family_class.name)
def test_every_option_refuses_what_lies_outside_its_limits(family_class: type[Family]) -> None:
    for declared in options_of(family_class):
        wrong: list[object] = ["nonsense" if declared.kind is not str else "no such choice", [1]]
        if declared.minimum is not None:
            wrong += [declared.minimum - 1, -float("inf")]
        if declared.maximum is not None:
            wrong += [declared.maximum * 2 + 1, float("nan")]
        for value in wrong:
            with pytest.raises(OptionError, match=declared.name):
                family_class(**{declared.name: typing.cast(typing.Any, value)})


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"length": 0}, "length"),
        ({"length": 2**31}, "length"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"start": -1}, "start"),
        ({"start": 2**63}, "start"),
        ({"start": 2**63 - 1, "batch_size": 2}, "start"),
        ({"batch_size": 10**30}, "batch_size"),
        ({"threads": 0}, "threads"),
    ],
)
def test_bad_arguments_name_the_option_the_value_and_what_is_allowed(arguments: dict[str, object], option: str) -> None:
    good: dict[str, typing.Any] = {"batch_size": 1, "length": 5, "seed": 0}
    with pytest.raises(OptionError, match=rf"^{option}: got .*; allowed: a whole number"):
        MetaLMv1().batch(**{**good, **arguments})


@pytest.mark.parametrize("family_class", ALL)
def test_the_last_rows_of_a_seed_are_rows_too(family_class: type[Family]) -> None:
    family = family_class()
    batch = family.batch(2, 12, seed=3, start=2**63 - 2, floor=True)
    assert np.isfinite(batch.floor_nats).all()
    assert np.array_equal(batch.inputs[1], family.batch(1, 12, seed=3, start=2**63 - 1).inputs[0])
    family.draw(3, 2**63 - 1)
    with pytest.raises(OptionError, match="row: got 9223372036854775808"):
        family.draw(3, 2**63)


@pytest.mark.parametrize(
    ("family_class", "declared"),
    [(each, declared) for each in ALL for declared in options_of(each) if declared.kind is float],
    ids=lambda given: given.name,
)
def test_the_extremes_that_an_option_allows_have_a_floor(family_class: type[Family], declared: typing.Any) -> None:
    for value in (declared.minimum, declared.maximum):
        if value is None or (value == declared.minimum and declared.exclusive_minimum):
            continue
        batch = family_class(**{declared.name: value}).batch(2, 40, seed=1, floor=True)
        assert np.isfinite(batch.floor_nats).all()
        assert (batch.floor_nats > -1e-6).all()  # but for rounding


@pytest.mark.parametrize("inputs", [[], [[]], [0.5], [-1], [99], [[[1]]]])
def test_unreadable_inputs_are_refused(inputs: list[object]) -> None:
    with pytest.raises(DataError, match="inputs: got"):
        MetaLMv2(vocab_size=4).draw(0).predict(typing.cast(typing.Any, inputs))


def test_families_are_found_by_name_alias_and_path() -> None:
    assert xenoglot.languages.get("metalm-v1") is MetaLMv1
    assert xenoglot.languages.get("v2") is MetaLMv2
    assert xenoglot.languages.get("xenoglot.languages.metalm_v1:MetaLMv1") is MetaLMv1
    with pytest.raises(UnknownNameError, match="Did you mean 'markov'"):
        xenoglot.languages.get("markof")
    assert {"MetaLMv1", "Markov", "get"} <= set(dir(xenoglot.languages))
    with pytest.raises(AttributeError, match=r"no attribute 'MetaLMV1'.* Did you mean 'MetaLMv1'"):
        xenoglot.languages.MetaLMV1  # noqa: B018
