"""SSZ (V1): the symmetric per-channel scale by alternating least squares.

    q = clip(round_half_even(w / s));   s = Σ w·q / max(Σ q², 1e-30);   repeat

The best scale of every row is kept; the codes continue from the current one. Arithmetic is in the
dtype of the weight and sums are in torch's order, so scale and codes are the producer's bits. The
producer registers only the symmetric form (int8 and int4), although its loop also knows offsets.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.numeric import add, as_float32, div, mul, sub, to_dtype
from slimspec.numeric.reduction import cascade_mean, cascade_sum

from .affine import dequantize, quantize
from .minmax import IntegerWeight, quantize_minmax

STEPS = 50
_CONVERGED = np.float32(1e-10)
_SMALLEST_ERROR = np.float32(1e-4)  # denominator of the relative improvement
_SMALLEST_SUM = np.float32(1e-30)  # vanishes in float16: a row of zeros then has scale NaN


class _Fit(NamedTuple):
    """A scale [n, 1], its codes int8 [n, k] and its mean squared error [n, 1]."""

    scale: NDArray
    q: NDArray[np.int8]
    error: NDArray


def quantize_ssz(
    w: NDArray,
    *,
    bits: int = 8,
    steps: int = STEPS,
    error_dtype: DTypeLike = np.float32,
    name: str = "weight",
) -> IntegerWeight:
    """Quantize the rows of `w` symmetrically with a scale improved from min-max.

    Stops after `steps` rounds, or when no row has both (best - m)/max(best, 1e-4) >= 1e-10 and
    |best - m| >= 1e-10, m being the mean squared error of the round. In float16 1e-10 is 0, so that
    it stops only when every row got worse. A row keeps the scale of the smallest m. Codes go to
    [-2^(bits-1), 2^(bits-1) - 1].
    Args: w [n, k] float32, float16 or bfloat16; steps >= 1 (ext.step of the producer);
        error_dtype of the squared errors, which decide: the dtype of the activations that pass
        while the weight is made, float32 where none do (`schemes.weights.ssz_weight`).
    Returns: q int8 [n, k], scale and offset (zeros) [n, 1], dtype of w. A row of zeros keeps EPS;
        in float16 its scale is NaN and its codes 0, and so are those of rows whose sums overflow.
    Raises: ValueError for NaN, Inf or a bad shape.
    Source: math.md 3.2; msmodelslim core/quantizer/impl/ssz.py:62-195.
    """
    start = quantize_minmax(w, bits=bits, variant="v1", name=name)
    current = best = _fit(w, start.scale, bits, error_dtype)
    for _ in range(steps):
        current = _fit(w, _least_squares(w, current.q), bits, error_dtype)
        if not _improving(best.error, current.error):
            break
        better = (as_float32(current.error) < as_float32(best.error)).astype(np.float32)
        best = best._replace(
            scale=_select(better, current.scale, best.scale),
            error=_select(better, current.error, best.error),
        )
    zero = np.zeros_like(best.scale)
    return IntegerWeight(quantize(w, best.scale, zero, bits=bits, name=name), best.scale, zero)


def _fit(w: NDArray, scale: NDArray, bits: int, error_dtype: DTypeLike) -> _Fit:
    zero = np.zeros_like(scale)
    q = quantize(w, scale, zero, bits=bits)
    residual = np.abs(sub(w, dequantize(q, scale, zero), error_dtype))
    return _Fit(scale, q, cascade_mean(mul(residual, residual, error_dtype))[:, None])


def _least_squares(w: NDArray, q: NDArray[np.int8]) -> NDArray:
    """Return Σ w·q / max(Σ q², 1e-30) per row, [n, 1]: the best scale for fixed codes."""
    codes = to_dtype(q, w.dtype)
    smallest = to_dtype(_SMALLEST_SUM, w.dtype)
    norm = np.maximum(cascade_sum(mul(codes, codes, w.dtype)), smallest)
    return div(cascade_sum(mul(w, codes, w.dtype)), norm, w.dtype)[:, None]


def _improving(best: NDArray, error: NDArray) -> bool:
    """Tell whether some row gained, relatively and absolutely; NaN counts as a gain."""
    gain = sub(best, error, best.dtype)
    bounded = to_dtype(np.maximum(as_float32(best), _SMALLEST_ERROR), best.dtype)
    relative = as_float32(div(gain, bounded, best.dtype))
    converged = as_float32(to_dtype(_CONVERGED, best.dtype))
    settled = (relative < converged) | (np.abs(as_float32(gain)) < converged)
    return not settled.all()


def _select(better: NDArray[np.float32], new: NDArray, old: NDArray) -> NDArray:
    """Return old·(1 - better) + new·better: a choice that lets NaN of either side through."""
    dtype = new.dtype
    kept = mul(old, np.float32(1) - better, dtype)
    return add(kept, mul(new, better, dtype), dtype)
