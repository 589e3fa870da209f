"""m5, CBQ's coarse-to-fine detection of outlier channels, by quantiles and then by Otsu's rule."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32

Array = NDArray[np.float32]

QUANTILES = (0.2, 0.8)
REACH = 1.5
RATE = 0.7


def otsu_above(values: Array) -> np.float32:
    """Return the threshold that separates the largest values: outliers are strictly above it.

    In descending order, a split after i values is rated (smallest above - largest below) - variance
    of those below; the best split's largest value below is the threshold; the first one on a tie.
    Args: values [m], m >= 2. Source: math.md 8.1 (m5; cbq.py:22-80).
    """
    ordered = np.sort(values)[::-1]
    rated = [_gap(ordered, i) - _variance(ordered[i:]) for i in range(1, ordered.size)]
    return ordered[int(np.argmax(rated)) + 1]


def otsu_below(values: Array) -> np.float32:
    """Return the threshold that separates the smallest values: outliers are strictly below it.

    As `otsu_above`, but rated with the variance of those above, and the threshold is the smallest
    value above. Args: values [m], m >= 2. Source: math.md 8.1 (m5; cbq.py:22-80).
    """
    ordered = np.sort(values)[::-1]
    rated = [_gap(ordered, i) - _variance(ordered[:i]) for i in range(1, ordered.size)]
    return ordered[int(np.argmax(rated))]


def _gap(ordered: Array, i: int) -> np.float32:
    return np.abs(ordered[i - 1] - ordered[i])


def _variance(values: Array) -> np.float32:
    """Return the unbiased variance, 0 for one value."""
    if values.size == 1:
        return np.float32(0)
    return np.float32(values.astype(np.float64).var(ddof=1))


def mask_scale(low: NDArray, high: NDArray, alpha: float = REACH, rate: float = RATE) -> Array:
    """Return the scale of m5: 1 for normal channels, (extreme / largest normal)^rate for outliers.

    An outlier's maximum lies beyond q80 + alpha·(q80 - q20) of the channel maxima, or its minimum
    correspondingly below; where more than one does, Otsu's rule sharpens the bound. A channel that
    is one in both ways takes the larger scale.
    Args: low, high [k] channel extremes. Returns: [k] float32.
    Source: math.md 8.1 (m5); msmodelslim pytorch/llm_ptq/anti_outlier/cbq.py:83-130.
    """
    minimum, maximum = as_float32(low), as_float32(high)
    above = _bound_above(maximum, alpha)
    below = _bound_below(minimum, alpha)
    normal_max = maximum[maximum <= above].max()
    normal_min = minimum[minimum >= below].min()
    one = np.ones_like(maximum)
    with np.errstate(all="ignore"):
        up = np.where(maximum > above, _raised(maximum / normal_max, rate), one)
        down = np.where(minimum < below, _raised(minimum / normal_min, rate), one)
    scale = np.maximum(up, down) if normal_min != 0 else up
    return np.where(scale == np.float32(0), np.float32(1), scale)


def _raised(x: Array, rate: float) -> Array:
    return np.power(x.astype(np.float64), rate).astype(np.float32)


def _quantile(x: Array, q: float) -> np.float32:
    """Return torch.quantile: linear between order statistics, in float32."""
    ordered = np.sort(x)
    rank = np.float32(q) * np.float32(x.size - 1)
    lower = np.floor(rank)
    upper = np.ceil(rank)
    a, b = ordered[int(lower)], ordered[int(upper)]
    weight = rank - lower
    return (
        np.float32(a + weight * (b - a))
        if weight < 0.5
        else np.float32(b - (b - a) * (np.float32(1) - weight))
    )


def _bound_above(maximum: Array, alpha: float) -> np.float32:
    q1, q3 = (_quantile(maximum, q) for q in QUANTILES)
    bound = q3 + np.float32(alpha) * (q3 - q1)
    beyond = maximum[maximum > bound]
    return otsu_above(beyond) if beyond.size > 1 else bound


def _bound_below(minimum: Array, alpha: float) -> np.float32:
    q1, q3 = (_quantile(minimum, q) for q in QUANTILES)
    bound = q1 - np.float32(alpha) * (q3 - q1)
    beyond = minimum[minimum < bound]
    return otsu_below(beyond) if beyond.size > 1 else bound
