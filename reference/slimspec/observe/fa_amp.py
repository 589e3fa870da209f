"""Outlier score of attention tensors: which layers `fa_amp` keeps in floating point.

score = edge / max|x|, where the edge is where the histogram of |x| gets dense: the layers with the
smallest share are those with the strongest outliers (math.md 9.2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.quantize.affine import require_finite

from .histc import bin_range
from .linspace import linspace

BINS = 100
DENSE = 0.002  # share of all values that two neighbouring bins must hold


def histogram(x: NDArray[np.float32], bins: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return counts and edges over the data's own range, as torch.histogram places them.

    The bin is guessed as in `histc` and corrected by at most one against the rounded edges.
    Args: x [m] float32. Returns: counts [bins], edges [bins + 1] float32.
    Source: pytorch aten/src/ATen/native/cpu/HistogramKernel.cpp (LINEAR_INTERPOLATION_WITH_
    LOCAL_SEARCH).
    """
    lo, hi = bin_range(x, np.float32(0), np.float32(0), margin=0.5)
    edges = linspace(lo, hi, bins + 1)
    place = np.searchsorted(edges, x, side="right") - 1
    return np.bincount(np.minimum(place, bins - 1), minlength=bins), edges


def outlier_score(x: NDArray) -> tuple[np.float32, np.float32]:
    """Return (edge / max|x|, share of values beyond the edge).

    From the top: the first two neighbouring bins of 100 that together hold more than 0.2 % of the
    values; the edge is the upper one's right edge. All zero gives inf.
    Args: x float32, any shape. Returns: float32 scalars.
    Raises: TypeError for other dtypes (the producer has no histogram of 16-bit values), ValueError
    for NaN or Inf. Source: math.md 9.2 (legacy get_outlier).
    """
    if x.dtype != np.float32:
        raise TypeError(f"outlier score: expected float32, found {x.dtype}")
    require_finite(x, "attention")
    magnitude = np.abs(x).reshape(-1)
    counts, edges = histogram(magnitude, BINS)
    last = _dense_from_top(counts, magnitude.size)
    beyond = int(counts[last + 1 :].sum())
    with np.errstate(divide="ignore"):
        score = edges[last + 1] / magnitude.max()
    return np.float32(score), np.float32(np.float32(beyond) / np.float32(magnitude.size))


def _dense_from_top(counts: NDArray[np.int64], size: int) -> int:
    """Return the upper one of the topmost dense pair of bins."""
    pairs = counts[:-1] + counts[1:]
    dense = np.flatnonzero(pairs > DENSE * size)
    return int(dense[-1]) + 1
