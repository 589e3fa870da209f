"""Refusal of NaN and Inf with the place where they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def require_finite(x: NDArray, name: str) -> NDArray:
    """Return `x` unchanged if it has values and all are finite.

    Args: x float array; name: what to call it. Raises: ValueError naming the tensor, the index and
    the value found.
    """
    if not x.size:
        raise ValueError(f"{name}: expected at least one value, found an empty array {x.shape}")
    finite = np.isfinite(x)
    if not finite.all():
        at = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), x.shape))
        raise ValueError(f"{name}: expected finite values, found {x[at]} at index {at}")
    return x
