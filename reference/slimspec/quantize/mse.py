"""MSE search: a plain grid over shrunken ranges, as a reference.

The tool has no weight method of this name: it minimizes squared errors only inside SSZ, AWQ,
AutoRound and the MX rounding (math.md 3.8). This grid is ours and is the yardstick for those:

    scale_i = qparams(min·(1 - i/points), max·(1 - i/points)),  i = 0 .. points·(1 - smallest) - 1

and every row keeps the scale of the smallest mean squared error; of equal ones the widest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, mul, sub
from slimspec.numeric.reduction import cascade_mean

from .affine import Variant, dequantize, qparams, quantize, require_finite
from .minmax import IntegerWeight

POINTS = 100
SMALLEST = 0.2  # share of the range that the last candidate keeps


def squared_error(w: NDArray, scale: NDArray, offset: NDArray, bits: int) -> NDArray:
    """Return the mean squared error of each row under a scale, [n, 1] in the dtype of w.

    Args: w [n, k]; scale, offset [n, 1].
    """
    q = quantize(w, scale, offset, bits=bits)
    error = sub(w, dequantize(q, scale, offset), w.dtype)
    return cascade_mean(mul(error, error, w.dtype))[:, None]


def quantize_mse(
    w: NDArray,
    *,
    bits: int = 8,
    symmetric: bool = True,
    variant: Variant = "v1",
    points: int = POINTS,
    smallest: float = SMALLEST,
    name: str = "weight",
) -> IntegerWeight:
    """Quantize the rows of `w` with the best of a grid of shrunken ranges.

    Args: w [n, k] float32/float16/bfloat16; points: steps of the grid; smallest: see SMALLEST.
    Returns: q int8 [n, k] in [-2^(bits-1), 2^(bits-1) - 1]; scale, offset [n, 1], dtype of w.
    Raises: ValueError for NaN or Inf, or a grid without a point.
    """
    require_finite(w, name)
    if points < 1 or not 0 <= smallest < 1:
        raise ValueError(
            f"grid: expected points >= 1, 0 <= smallest < 1, found {points}, {smallest}"
        )
    lo, hi = w.min(axis=1, keepdims=True), w.max(axis=1, keepdims=True)
    best: tuple[NDArray, NDArray, NDArray] | None = None
    for i in range(int(np.ceil(points * (1 - smallest)))):
        share = 1 - i / points
        ends = (mul(end, share, w.dtype) for end in (lo, hi))
        scale, offset = qparams(*ends, bits=bits, symmetric=symmetric, variant=variant, name=name)
        error = squared_error(w, scale, offset, bits)
        if best is None:
            best = (scale, offset, error)
            continue
        better = as_float32(error) < as_float32(best[2])
        pairs = zip((scale, offset, error), best, strict=True)
        best = tuple(np.where(better, new, old) for new, old in pairs)  # type: ignore[assignment]
    assert best is not None  # i = 0 always runs
    scale, offset, _ = best
    return IntegerWeight(quantize(w, scale, offset, bits=bits, name=name), scale, offset)
