"""The Gymnasium environments: data in the earlier systems' names, and episodes that Gymnasium's own checker passes."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import example, given, settings
from hypothesis import strategies as st

import xenoglot
from xenoglot.errors import DataError, OptionError, OutputError

IDS = ("meta-lm-v1", "meta-lm-v2")


def small(env_id: str, **options: Any) -> Any:
    return gym.make(env_id, **({"V": 8, "n": 3, "L": 12} | options))


# --- data ------------------------------------------------------------------------------------------------------------


def test_the_lines_that_must_run() -> None:
    env = gym.make("meta-lm-v2", V=64, n=10, L=4096)
    obs, demo_label = env.data_generator()
    batch_obs, batch_label = env.batch_generator(8)
    assert obs.shape == demo_label.shape == (4096,)
    assert batch_obs.shape == batch_label.shape == (8, 4096)
    assert obs.dtype == batch_label.dtype == np.int32


def test_defaults_are_the_earlier_systems() -> None:
    first, second = (gym.make(env_id) for env_id in IDS)
    family = first.family
    assert (family.vocab_size, family.n_elements, family.element_length, family.error_rate) == (64, 10, 64, 0.10)
    assert (family.mask_ratio, family.separator, first.L) == (0.30, False, 2048)
    assert (second.family.vocab_size, second.family.n, second.L) == (64, 16, 2048)


def test_every_argument_reaches_the_family() -> None:
    env = gym.make("meta-lm-v1", V=9, n=2, l=5, e=0.2, L=7, mask_ratio=0.5, separator=True)
    assert env.family == xenoglot.languages.MetaLMv1(
        vocab_size=9, n_elements=2, element_length=5, error_rate=0.2, mask_ratio=0.5, separator=True
    )
    env = gym.make("meta-lm-v2", V=9, n=2, L=7, hidden_size=3, temperature=0.5, cell="gru", reset_on_start=True)
    assert env.family == xenoglot.languages.MetaLMv2(
        vocab_size=9, n=2, hidden_size=3, temperature=0.5, cell="gru", reset_on_start=True
    )


@pytest.mark.parametrize(
    ("env_id", "separator", "expected"),
    [("meta-lm-v1", False, (9, None)), ("meta-lm-v1", True, (10, 9)), ("meta-lm-v2", None, (9, None))],
)
def test_ids(env_id: str, separator: bool | None, expected: tuple[int, int | None]) -> None:
    env = small(env_id) if separator is None else small(env_id, separator=separator)
    assert (env.VocabSize, env.SepID) == expected
    assert env.MaskID == env.PaddingID == 0


@pytest.mark.parametrize("env_id", IDS)
def test_every_call_is_new_and_a_reset_begins_again(env_id: str) -> None:
    env = small(env_id, L=64)
    env.reset(seed=5)
    first = [env.batch_generator(3)[0], env.batch_generator(3)[0]]
    assert not np.array_equal(*first)
    assert len({tuple(row) for batch in first for row in batch}) == 6
    env.reset(seed=5)
    np.testing.assert_array_equal([env.batch_generator(3)[0], env.batch_generator(3)[0]], first)


@pytest.mark.parametrize("env_id", IDS)
def test_a_generator_s_own_seed_names_rows_and_touches_nothing(env_id: str) -> None:
    env = small(env_id)
    env.reset(seed=1)
    expected = env.data_generator()
    env.reset(seed=1)
    seeded = env.batch_generator(4, seed=9)
    np.testing.assert_array_equal(env.data_generator(), expected)
    np.testing.assert_array_equal(env.data_generator(seed=9), [seeded[0][0], seeded[1][0]])
    rows = env.family.batch(4, 12, seed=9)
    np.testing.assert_array_equal(seeded, [rows.inputs, rows.targets])


def twin_of_text(env: Any, size: int, seed: int) -> str:
    """The earlier systems' writer, in plain Python."""
    inputs, targets = env.batch_generator(size, seed=seed)
    lines = ["\t".join(f"{x},{y}" for x, y in zip(*row, strict=True)) for row in zip(inputs, targets, strict=True)]
    return "".join(line + "\n" for line in lines)


def test_samples_go_to_paths_and_open_streams(tmp_path: Path) -> None:
    env = small("meta-lm-v1")
    expected = twin_of_text(env, 5, seed=3)
    env.generate_to_file(5, tmp_path / "a.txt", seed=3)
    env.generate_to_file(5, str(tmp_path / "b"), seed=3)
    text, data = io.StringIO(), io.BytesIO()
    env.generate_to_file(5, text, seed=3)
    env.generate_to_file(5, data, seed=3)
    written = [
        (tmp_path / "a.txt").read_text(),
        (tmp_path / "b").read_text(),
        text.getvalue(),
        data.getvalue().decode(),
    ]
    assert written == [expected] * 4
    env.generate_to_file(5, tmp_path / "a.npy", seed=3)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.stack(env.batch_generator(5, seed=3), axis=1))


def test_unwritable_files_are_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist; create it first"):
        small("meta-lm-v1").generate_to_file(5, tmp_path / "missing" / "a.txt")


# --- an environment proper -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["token", "distribution"])
@pytest.mark.parametrize("env_id", IDS)
def test_gymnasium_s_checker_passes_without_warnings(env_id: str, answer: str) -> None:
    check_env(small(env_id, answer=answer))
    check_env(small(env_id, answer=answer).unwrapped)


@pytest.mark.parametrize("env_id", IDS)
def test_an_episode_is_a_row_of_a_new_language(env_id: str) -> None:
    env = small(env_id)
    seeds = []
    for episode in range(3):
        token, info = env.reset(seed=7 if episode == 0 else None)
        row = env.family.batch(1, env.L + 1, seed=info["seed"])
        seen, rewards = [token], []
        for t in range(env.L):
            assert env.observation_space.contains(token)
            guess = row.targets[0, t] if t % 2 else (row.targets[0, t] + 1) % env.VocabSize
            token, reward, terminated, truncated, info = env.step(guess)
            assert info == {"target": row.targets[0, t]}
            assert (terminated, truncated) == (False, t == env.L - 1)
            seen.append(token)
            rewards.append(reward)
        np.testing.assert_array_equal(seen, row.inputs[0])
        assert rewards == [float(t % 2) for t in range(env.L)]
        with pytest.raises(DataError, match="call reset first"):
            env.step(1)
        seeds.append(tuple(seen))
    assert len(set(seeds)) == 3


@settings(max_examples=20, deadline=None)
@given(weights=st.lists(st.floats(0, 1, width=32), min_size=9, max_size=9).filter(lambda weights: sum(weights) > 0.01))
@example(weights=[0.0] * 7 + [9.374177774730783e-38, 1.0])
def test_a_distribution_earns_the_logarithm_of_what_it_gave_the_target(weights: list[float]) -> None:
    env = small("meta-lm-v2", answer="distribution")
    env.reset(seed=0)
    _, reward, *_, info = env.step(np.array(weights, np.float32))
    given_weight = weights[info["target"]] / sum(weights)
    expected = np.log(max(given_weight, 1.1754943508222875e-38))  # float32's least normal number
    np.testing.assert_allclose(reward, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        ("token", 9),
        ("token", -1),
        ("token", 0.5),
        ("distribution", np.ones(8)),
        ("distribution", np.zeros(9)),
        ("distribution", np.full(9, -1.0)),
        ("distribution", np.full(9, np.nan)),
        ("distribution", 3),
    ],
)
def test_what_is_no_answer_is_refused(answer: str, action: Any) -> None:
    env = small("meta-lm-v2", answer=answer)
    env.reset(seed=0)
    with pytest.raises(DataError, match=r"^action: got"):
        env.step(action)
    env.step(env.action_space.sample())  # the episode goes on


def test_one_token_is_an_episode() -> None:
    env = small("meta-lm-v1", L=1)
    env.reset(seed=0)
    assert env.step(1)[3] is True


@pytest.mark.parametrize("env_id", IDS)
def test_vectorised(env_id: str) -> None:
    envs = gym.make_vec(env_id, num_envs=3, V=8, n=3, L=4)
    first, _ = envs.reset(seed=[1, 2, 3])
    again, _ = envs.reset(seed=[1, 2, 3])
    alone = [small(env_id, L=4).reset(seed=seed)[0] for seed in (1, 2, 3)]
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, alone)
    for t in range(4):
        tokens, rewards, _, truncated, _ = envs.step(envs.action_space.sample())
        assert tokens.shape == rewards.shape == (3,)
        assert truncated.tolist() == [t == 3] * 3


def test_made_by_module_name_in_a_fresh_process() -> None:
    code = "import gymnasium; print(gymnasium.make('xenoglot:meta-lm-v2', V=4, n=2, L=3).reset(seed=0)[0])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) in range(1, 5)
    assert done.stderr == ""


# --- bad arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env_id", "name", "value"),
    [
        ("meta-lm-v1", "V", 1),
        ("meta-lm-v1", "n", 0),
        ("meta-lm-v1", "l", 0),
        ("meta-lm-v1", "e", 1.5),
        ("meta-lm-v1", "e", -0.1),
        ("meta-lm-v1", "L", 0),
        ("meta-lm-v1", "mask_ratio", 2.0),
        ("meta-lm-v1", "separator", 1),
        ("meta-lm-v1", "answer", "maybe"),
        ("meta-lm-v2", "V", 1),
        ("meta-lm-v2", "n", 0),
        ("meta-lm-v2", "L", 1.5),
        ("meta-lm-v2", "hidden_size", 0),
        ("meta-lm-v2", "temperature", 0.0),
        ("meta-lm-v2", "cell", "transformer"),
    ],
)
def test_bad_arguments_are_refused_in_the_environment_s_own_names(env_id: str, name: str, value: Any) -> None:
    with pytest.raises(OptionError) as caught:
        gym.make(env_id, **{name: value})
    assert caught.value.option == name


@pytest.mark.parametrize("seed", [-1, 2**63, 0.5])
def test_bad_seeds_are_refused(seed: Any) -> None:
    env = small("meta-lm-v2")
    for call in (lambda: env.reset(seed=seed), lambda: env.data_generator(seed=seed)):
        with pytest.raises(OptionError, match=r"^seed: got"):
            call()


@pytest.mark.parametrize("size", [0, -1, 1.5])
def test_bad_sizes_are_refused(size: Any, tmp_path: Path) -> None:
    env = small("meta-lm-v2")
    with pytest.raises(OptionError, match=r"^batch_size: got"):
        env.batch_generator(size)
    with pytest.raises(OptionError, match=r"^size: got"):
        env.generate_to_file(size, tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []
