"""What training reads, as a function of (seed, step)."""

from __future__ import annotations

import numpy as np

from xenoglot.batches import LanguageBatches, Stage
from xenoglot.languages import MetaLMv1

FAMILY = MetaLMv1(vocab_size=7, n_elements=3, element_length=4)


def test_steps_are_consecutive_rows_of_one_seed() -> None:
    batches = LanguageBatches(family=FAMILY, batch_size=4, length=20, seed=9)
    whole = FAMILY.batch(12, 20, seed=9)
    np.testing.assert_array_equal(np.concatenate([batches(step).inputs_BT for step in range(3)]), whole.inputs)
    np.testing.assert_array_equal(batches(2).targets_BT, whole.targets[8:])


def test_stages_come_first_and_have_rows_of_their_own() -> None:
    easy = MetaLMv1(vocab_size=7, n_elements=1, element_length=4, error_rate=0.0)
    stages = (Stage(until_step=2, family=easy, length=8), Stage(until_step=3, family=FAMILY, length=12))
    plain = LanguageBatches(family=FAMILY, batch_size=4, length=20, seed=9)
    staged = LanguageBatches(family=FAMILY, batch_size=4, length=20, seed=9, stages=stages)
    assert [staged(step).inputs_BT.shape[1] for step in range(5)] == [8, 8, 12, 20, 20]
    np.testing.assert_array_equal(staged(1).inputs_BT[:, 1:], staged(1).targets_BT[:, :-1])  # no noise
    np.testing.assert_array_equal(staged(3).inputs_BT, plain(3).inputs_BT)
    assert not np.array_equal(staged(2).inputs_BT, plain(2).inputs_BT[:, :12])
