"""range_parm: how far the extremes of a linear's input lie out, in standard deviations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import add, as_float32, model_dtype, sub

from .minmax import batch_extrema

BATCHES = 5  # the producer looks at no more


def range_parm(batches: Sequence[NDArray]) -> float:
    """Return max(|max|, |min|) / std over the first five batches; larger is more sensitive.

    max and min are over all batches; std is the largest, over the batches, unbiased standard
    deviation of x - (c_max + c_min), where c_max and c_min are the channel extremes of that batch:
    the shift is not halved. A std of 0 gives inf (or nan for zeros).
    Args: batches [..., k] float32/float16/bfloat16. Returns: float.
    Raises: ValueError without batches. Source: math.md 10.1 (quant_tools.py:477, 498-504).
    """
    first = list(batches)[:BATCHES]
    low, high = batch_extrema(first)
    peak = max(abs(float(as_float32(low).min())), abs(float(as_float32(high).max())))
    spread = max(_shifted_std(x) for x in first)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.float32(peak) / np.float32(spread))


def _shifted_std(x: NDArray) -> np.float32:
    dtype = model_dtype(x.dtype)
    rows = x.reshape(-1, x.shape[-1])
    wide = as_float32(rows)
    shift = add(wide.max(axis=0), wide.min(axis=0), dtype)
    shifted = as_float32(sub(rows, shift, dtype)).astype(np.float64)
    return np.float32(shifted.std(ddof=1)) if shifted.size > 1 else np.float32(0)
