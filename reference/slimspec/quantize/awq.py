"""AWQ: input scales from a grid over powers of the mean activation.

    s_i = max(mean|x|^(i/n), 1e-4) / sqrt(max · min of it),  i = 0 .. n - 1

The scale of the smallest loss wins; of equal losses the first one (math.md 3.5, 8.1 m3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import add, as_float32, div, mul, sub, to_dtype
from slimspec.numeric.power import power
from slimspec.numeric.reduction import cascade_mean, column_mean

from .affine import Variant, dequantize
from .minmax import quantize_minmax

POINTS = 20
SMALLEST = np.float32(1e-4)


def mean_magnitude(x: NDArray) -> NDArray:
    """Return mean|x| of every column. Args: x [..., k]. Returns: [k], dtype of x."""
    return column_mean(np.abs(x.reshape(-1, x.shape[-1])))


def running_mean_magnitude(batches: Sequence[NDArray]) -> NDArray:
    """Return mean|x| of every column over batches, joined one by one as the one-click service does.

        m = (m·t + m'·t') / (t + t')

    Args: batches: x [..., k] each. Returns: [k], dtype of x.
    Source: math.md 3.5; msmodelslim processor/anti_outlier/awq/awq_stats_collector.py.
    """
    mean, dtype, count = mean_magnitude(batches[0]), batches[0].dtype, _rows(batches[0])
    for x in batches[1:]:
        more = _rows(x)
        total = add(mul(mean, count, dtype), mul(mean_magnitude(x), more, dtype), dtype)
        count += more
        mean = div(total, count, dtype)
    return mean


def _rows(x: NDArray) -> int:
    return x.size // x.shape[-1]


def awq_scale(mean: NDArray, ratio: float) -> NDArray:
    """Return the candidate scale of one grid point; entries that are not finite become 1.

    Args: mean [k] of mean|x|; ratio in [0, 1). Returns: [k], dtype of mean.
    Source: math.md 3.5; msmodelslim processor/anti_outlier/awq/best_scales_search.py:122-127.
    """
    dtype = mean.dtype
    smallest = as_float32(to_dtype(SMALLEST, dtype))
    scale = to_dtype(np.maximum(as_float32(power(mean, ratio)), smallest), dtype)
    extent = mul(scale.max(), scale.min(), dtype)
    scale = div(scale, power(np.atleast_1d(extent), 0.5), dtype)
    return np.where(np.isfinite(scale), scale, dtype.type(1))


def fake_scaled(
    w: NDArray, scale: NDArray, *, bits: int = 8, symmetric: bool = True, variant: Variant = "v1"
) -> NDArray:
    """Return Q(W·s) / s: what a quantized weight looks like after its scale is undone.

    Q is min-max per row. Args: w [n, k]; scale [k]. Returns: [n, k], dtype of w.
    Source: math.md 3.5, 8.1 (m3).
    """
    scaled = mul(w, scale, w.dtype)
    made = quantize_minmax(scaled, bits=bits, symmetric=symmetric, variant=variant)
    return div(dequantize(made.q, made.scale, made.offset), scale, w.dtype)


def search_awq(
    mean: NDArray, loss: Callable[[NDArray], float], points: int = POINTS
) -> tuple[NDArray, float]:
    """Return the scale of the smallest loss, and that loss.

    Args: mean [k] of mean|x|; loss of a scale [k]. Raises: ValueError if no loss is finite.
    Source: math.md 3.5, 8.1 (m3).
    """
    best, smallest = None, np.inf
    for i in range(points):
        scale = awq_scale(mean, i / points)
        value = loss(scale)
        if value < smallest:
            best, smallest = scale, value
    if best is None:
        raise ValueError("AWQ: no candidate scale has a finite loss")
    return best, smallest


def linear_loss(
    x: NDArray,
    weights: list[NDArray],
    *,
    bits: int = 8,
    symmetric: bool = True,
    variant: Variant = "v0",
) -> Callable[[NDArray], float]:
    """Return the loss of m3: Σ over the linears of mean((x·Wᵀ - x·Q(W·s)ᵀ/s)²), bias left out.

    Args: x [t, k]; weights [n_i, k], one dtype. Source: math.md 8.1 (m3).
    """
    rows = x.reshape(-1, x.shape[-1])

    def product(w: NDArray) -> NDArray:
        return to_dtype(as_float32(rows) @ as_float32(w).T, rows.dtype)

    golden = [product(w) for w in weights]

    def loss(scale: NDArray) -> float:
        total = np.zeros((), x.dtype)
        for w, y in zip(weights, golden, strict=True):
            fake = fake_scaled(w, scale, bits=bits, symmetric=symmetric, variant=variant)
            error = sub(y, product(fake), x.dtype)
            squared = mul(error, error, x.dtype).reshape(-1)
            total = add(total, cascade_mean(squared), x.dtype)
        return float(total)

    return loss
