"""One seed, many independent named streams: all randomness of the package starts here.

Nothing reads or writes global random state. A stream is a pure function of (seed, name, index), so the thousandth
batch costs no more than the first, and what a step draws does not depend on what was drawn before it.

Compiled code uses the same idea one level down: `xenoglot.kernels` numbers every random word by
(seed, stream, row, block) with Philox.
"""

from __future__ import annotations

import hashlib

import numpy as np

from xenoglot.options import whole_number

__all__ = ["MAX_SEED", "check_seed", "derive", "generator"]

MAX_SEED = 2**63 - 1
"""The largest seed: whatever stores or prints one (JSON, parquet, C) has a signed 64-bit integer for it."""


def check_seed(seed: object, name: str = "seed") -> int:
    """Return a seed as a plain ``int``, or raise `OptionError` unless it is a whole number from 0 to 2^63 - 1."""
    return whole_number(name, seed, minimum=0, maximum=MAX_SEED)


def derive(seed: int, *path: str | int) -> int:
    """Derive an independent seed for a named purpose.

    Args:
        seed: The parent, 0 to 2^63 - 1.
        path: Names and indices, such as ``("evaluation", 3)``.

    Returns:
        63 bits of BLAKE2b over the parent and the path: unrelated for different paths.

    Example:
        >>> derive(0, "train", 1) == derive(0, "train", 1)
        True
        >>> derive(0, "train", 1) == derive(0, "train", 2)
        False
    """
    words = "\x1f".join([str(check_seed(seed)), *(f"{type(part).__name__}:{part}" for part in path)])
    digest = hashlib.blake2b(words.encode(), digest_size=8, person=b"xenoglot").digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, *path: str | int) -> np.random.Generator:
    """Make a NumPy generator for a named purpose.

    Args:
        seed: The parent, 0 to 2^63 - 1.
        path: Names and indices, as in `derive`.
    """
    return np.random.Generator(np.random.Philox(key=derive(seed, *path)))
