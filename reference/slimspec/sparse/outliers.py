"""Which weights are outliers of a sparse quantizer: masks by sigma and by fraction.

Source: facts/math.md 7.1, 7.2.
"""

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, div, mul, to_dtype
from slimspec.observe.sigma import magnitude_std
from slimspec.quantize.affine import require_finite

Mask = NDArray[np.bool_]


def sigma_mask(w: NDArray, sigma_factor: float) -> tuple[Mask, NDArray]:
    """Return where |w| / std(|w|) > sigma_factor per row, and the bound sigma_factor · std.

    The mean is not subtracted from w. A constant row (0 / 0 or x / 0) follows IEEE: zeros are no
    outliers, other constants all are.
    Args: w [n, k]. Returns: bool [n, k] and [n, 1] in the dtype of w. Source: math.md 7.1.
    """
    std = magnitude_std(w)
    ratio = as_float32(div(np.abs(w), std, w.dtype))
    with np.errstate(invalid="ignore"):
        outlier = ratio > np.float32(sigma_factor)
    return outlier, mul(std, sigma_factor, w.dtype)


def fraction_mask(w: NDArray, fraction: float, *, per_row: bool) -> tuple[Mask, NDArray]:
    """Return where |w| is above its c-th largest value, c = int(fraction · size).

    Strictly above: c - 1 outliers, fewer where values tie.
    Args: w [n, k]; per_row: rank within each row, otherwise in the whole matrix.
    Returns: bool [n, k], and the thresholds [n, 1] (per row) or [1], dtype of w.
    Raises: ValueError if the fraction asks for no value. Source: math.md 7.1, 7.2.
    """
    require_finite(w, "weight")
    rows = np.abs(as_float32(w)) if per_row else np.abs(as_float32(w)).reshape(1, -1)
    count = int(fraction * rows.shape[1])
    if not 1 <= count <= rows.shape[1]:
        raise ValueError(f"fraction {fraction} of {rows.shape[1]} values is {count}, expected >= 1")
    place = rows.shape[1] - count
    threshold = np.partition(rows, place, axis=1)[:, place : place + 1]
    bound = threshold if per_row else threshold[0]
    return (rows > threshold).reshape(w.shape), to_dtype(bound, w.dtype)
