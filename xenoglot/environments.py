"""The languages as Gymnasium environments, in the earlier systems' own names: V, n, l, e, L.

```python
import gymnasium as gym, xenoglot

env = gym.make("meta-lm-v2", V=64, n=10, L=4096)
obs, label = env.data_generator()                    # int32 [L] each
batch_obs, batch_label = env.batch_generator(8)      # int32 [8, L] each
```

As an environment proper, an episode is one row of a brand-new language. `reset` gives its first token; an action is the
prediction of the next target; the reward is 1 if it was right and else 0, or, with ``answer="distribution"``, the
logarithm of the probability that was given to it; after L predictions the episode is truncated.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any, BinaryIO, Literal, TextIO

import gymnasium
import numpy as np
from numpy.typing import NDArray

from xenoglot.errors import DataError, OptionError
from xenoglot.generate import write_samples, write_text
from xenoglot.languages.base import LONGEST_ROW, MASK, Family, Tokens
from xenoglot.languages.metalm_v1 import MetaLMv1
from xenoglot.languages.metalm_v2 import MetaLMv2
from xenoglot.options import options_of, whole_number
from xenoglot.rng import MAX_SEED, check_seed

__all__ = ["LanguageEnvironment", "MetaLMv1Environment", "MetaLMv2Environment"]

ANSWERS = ("token", "distribution")
LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)  # keeps the reward finite where a distribution says "never"


class LanguageEnvironment(gymnasium.Env[np.int64, Any]):
    """Rows of brand-new languages of one family, to be taken as data or predicted token by token.

    Every call of a generator, and every episode, draws languages that were never drawn before. After
    ``reset(seed=...)`` the same calls draw the same again; a generator's own ``seed`` draws row i of that seed, and
    touches nothing else.

    Args:
        family: What to draw languages from.
        L: Tokens of a sample, and predictions of an episode.
        answer: ``"token"``: an action is the id of the predicted token; ``"distribution"``: it is a weight of at least
            0 for every id (their sum is divided out).
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(self, family: Family, L: int, answer: str = ANSWERS[0]) -> None:
        if answer not in ANSWERS:
            raise OptionError("answer", answer, f"one of {', '.join(ANSWERS)}")
        self.family = family
        self.L = whole_number("L", L, minimum=1, maximum=LONGEST_ROW - 1)
        self.answer = answer
        self.observation_space = gymnasium.spaces.Discrete(family.n_tokens)
        if answer == "token":
            self.action_space = gymnasium.spaces.Discrete(family.n_tokens)
        else:
            self.action_space = gymnasium.spaces.Box(0.0, 1.0, (family.n_tokens,), np.float32)
        self._inputs: Tokens | None = None
        self._targets: Tokens = np.empty(0, np.int32)
        self._position = 0

    # --- data --------------------------------------------------------------------------------------------------------

    def data_generator(self, seed: int | None = None) -> tuple[Tokens, Tokens]:
        """Draw one sample: inputs and targets, int32 [L] each."""
        inputs, targets = self.batch_generator(1, seed)
        return inputs[0], targets[0]

    def batch_generator(self, batch_size: int, seed: int | None = None) -> tuple[Tokens, Tokens]:
        """Draw a batch, each row of its own language: inputs and targets, int32 [B, L] each."""
        batch = self.family.batch(batch_size, self.L, self._next_seed(seed))
        return batch.inputs, batch.targets

    def generate_to_file(
        self, size: int, path_or_stream: str | os.PathLike[str] | BinaryIO | TextIO, seed: int | None = None
    ) -> None:
        """Write samples: to a path (text, or ``.npy`` or ``.parquet`` by its ending), or as text to an open stream.

        Args:
            size: Samples, each of its own language.
            path_or_stream: A path, or a stream open for writing text or bytes.
            seed: 0 to 2^63 - 1; the environment's own next one if None.

        Raises:
            OutputError: If the path cannot be written; nothing half-written is left.
        """
        whole_number("size", size, minimum=1)
        drawn = self._next_seed(seed)
        if isinstance(path_or_stream, str | os.PathLike):
            write_samples(self.family, path_or_stream, samples=size, length=self.L, seed=drawn)
        else:
            write_text(self.family, path_or_stream, samples=size, length=self.L, seed=drawn)

    def _next_seed(self, seed: int | None = None) -> int:
        if seed is not None:
            return check_seed(seed)
        return int(self.np_random.integers(MAX_SEED, endpoint=True))

    # --- the names of the earlier systems ----------------------------------------------------------------------------

    @property
    def VocabSize(self) -> int:
        """How many ids there are, from 0 to VocabSize - 1: what an embedding needs."""
        return self.family.n_tokens

    @property
    def MaskID(self) -> int:
        """The id of MASK, 0."""
        return MASK

    @property
    def PaddingID(self) -> int:
        """The id of padding, 0: the same as MASK's."""
        return MASK

    @property
    def SepID(self) -> int | None:
        """The separator's id, V + 1; None where there is no separator, so that nothing ever equals it."""
        return getattr(self.family, "separator_id", None)

    # --- an environment proper ---------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        """Begin an episode with a brand-new language; returns its first token.

        ``info`` holds the language's ``seed``: ``env.family.draw(seed)`` is the language itself.
        """
        super().reset(seed=None if seed is None else check_seed(seed))
        language_seed = self._next_seed()
        batch = self.family.batch(1, self.L + 1, language_seed)  # one more, to be seen after the last prediction
        self._inputs, self._targets, self._position = batch.inputs[0], batch.targets[0], 0
        return np.int64(self._inputs[0]), {"seed": language_seed}

    def step(self, action: Any) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """Predict the next target; returns the next token, the reward, and whether these were all L.

        ``info`` holds the ``target``.

        Raises:
            DataError: If the action is no id or no distribution, or there is no episode to continue.
        """
        if self._inputs is None or self._position == self.L:
            raise DataError(f"step: there is no episode to continue after {self._position} tokens; call reset first.")
        target = int(self._targets[self._position])
        reward = self._reward(action, target)
        self._position += 1
        observation = np.int64(self._inputs[self._position])
        return observation, reward, False, self._position == self.L, {"target": target}

    def _reward(self, action: Any, target: int) -> float:
        if self.answer == "token":
            if not self.action_space.contains(action):
                raise DataError(f"action: got {action!r}; allowed: an id from 0 to {self.VocabSize - 1}.")
            return float(action == target)
        weights: NDArray[np.float64] = np.asarray(action, np.float64)
        is_distribution = weights.shape == (self.VocabSize,) and np.all(np.isfinite(weights)) and np.all(weights >= 0)
        if not is_distribution or weights.sum() == 0:
            raise DataError(f"action: got {action!r}; allowed: {self.VocabSize} weights of at least 0, not all 0.")
        return float(np.log(max(weights[target] / weights.sum(), LEAST_PROBABILITY)))


class MetaLMv1Environment(LanguageEnvironment):
    """``meta-lm-v1``: random elements repeated with noise (see `xenoglot.languages.metalm_v1`).

    Args:
        V: Ordinary tokens, 1..V.
        n: Elements of a language.
        l: Mean length of an element, in tokens.
        e: Probability that a position is disturbed.
        L: Tokens of a sample.
        mask_ratio: Share of the disturbed positions that become MASK.
        separator: Whether a separator, V + 1, stands after every element.
        answer: ``"token"`` or ``"distribution"``.

    Example:
        >>> import gymnasium, xenoglot
        >>> env = gymnasium.make("meta-lm-v1", V=64, n=10, l=64, e=0.10, L=4096)
        >>> [array.shape for array in env.batch_generator(8)]
        [(8, 4096), (8, 4096)]
    """

    def __init__(
        self,
        V: int = 64,
        n: int = 10,
        l: float = 64,  # noqa: E741 - the earlier systems' name
        e: float = 0.10,
        L: int = 2048,
        mask_ratio: float = 0.30,
        separator: bool = False,
        answer: str = ANSWERS[0],
    ) -> None:
        _check_in_own_names(MetaLMv1, {"vocab_size": ("V", V), "n_elements": ("n", n)})
        _check_in_own_names(MetaLMv1, {"element_length": ("l", l), "error_rate": ("e", e)})
        family = MetaLMv1(
            vocab_size=V, n_elements=n, element_length=l, error_rate=e, mask_ratio=mask_ratio, separator=separator
        )
        super().__init__(family, L, answer)


class MetaLMv2Environment(LanguageEnvironment):
    """``meta-lm-v2``: the language of a random recurrent network (see `xenoglot.languages.metalm_v2`).

    Args:
        V: Ordinary tokens, 1..V.
        n: Size of an embedding.
        L: Tokens of a sample.
        hidden_size: Size of the hidden state; n if None.
        temperature: What the logits are divided by.
        cell: ``"rnn"``, ``"gru"`` or ``"lstm"``.
        reset_on_start: Whether the hidden state returns to zero when the first token recurs.
        answer: ``"token"`` or ``"distribution"``.

    Example:
        >>> import gymnasium, xenoglot
        >>> env = gymnasium.make("meta-lm-v2", V=64, n=10, L=4096)
        >>> obs, label = env.data_generator(seed=0)
        >>> bool((obs[1:] == label[:-1]).all())
        True
    """

    def __init__(
        self,
        V: int = 64,
        n: int = 16,
        L: int = 2048,
        hidden_size: int | None = None,
        temperature: float = 1.0,
        cell: Literal["rnn", "gru", "lstm"] = "rnn",
        reset_on_start: bool = False,
        answer: str = ANSWERS[0],
    ) -> None:
        _check_in_own_names(MetaLMv2, {"vocab_size": ("V", V), "n": ("n", n)})
        family = MetaLMv2(
            vocab_size=V,
            n=n,
            hidden_size=hidden_size,
            temperature=temperature,
            cell=cell,
            reset_on_start=reset_on_start,
        )
        super().__init__(family, L, answer)


def _check_in_own_names(family: type[Family], arguments: dict[str, tuple[str, object]]) -> None:
    """Check the options that are called something else here, so that an error names what was written."""
    for declared in options_of(family):
        if declared.name in arguments:
            name, value = arguments[declared.name]
            dataclasses.replace(declared, name=name).check(value)
