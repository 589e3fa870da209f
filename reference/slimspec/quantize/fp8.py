"""FP8 weights (WFP8AFP8_DYNAMIC): E4M3 values with one float scale per row.

scale = max(amax, 1e-12) / 448,  q = e4m3(clip(x / scale, ±448))
"""

from __future__ import annotations

from typing import NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from slimspec.numeric.arithmetic import add, as_float32, div, model_dtype, mul, to_dtype
from slimspec.numeric.fp8 import E4M3_MAX, float32_to_e4m3

from .affine import require_finite

_SMALLEST = 1e-12  # of amax; vanishes in float16, where a row of zeros then has scale 0


class Fp8Weight(NamedTuple):
    """What the files hold: q float8_e4m3fn [n, k], scale float32 [n, 1], offset float32 zeros."""

    q: NDArray
    scale: NDArray[np.float32]
    offset: NDArray[np.float32]


def fp8_scale(amax: NDArray) -> NDArray:
    """Return max(amax, 1e-12) / 448, the bound and the quotient rounded to the dtype of amax.

    Args: amax float32, float16 or bfloat16, any shape. Returns: same dtype and shape.
    Source: math.md 12; msmodelslim ir/api/impl/fp_quantization.py:34-52.
    """
    dtype = model_dtype(amax.dtype)
    bounded = np.maximum(as_float32(amax), as_float32(to_dtype(_SMALLEST, dtype)))
    return div(bounded, E4M3_MAX, dtype)


def fp8_values(x: NDArray, scale: NDArray) -> NDArray:
    """Return clip(x / scale + 0, ±448) in the dtype of x, not yet rounded to E4M3.

    The sum with the zero offset turns -0 into 0. Where the scale is 0, zeros give NaN.
    Args: x and scale in D, broadcast. Returns: D. Source: as `fp8_scale`, lines 55-78.
    """
    dtype = model_dtype(x.dtype)
    moved = as_float32(add(div(x, scale, dtype), 0.0, dtype))
    return to_dtype(np.clip(moved, -E4M3_MAX, E4M3_MAX), dtype)


def to_e4m3(values: NDArray) -> NDArray:
    """Round to E4M3, ties to even. Args: values in D. Returns: float8_e4m3fn, same shape."""
    return float32_to_e4m3(as_float32(values)).view(ml_dtypes.float8_e4m3fn)


def quantize_fp8(w: NDArray, name: str = "weight") -> Fp8Weight:
    """Return the tensors of a weight with one scale per row, computed in the dtype of `w`.

    Args: w [n, k] float32, float16 or bfloat16. Returns: `Fp8Weight`. Raises: ValueError for NaN
    or infinity (with `name` and index); TypeError for other dtypes.
    Source: math.md 12; formats.md 5.14 MX-008.
    """
    model_dtype(w.dtype)
    require_finite(w, name)
    scale = fp8_scale(np.abs(w).max(axis=1, keepdims=True))  # (n, 1)
    wide = as_float32(scale)
    return Fp8Weight(to_e4m3(fp8_values(w, scale)), wide, np.zeros_like(wide))


def dequantize_fp8(values: NDArray, scale: NDArray) -> NDArray:
    """Return values · scale in the dtype of `scale`.

    Args: values float8_e4m3fn, or those of `fp8_values`; scale in D, broadcast. Returns: D.
    """
    dtype = model_dtype(scale.dtype)
    wide = values if values.dtype == dtype else np.asarray(values, np.float32)
    return mul(wide, scale, dtype)
