r"""The contract of measures: arrays in, one number out, and a stated result for whatever comes.

```python
@measure(of="matrix", label="Frobenius norm", range=(0, math.inf), scales=True)
def frobenius_norm(matrix_DE: Values) -> float:
    return float(np.linalg.norm(matrix_DE))
```

The decorator makes a `Measure`, under the function's name. What the function is given has been prepared: float64, in
the right number of dimensions, not empty, every number finite, and the greatest of them between 1 and 2, so that no
square overflows. It is left with the mathematics. To add a measure, put a file with such a function into
``xenoglot/measures/``, or anywhere on the path (``my_module:my_measure``).

Of what is empty, or has a NaN or an infinity in it, every measure is nan; so it is where the mathematics is not
defined (each docstring says where), and where LAPACK does not converge. A measure warns of nothing, and raises only
where shapes or types are wrong.

Shapes: N examples of D or E numbers each; D x E a matrix, R the smaller of its sides; K the inner size of a product;
P parts of a batch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xenoglot.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Given", "Kind", "Measure", "Product", "Values", "measure"]

Values: TypeAlias = NDArray[np.float64]
"""What the mathematics works on: float64, every number finite."""

Kind: TypeAlias = Literal["matrix", "pair", "gradients", "parts"]
"""What a measure is of:

- ``matrix``: a matrix [D, E], such as a weight, its gradient, or the activations of D examples; or a `Product`;
- ``pair``: two representations [N, D] and [N, E] of the same N examples, in the same order;
- ``gradients``: two gradients of one shape, whatever it is;
- ``parts``: the gradients of P equal parts of a batch, [P, ...].
"""

ALLOWED: dict[Kind, str] = {
    "matrix": "one matrix [D, E], or a Product of [D, K] and [K, E]; activations of tokens [B, T, D] as [B * T, D]",
    "pair": "two matrices [N, D] and [N, E] of the same N examples",
    "gradients": "two gradients of the same shape",
    "parts": "one array [P, ...] of the gradients of P parts",
}


class Product(NamedTuple):
    """A matrix as the product of two, which is not multiplied out where its spectrum is all that is asked for.

    Attributes:
        left_DK: The first factor, a NumPy array or a tensor.
        right_KE: The second one.
    """

    left_DK: Tensor | NDArray[Any]
    right_KE: Tensor | NDArray[Any]


Given: TypeAlias = "ArrayLike | Tensor | Product"
"""What a caller may give: numbers of any real type, on any device."""


class Measure:
    """A function from arrays to a number; `measure` makes it.

    Attributes:
        name: What it is called.
        of: What it is of.
        label: What it is called in a figure.
        range: The least and the greatest number that it can be, nan aside.
    """

    def __init__(
        self,
        function: Callable[..., float],
        *,
        of: Kind,
        label: str,
        range: tuple[float, float],
        scales: bool,
        through: Literal["entries", "singular values"],
    ) -> None:
        functools.update_wrapper(self, function)
        self.name: str = function.__name__
        self.of, self.label, self.range = of, label, range
        self._function, self._scales, self._through = function, scales, through

    def __repr__(self) -> str:
        return f"<measure {self.name} of {self.of}>"

    def __call__(self, *given: Given) -> float:
        """Measure one thing or two, as ``of`` says.

        Args:
            given: NumPy arrays, lists or tensors of real numbers of any type, on any device; or a `Product`.

        Raises:
            DataError: If there are more or fewer, or they have a wrong shape or type.
        """
        arrays = self._arrays(given)
        if any(array.size == 0 or not np.isfinite(array).all() for array in arrays):
            return math.nan
        scales = [_scale(array) for array in arrays]
        with np.errstate(all="ignore"):
            prepared = [array / scale for array, scale in zip(arrays, scales, strict=True)]
            try:
                value = float(self._function(*self._read(prepared, is_product=isinstance(given[0], Product))))
            except np.linalg.LinAlgError:
                return math.nan
            value = value * math.prod(scales) if self._scales else value
        least, greatest = self.range
        return value if math.isnan(value) else float(min(max(value, least), greatest))  # beyond them it is rounding

    def _arrays(self, given: tuple[Given, ...]) -> list[Values]:
        if self.of == "matrix" and len(given) == 1 and isinstance(given[0], Product):
            arrays = [_to_array(self.name, factor) for factor in given[0]]
            is_right = all(array.ndim == 2 for array in arrays) and arrays[0].shape[1] == arrays[1].shape[0]
        else:
            arrays = [_to_array(self.name, each) for each in given]
            is_right = _IS_RIGHT[self.of]([array.shape for array in arrays])
        if not is_right:
            shapes = ", ".join(str(list(array.shape)) for array in arrays) or "nothing"
            raise DataError(f"{self.name}: got {shapes}; allowed: {ALLOWED[self.of]}.")
        return arrays

    def _read(self, arrays: list[Values], *, is_product: bool) -> list[Values]:
        """Return the function's arguments."""
        if self._through == "singular values":
            return [_singular_values(*arrays)]
        if self.of == "gradients":
            return [array.ravel() for array in arrays]
        if self.of == "parts":
            return [array.reshape(len(array), -1) for array in arrays]
        return [arrays[0] @ arrays[1]] if is_product else arrays


def measure(
    *,
    of: Kind,
    label: str,
    range: tuple[float, float],
    scales: bool = False,
    through: Literal["entries", "singular values"] = "entries",
) -> Callable[[Callable[..., float]], Measure]:
    """Make a measure of a function.

    Args:
        of: What it is of.
        label: What it is called in a figure.
        range: The least and the greatest number that it can be, nan aside; what rounding puts beyond is put back.
        scales: Whether it grows with its argument, as a norm does; else a positive factor changes nothing.
        through: What of a matrix the function is given: its entries [D, E], or its R singular values, greatest first.
            Those of a `Product` cost K^3 instead of D^3.

    Example:
        >>> @measure(of="matrix", label="Share of zeros", range=(0, 1))
        ... def share_of_zeros(matrix_DE):
        ...     return float((matrix_DE == 0).mean())
        >>> share_of_zeros([[1, 0], [0, 0]]), share_of_zeros([[math.nan, 0]])
        (0.75, nan)
        >>> share_of_zeros([1, 0])
        Traceback (most recent call last):
        xenoglot.errors.DataError: share_of_zeros: got [2]; allowed: one matrix [D, E], or a Product of ...
    """
    return functools.partial(Measure, of=of, label=label, range=range, scales=scales, through=through)


_IS_RIGHT: dict[Kind, Callable[[list[tuple[int, ...]]], bool]] = {
    "matrix": lambda shapes: len(shapes) == 1 and len(shapes[0]) == 2,
    "pair": lambda shapes: (
        len(shapes) == 2 and all(len(shape) == 2 for shape in shapes) and shapes[0][0] == shapes[1][0]
    ),
    "gradients": lambda shapes: len(shapes) == 2 and shapes[0] == shapes[1],
    "parts": lambda shapes: len(shapes) == 1 and len(shapes[0]) >= 1,
}


def _to_array(name: str, given: Any) -> Values:
    if hasattr(given, "detach"):  # a tensor, without importing torch for those who have none
        given = given.detach().cpu()
        given = given.double().numpy() if given.is_floating_point() else given.numpy()
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise DataError(f"{name}: got rows of different lengths; allowed: an array of numbers.") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name}: got {array.dtype} entries; allowed: real numbers.")
    return array.astype(np.float64, copy=False)


def _scale(array: Values) -> float:
    """Return the greatest power of two up to the greatest entry: dividing by it is exact."""
    return math.ldexp(1.0, math.frexp(float(np.abs(array).max()))[1] - 1)


def _singular_values(first_DE: Values, *second: Values) -> Values:
    r"""Return the R singular values of a matrix, or of a product, greatest first; what is rounding becomes 0.

    Those of L R are those of :math:`T_L T_R^\top`, a matrix [K, K], for :math:`L = Q_L T_L` and
    :math:`R^\top = Q_R T_R`; the others are 0.
    """
    sides = len(first_DE), (second[0] if second else first_DE).shape[1]
    if second and first_DE.shape[1] < min(sides):
        left_KK, right_KK = (np.asarray(np.linalg.qr(tall, mode="r")) for tall in (first_DE, second[0].T))
        whole = left_KK @ right_KK.T
    else:
        whole = first_DE @ second[0] if second else first_DE
    values = np.asarray(np.linalg.svd(whole, compute_uv=False), dtype=np.float64)
    values[values <= max(sides) * np.finfo(np.float64).eps * values[0]] = 0
    return np.pad(values, (0, min(sides) - len(values)))
