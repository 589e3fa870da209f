"""Smoothing scales per input channel: what is divided out of activations and put into weights.

    S(a, w) = max(a^alpha / w^beta, 1e-5),   a = max|x|, w = max over rows of |W|

Every step rounds to the dtype of its operands, except the clamps, which are float32 (math.md 8.0).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.numeric import as_float32, div, to_dtype
from slimspec.numeric.power import power
from slimspec.numeric.reduction import column_mean

SMALLEST = 1e-5


def absmax(x: NDArray) -> NDArray:
    """Return max|x| of every column. Args: x [..., k]. Returns: [k], dtype of x."""
    flat = np.abs(as_float32(x)).reshape(-1, x.shape[-1])
    return to_dtype(flat.max(axis=0), x.dtype)


def _at_least(x: NDArray, smallest: float, dtype: DTypeLike) -> NDArray:
    return to_dtype(np.maximum(as_float32(x), np.float32(smallest)), dtype)


def weight_scale(weights: Sequence[NDArray], dtype: DTypeLike | None = None) -> NDArray:
    """Return max|W| of every column over all linears of a group, at least 1e-5.

    Args: weights, each [n_i, k] of one dtype; dtype of the result (default: theirs).
    Returns: [k]. Source: math.md 8.0; msmodelslim processor/anti_outlier/common/
    scale_computation.py:53-80.
    """
    peaks = np.stack([as_float32(absmax(w)) for w in weights])
    return _at_least(peaks.max(axis=0), SMALLEST, dtype or weights[0].dtype)


def signed_weight_scale(w: NDArray) -> NDArray:
    """Return max W (signed!) of every column, at least 1e-5.

    What V1 iter and smooth_quant use for OV, up-down and linear-linear pairs: they forget the
    magnitude (math.md 15, D-3). Args: w [n, k]. Returns: [k], dtype of w.
    """
    return _at_least(as_float32(w).max(axis=0), SMALLEST, w.dtype)


def smooth_scale(
    a: NDArray,
    w: NDArray,
    alpha: float,
    beta: float | None = None,
    smallest: float = SMALLEST,
) -> NDArray:
    """Return S = max(a^alpha / w^beta, smallest); beta defaults to 1 - alpha.

    Args: a [k] activation statistic, w [k] weight scale. Returns: [k], dtype of a.
    Source: math.md 8.0 (m1: alpha .5, m4: .9), 8.2; scale_computation.py:203-254.
    """
    beta = 1 - alpha if beta is None else beta
    quotient = div(power(a, alpha), power(w, beta), a.dtype)
    return _at_least(quotient, smallest, a.dtype)


def grouped_mean(scale: NDArray, heads: int, kv_heads: int) -> tuple[NDArray, NDArray]:
    """Join the scales of the query heads that share a key/value head by their mean.

    Args: scale [heads·d]. Returns: o [heads·d] and v [kv_heads·d], dtype of scale.
    Raises: ValueError if the sizes do not divide. Source: math.md 8.1 (GQA), 8.2.
    """
    view = _by_kv_head(scale, heads, kv_heads)  # (kv_heads, group, d)
    v = np.stack([column_mean(group) for group in view])  # (kv_heads, d)
    return _spread(v, heads // kv_heads), v.reshape(-1)


def grouped_max_scale(
    a: NDArray, w: NDArray, alpha: float, beta: float, heads: int, kv_heads: int
) -> tuple[NDArray, NDArray]:
    """Join a and w over the sharing query heads by their maximum, then take S.

    Args: a, w [heads·d]. Returns: o [heads·d] and v [kv_heads·d].
    Raises: ValueError if the sizes do not divide. Source: math.md 8.1 (m6), 8.2.
    """
    peak_a = _by_kv_head(a, heads, kv_heads).max(axis=1)  # (kv_heads, d)
    peak_w = _by_kv_head(w, heads, kv_heads).max(axis=1)
    v = smooth_scale(peak_a, peak_w, alpha, beta)
    return _spread(v, heads // kv_heads), v.reshape(-1)


def _by_kv_head(x: NDArray, heads: int, kv_heads: int) -> NDArray:
    """Return x [heads·d] as [kv_heads, heads / kv_heads, d]."""
    if kv_heads < 1 or heads % kv_heads or x.size % heads:
        raise ValueError(f"{x.size} scales do not divide into {heads} heads over {kv_heads}")
    return x.reshape(kv_heads, heads // kv_heads, -1)


def _spread(v: NDArray, group: int) -> NDArray:
    """Return [kv_heads, d] repeated for each query head, flat."""
    return np.repeat(v, group, axis=0).reshape(-1)
