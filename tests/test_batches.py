"""What training reads, as a function of (seed, step)."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from xenoglot.batches import BatchSource, Part, TextBatches
from xenoglot.errors import OptionError
from xenoglot.language_batches import LanguageBatches, Stage
from xenoglot.languages import MetaLMv1, get, names
from xenoglot.text import ByteText

FAMILY = MetaLMv1(vocab_size=7, n_elements=3, element_length=4)
EASY = MetaLMv1(vocab_size=7, n_elements=1, element_length=4, error_rate=0.0)
STAGES = (
    Stage(until_step=2, family=EASY, length=8, batch_size=12),
    Stage(until_step=3, family=FAMILY, length=12),
)
STAGED = LanguageBatches(family=FAMILY, batch_size=24, length=20, seed=9, stages=STAGES)
POOLED = LanguageBatches(family=FAMILY, batch_size=24, length=20, seed=9, n_languages=5)
TEXT = TextBatches(text=ByteText(bytes(range(250)), length=5), batch_size=24, seed=1)
SOURCES = {"staged": STAGED, "pooled": POOLED, "text": TEXT}


def test_steps_are_consecutive_rows_of_one_seed() -> None:
    batches = LanguageBatches(family=FAMILY, batch_size=4, length=20, seed=9)
    whole = FAMILY.batch(12, 20, seed=9)
    np.testing.assert_array_equal(np.concatenate([batches(step).inputs_BT for step in range(3)]), whole.inputs)
    np.testing.assert_array_equal(batches(2).targets_BT, whole.targets[8:])


def test_stages_come_first_and_have_rows_of_their_own() -> None:
    plain = LanguageBatches(family=FAMILY, batch_size=24, length=20, seed=9)
    assert [tuple(STAGED(step).inputs_BT.shape) for step in range(5)] == [
        (12, 8),
        (12, 8),
        (24, 12),
        (24, 20),
        (24, 20),
    ]
    assert [STAGED.batch_size(step) for step in range(4)] == [12, 12, 24, 24]
    np.testing.assert_array_equal(STAGED(1).inputs_BT[:, 1:], STAGED(1).targets_BT[:, :-1])  # no noise
    np.testing.assert_array_equal(STAGED(3).inputs_BT, plain(3).inputs_BT)
    assert not np.array_equal(STAGED(2).inputs_BT, plain(2).inputs_BT[:, :12])


@pytest.mark.parametrize("name", SOURCES)
@settings(max_examples=15, deadline=None)
@given(step=st.integers(0, 4) | st.integers(10**9, 10**9 + 50), count=st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_parts_are_the_step_cut_up(name: str, step: int, count: int) -> None:
    batches = SOURCES[name]
    parts = [batches(step, Part(index=index, count=count)) for index in range(count)]
    whole = batches(step)
    assert len(whole.inputs_BT) == batches.batch_size(step)
    assert {len(part.inputs_BT) for part in parts} == {batches.batch_size(step) // count}
    torch.testing.assert_close(torch.cat([part.inputs_BT for part in parts]), whole.inputs_BT, rtol=0, atol=0)
    torch.testing.assert_close(torch.cat([part.targets_BT for part in parts]), whole.targets_BT, rtol=0, atol=0)


@pytest.mark.parametrize("name", SOURCES)
def test_a_late_step_is_like_any_other_and_never_an_earlier_one(name: str) -> None:
    batches = SOURCES[name]
    late, again, next_one = batches(10**9), batches(10**9), batches(10**9 + 1)
    torch.testing.assert_close(late.inputs_BT, again.inputs_BT, rtol=0, atol=0)
    assert not torch.equal(late.inputs_BT, next_one.inputs_BT)
    assert int(late.inputs_BT.max()) < batches.n_tokens


def test_parts_that_cannot_be_equal_are_refused() -> None:
    with pytest.raises(OptionError, match="batch_size: got 24; allowed: a multiple of 5"):
        TEXT(0, Part(index=0, count=5))
    for index, count in [(2, 2), (-1, 2), (0, 0)]:
        with pytest.raises(OptionError, match="part"):
            Part(index=index, count=count)


@pytest.mark.parametrize("name", names())
def test_every_family_has_pools(name: str) -> None:
    family = get(name)()
    batch = family.batch(6, 12, seed=3, start=40, n_languages=2, floor=True)
    later = family.batch(2, 12, seed=3, start=44, n_languages=2)
    np.testing.assert_array_equal(batch.inputs[4:], later.inputs)
    probes = [family.draw(3, row).batch(1, 12, seed=3, start=40) for row in range(2)]
    assert any(np.array_equal(batch.inputs[:1], probe.inputs) for probe in probes)
    np.testing.assert_allclose(
        batch.floor_nats, [batch.languages[i].nats(batch.inputs[i], batch.targets[i]) for i in range(6)], atol=1e-5
    )


def test_a_pool_has_its_languages_and_no_others_each_as_often_and_never_the_same_row() -> None:
    n_languages, n_rows = 7, 2100
    own = {FAMILY.draw(9, row).flat.tobytes(): row for row in range(n_languages)}
    batch = FAMILY.batch(n_rows, 30, seed=9, n_languages=n_languages)
    counts = Counter(own[language.flat.tobytes()] for language in batch.languages)
    assert stats.chisquare([counts[row] for row in range(n_languages)]).pvalue > 1e-4
    assert len(np.unique(batch.inputs, axis=0)) > 0.99 * n_rows
    with pytest.raises(OptionError, match="n_languages"):
        FAMILY.batch(1, 2, seed=0, n_languages=0)


def test_a_step_has_a_name_that_says_how_to_make_it_again() -> None:
    batches = LanguageBatches(family=FAMILY, batch_size=32, length=8, seed=17)
    assert batches.identity(10) == "rows 320 to 351 of seed 17 of metalm-v1"
    assert POOLED.identity(0) == "rows 0 to 23 of seed 9 of metalm-v1, 5 languages"
    assert TEXT.identity(1) == "rows 24 to 47 of seed 1 of text"
    first, last, seed, name = STAGED.identity(1).removeprefix("rows ").replace(" to ", " of seed ").split(" of ")[0:4]
    assert (first, last.removeprefix("seed ")) == ("12", "23")
    again = EASY.batch(12, 8, seed=int(seed.removeprefix("seed ")), start=12)
    np.testing.assert_array_equal(STAGED(1).inputs_BT, again.inputs)
    assert name == "metalm-v1, stage 1"


def test_fingerprints_are_json_and_differ_where_rows_do() -> None:
    def languages(**changes: object) -> BatchSource:
        return LanguageBatches(**{"family": FAMILY, "batch_size": 24, "length": 20, "seed": 9, **changes})  # type: ignore[arg-type]

    def text(content: bytes = bytes(range(250)), length: int = 5, **changes: object) -> BatchSource:
        return TextBatches(**{"text": ByteText(content, length=length), "batch_size": 24, "seed": 1, **changes})  # type: ignore[arg-type]

    sources = [
        *(languages(), languages(family=EASY), languages(batch_size=12), languages(length=21), languages(seed=8)),
        *(languages(n_languages=5), languages(n_languages=6), languages(stages=STAGES), languages(stages=STAGES[:1])),
        *(text(), text(bytes(range(1, 251))), text(length=6), text(batch_size=12), text(seed=2)),
    ]
    prints = [json.dumps(source.fingerprint(), sort_keys=True) for source in sources]
    assert len(set(prints)) == len(sources)
    assert json.dumps(languages().fingerprint(), sort_keys=True) == prints[0]
    assert json.dumps(text().fingerprint(), sort_keys=True) == prints[9]
    assert json.loads(json.dumps(STAGED.fingerprint())) == STAGED.fingerprint()
