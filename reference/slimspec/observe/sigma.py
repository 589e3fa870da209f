"""Sigma clipping: values further out than sigma_factor standard deviations are outliers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, model_dtype, mul, to_dtype
from slimspec.quantize.affine import require_finite

DEFAULT_FACTOR = 3.0


def check_factor(sigma_factor: float) -> float:
    """Return `sigma_factor` if it is in [3, 4]. Raises: ValueError. Source: seeds 001."""
    if not 3.0 <= sigma_factor <= 4.0:
        raise ValueError(f"sigma_factor: expected 3.0 to 4.0, found {sigma_factor}")
    return sigma_factor


def magnitude_std(x: NDArray) -> NDArray:
    """Return the unbiased standard deviation of |x| over the last axis: sqrt(var(|x|)).

    The variance is summed in float64, rounded to the dtype of `x`, and its root rounded again.
    Args: x [..., k], k >= 2. Returns: [..., 1], dtype of x. Raises: ValueError for NaN, Inf, k < 2.
    Source: math.md 7.1.
    """
    dtype = model_dtype(x.dtype)
    require_finite(x, "tensor")
    if x.shape[-1] < 2:
        raise ValueError(f"standard deviation of shape {x.shape}: expected 2 or more values")
    variance = np.abs(as_float32(x)).astype(np.float64).var(axis=-1, ddof=1, keepdims=True)
    with np.errstate(over="ignore"):  # infinite, as in the tool
        narrow = as_float32(to_dtype(variance.astype(np.float32), dtype))
    return to_dtype(np.sqrt(narrow), dtype)


def sigma_bound(x: NDArray, sigma_factor: float = DEFAULT_FACTOR) -> NDArray:
    """Return sigma_factor · std(|x|) over the last axis: larger magnitudes are outliers.

    The standard deviation is that of the magnitudes, not of x; see `magnitude_std`.
    Args: x [..., k], k >= 2. Returns: [..., 1], dtype of x.
    Raises: ValueError for NaN, Inf, k < 2 or a factor outside [3, 4].
    Source: math.md 7.1 (use_sigma of the sparse weights).
    """
    return mul(magnitude_std(x), check_factor(sigma_factor), x.dtype)


def clip_to_sigma(x: NDArray, sigma_factor: float = DEFAULT_FACTOR) -> NDArray:
    """Return a whole batch clipped to ±sigma_bound of all its values, in its dtype.

    The producer applies sigma to weights only; for activations this is an option of ours.
    Args: x float32/float16/bfloat16, any shape. Returns: [size], dtype of x.
    """
    dtype = model_dtype(x.dtype)
    flat = as_float32(x).reshape(-1)
    bound = sigma_bound(flat, sigma_factor)
    return to_dtype(np.clip(flat, -bound, bound), dtype)
