"""m2, Outlier Suppression+: search the threshold above which channels are scaled down.

    thr_i = (peak - std)·i/(n - 1) + std;   r = max(1, channel peak / thr_i)
    s = 1 where r <= 1, else max(sqrt(r·thr_i) / sqrt(w), 1e-5)

Where three standard deviations already reach the peak, s is SmoothQuant's (math.md 8.1 m2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import add, as_float32, div, mul, sub, to_dtype
from slimspec.numeric.power import power

from .scales import SMALLEST, smooth_scale, weight_scale

POINTS = 100


class Statistics(NamedTuple):
    """What V0 keeps of a linear's input over all batches, in the model's dtype (math.md 8.0).

    peak: largest x - shift of all, signed, with the shift of its time; channel_peak [k] the same
    per channel; std: largest standard deviation of x - shift; absmax [k]; shift [k] =
    (max + min)/2; first: the first batch [t, k].
    """

    absmax: NDArray
    shift: NDArray
    peak: NDArray
    channel_peak: NDArray
    std: NDArray
    first: NDArray


def collect(batches: list[NDArray]) -> Statistics:
    """Return the statistics of the batches, each [..., k] of one dtype.

    Raises: ValueError without a batch. Source: math.md 8.0 (anti_outlier.py:296-378).
    """
    if not batches:
        raise ValueError("no calibration batch: smoothing needs at least one")
    dtype = batches[0].dtype
    rows = [x.reshape(-1, x.shape[-1]) for x in batches]
    high, low = rows[0].max(axis=0), rows[0].min(axis=0)
    amax = np.abs(rows[0]).max(axis=0)
    kept: list[tuple[NDArray, NDArray]] = []
    for x in rows:
        high, low = np.maximum(high, x.max(axis=0)), np.minimum(low, x.min(axis=0))
        amax = np.maximum(amax, np.abs(x).max(axis=0))
        shift = div(add(high, low, dtype), 2, dtype)
        moved = sub(x, shift, dtype)
        std = as_float32(moved).astype(np.float64).std(ddof=1)
        kept.append((moved.max(axis=0), to_dtype(np.float32(std), dtype)))
    peaks = np.max([p for p, _ in kept], axis=0)
    stds = np.max([s for _, s in kept], axis=0)
    return Statistics(amax, shift, peaks.max(), peaks, stds, batches[0])


def threshold_scale(seen: Statistics, w: NDArray, step: int, points: int = POINTS) -> NDArray:
    """Return the candidate scale of grid point `step`, [k], in the dtype of the statistics.

    Args: w [k] weight scale. Source: math.md 8.1 (m2).
    """
    dtype = seen.std.dtype
    span = sub(seen.peak, seen.std, dtype)
    threshold = add(div(mul(span, step, dtype), points - 1, dtype), seen.std, dtype)
    ratio = np.maximum(div(seen.channel_peak, threshold, dtype), dtype.type(1))
    root = power(np.atleast_1d(mul(ratio, threshold, dtype)), 0.5)
    scale = div(root, power(w, 0.5), dtype)
    scale = to_dtype(np.maximum(as_float32(scale), np.float32(SMALLEST)), dtype)
    return np.where(ratio > dtype.type(1), scale, dtype.type(1))


def search_scale(
    seen: Statistics,
    weights: list[NDArray],
    loss: Callable[[NDArray], float],
    points: int = POINTS,
) -> NDArray:
    """Return the scale of m2 for a norm and its linears, [k]; the first of equal losses wins.

    Args: weights [n_i, k]; loss: of a scale [k], the producer's is `suppression_loss.OutputLoss`.
    Source: math.md 8.1 (m2).
    """
    w = weight_scale(weights)
    if as_float32(mul(seen.std, 3, seen.std.dtype)) >= as_float32(seen.peak):
        return smooth_scale(seen.absmax, w, 0.5)
    best, smallest = np.ones_like(w), np.inf
    for step in range(points):
        scale = threshold_scale(seen, w, step, points)
        value = loss(scale)
        if value < smallest:
            best, smallest = scale, value
    return best
