"""Static activation ranges from the smallest and largest value of each calibration batch.

Three ways to join the batches; none of them is an exponential moving average (math.md 2.1, 2.7).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, model_dtype, to_dtype
from slimspec.numeric.reduction import cascade_mean


def batch_extrema(batches: Iterable[NDArray]) -> tuple[NDArray, NDArray]:
    """Return the minimum and maximum of each batch.

    Args: batches of any shapes, one dtype (float32, float16, bfloat16). Returns: lo, hi [batches]
    of that dtype; NaN propagates. Raises: ValueError without a batch, or for an empty one.
    """
    arrays = list(batches)
    if not arrays:
        raise ValueError("no calibration batch: a static range needs at least one")
    if any(x.size == 0 for x in arrays):
        raise ValueError("a calibration batch is empty")
    dtype = model_dtype(arrays[0].dtype)
    lo = np.array([as_float32(x).min() for x in arrays], np.float32)
    hi = np.array([as_float32(x).max() for x in arrays], np.float32)
    return to_dtype(lo, dtype), to_dtype(hi, dtype)


def mean_of_extrema(batches: Iterable[NDArray]) -> tuple[NDArray, NDArray]:
    """Average the extrema over the batches as the "v0" observer (act_method 1) does.

    mean = (x_0 + x_1 + ...) / N in float32, added in torch's order, rounded once to the dtype.

    Args and Raises: as `batch_extrema`. Returns: lo, hi, 0-d, dtype of the batches.
    Source: math.md 2.1.
    """
    lo, hi = batch_extrema(batches)
    return cascade_mean(lo), cascade_mean(hi)


def running_extrema(batches: Iterable[NDArray]) -> tuple[NDArray, NDArray]:
    """Return the extrema over all batches ("v1", aggregation_type max, its default).

    Args and Raises: as `batch_extrema`. Returns: lo, hi, 0-d, dtype of the batches.
    Source: math.md 2.1, 2.7.
    """
    lo, hi = batch_extrema(batches)
    dtype = lo.dtype
    return to_dtype(as_float32(lo).min(), dtype), to_dtype(as_float32(hi).max(), dtype)


def float64_mean_of_extrema(batches: Iterable[NDArray]) -> tuple[NDArray, NDArray]:
    """Average the extrema in float64 ("v1", aggregation_type mean), then narrow to the dtype.

    Args and Raises: as `batch_extrema`. Returns: lo, hi, 0-d, dtype of the batches.
    Source: math.md 2.1.
    """
    lo, hi = batch_extrema(batches)
    return _mean_float64(lo), _mean_float64(hi)


def _mean_float64(x: NDArray) -> NDArray:
    total = np.cumsum(as_float32(x), dtype=np.float64)[-1]
    return to_dtype(np.float32(total / np.float64(x.size)), x.dtype)
