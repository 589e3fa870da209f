"""Argument checks of the integer runtime: one clear sentence per bad input."""

import numpy as np
from numpy.typing import NDArray


def require(name: str, array: NDArray, dtypes: tuple, shape: str, ndim: int | tuple) -> None:
    """Raise unless `array` has one of `dtypes` and `ndim` axes; `shape` is how to print it.

    Args:
        name: argument name for the message.
        array: the argument.
        dtypes: dtypes that the operation takes.
        shape: expected shape in the project's letters, e.g. "(m, k)".
        ndim: number of axes, or a tuple of allowed numbers.

    Raises:
        TypeError: wrong dtype.
        ValueError: wrong number of axes.
    """
    found = f"found {array.dtype} {array.shape}"
    if array.dtype not in [np.dtype(d) for d in dtypes]:
        names = " or ".join(str(np.dtype(d)) for d in dtypes)
        raise TypeError(f"{name}: expected {names} {shape}, {found}")
    if array.ndim not in ((ndim,) if isinstance(ndim, int) else ndim):
        raise ValueError(f"{name}: expected shape {shape}, {found}")


def require_equal(what: str, left: int, right: int) -> None:
    """Raise ValueError unless two sizes that mean the same are equal."""
    if left != right:
        raise ValueError(f"{what}: sizes differ, {left} and {right}")


def require_range(name: str, array: NDArray, low: int, high: int) -> None:
    """Raise ValueError unless every element lies in [low, high]; names the first that does not."""
    bad = (array < low) | (array > high)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"{name}{list(where)}: expected {low}..{high}, found {array[where]}")
