"""How functions become machine code, and what the compiled ones call their numbers."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

__all__ = ["Real", "Stream", "Word", "compiled", "inlined", "prefer_wide_vectors"]

Function = TypeVar("Function", bound=Callable[..., Any])

Word: TypeAlias = Any
"""In compiled code: 32 random bits in a uint64 or int64."""
Real: TypeAlias = Any
"""In compiled code: float64, or float32 where that is said."""
Stream: TypeAlias = Any
"""In compiled code: a stream's header and buffered words, one uint32 array, because tuples cost reference counts."""


def compiled(function: Function) -> Function:
    """Compile to machine code, cached on disk where it can be, without the interpreter's lock and without fast-math.

    NumPy's error model, because Python's test for a zero divisor is a branch, and loops with branches do not vectorise.
    """
    return _dispatcher(function)


def inlined(function: Function) -> Function:
    """Compile as part of every caller, because a loop with a call in it does not vectorise."""
    return _dispatcher(function, forceinline=True)


def _dispatcher(function: Function, **options: bool) -> Function:
    """Return what compiles a function when it is first called."""
    try:
        made = numba.njit(cache=True, nogil=True, error_model="numpy", **options)(function)
    except RuntimeError:  # nowhere to keep it: the package cannot be written to, and there is no home
        made = numba.njit(nogil=True, error_model="numpy", **options)(function)
    # By itself, numba looks at a function's own file alone, and keeps what it called as that was then. It has no cache
    # where there is nowhere to keep one, nor under NUMBA_DISABLE_JIT.
    kept = getattr(getattr(made, "_cache", None), "_cache_file", None)
    if kept is not None:
        kept._source_stamp = (kept._source_stamp, _digest_of_sources())
    return cast(Function, made)


@functools.cache
def _digest_of_sources() -> str:
    """Return a digest of all files of the package that compile something: what any of them may have been made of."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        content = path.read_bytes()
        if b"xenoglot.kernels" in content:
            digest.update(content)
    return digest.hexdigest()


@intrinsic  # type: ignore[untyped-decorator]
def prefer_wide_vectors(typing_context: Any) -> Any:
    """Let this function use 512-bit registers where there are any: LLVM shuns them by default."""

    def build(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        # llvmlite knows no such attribute by name; a set of words is what it prints
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), build
