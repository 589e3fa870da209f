"""Equal-width bin counts over a range, as torch.histc counts them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, round_trunc

Bound = float | np.floating  # rounded to float32
_WIDEST = float(np.finfo(np.float32).max)
_FAST_FROM = 1 << 14  # elements; below, loading the kernel costs more than it saves


def bin_range(
    x: NDArray[np.float32], low: np.float32, high: np.float32, margin: float = 1.0
) -> tuple[np.float32, np.float32]:
    """Return the range that is really counted.

    An empty range (low = high) means the data's own; if that is empty too, `margin` either side.
    Args: x float32, not empty. Returns: (low, high) float32.
    """
    if low == high:
        low, high = x.min(), x.max()
    if low == high:
        low, high = low - np.float32(margin), high + np.float32(margin)
    return low, high


def positions(
    x: NDArray[np.float32], bins: int, lo: np.float32, hi: np.float32
) -> NDArray[np.float32]:
    """Return trunc((x - lo)·bins / (hi - lo)) for lo <= x <= hi; x = hi goes to the last bin.

    Every step rounds to float32. Args: x float32 within the range. Returns: float32 bin numbers.
    """
    bin_number = round_trunc((x - lo) * np.float32(bins) / (hi - lo))
    return np.minimum(bin_number, np.float32(bins - 1))


def histc(x: NDArray, bins: int, low: Bound, high: Bound) -> NDArray[np.float32]:
    """Count the values of `x` in `bins` bins of equal width; values outside, and NaN, are dropped.

    Args: x float32/float16/bfloat16, any shape, not empty; bins; low, high: the range (float32).
    Returns: counts [bins], float32. Raises: ValueError for an empty array, and for a range whose
    width times `bins` is no float32, or of one value so large that the margin is lost: torch then
    counts outside its memory.
    Source: math.md 2.2; pytorch aten/src/ATen/native/cpu/HistogramKernel.cpp.
    """
    values = as_float32(x).reshape(-1)
    if not values.size:
        raise ValueError("a histogram needs at least one value, found none")
    lo, hi = bin_range(values, np.float32(low), np.float32(high))
    if not 0 < float(hi) - float(lo) < _WIDEST / bins:
        raise ValueError(f"histogram range {lo:g} to {hi:g}: no {bins} bins of it in float32")
    if values.size >= _FAST_FROM:
        from . import kernels

        if kernels.JIT:
            return kernels.count(values, bins, lo, hi).astype(np.float32)
    inside = values[(values >= lo) & (values <= hi)]
    return np.bincount(positions(inside, bins, lo, hi).astype(np.int64), minlength=bins).astype(
        np.float32
    )
