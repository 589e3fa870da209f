"""Checks that the packers share: even sizes and codes within their range."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def require_even(shape: tuple[int, ...], axis: int, name: str) -> None:
    """Refuse an odd axis. Raises: ValueError naming the tensor, the axis and its size."""
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"{name}: no axis {axis} in shape {shape}")
    if shape[axis] % 2:
        raise ValueError(f"{name}: axis {axis} has odd size {shape[axis]}, pairs need an even one")


def require_multiple(size: int, of: int, what: str) -> None:
    """Refuse a size that is no multiple. Raises: ValueError naming both."""
    if of < 1 or size % of:
        raise ValueError(f"{what} {size} is no multiple of {of}")


def require_range(q: NDArray, low: int, high: int, name: str) -> None:
    """Refuse codes outside [low, high]. Raises: ValueError with the first index and value."""
    if q.size and (q.min() < low or q.max() > high):
        wrong = (q < low) | (q > high)
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"{name}: {q[at]} at index {at}, expected {low} to {high}")


def require_dtype(x: NDArray, dtype: type, name: str) -> None:
    """Refuse another dtype. Raises: TypeError naming both."""
    if x.dtype != dtype:
        raise TypeError(f"{name}: expected {np.dtype(dtype)}, found {x.dtype}")
