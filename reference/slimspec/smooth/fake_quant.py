"""The int8 quantizers inside the scale searches: no smallest scale, no forced zero.

They stand in for the real quantizer while candidates are compared and differ from it in three ways:
the scale has no lower bound (a row of zeros gives NaN), ±127 is the symmetric range, and the
asymmetric form neither widens its range to zero nor clips (math.md 8.1 m6, 8.2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import add, as_float32, div, model_dtype, mul, round_half_even, sub, to_dtype
from slimspec.quantize.affine import EPS


def row_codes(x: NDArray, bits: int = 8) -> tuple[NDArray, NDArray]:
    """Return clip(round_half_even(x / s), ±top) per row, s = max|x| / top, top = 2^(bits-1) - 1.

    Args: x [m, k] float32/float16/bfloat16. Returns: codes [m, k] and s [m, 1], dtype of x; a row
    of zeros has s = 0 and NaN codes. Source: math.md 8.1 (m6); legacy simple_quant.
    """
    dtype = model_dtype(x.dtype)
    top = 2 ** (bits - 1) - 1
    scale = div(np.abs(as_float32(x)).max(axis=-1, keepdims=True), top, dtype)
    q = as_float32(round_half_even(div(x, scale, dtype)))
    return to_dtype(np.clip(q, np.float32(-top), np.float32(top)), dtype), scale


def fake_int8_rows(x: NDArray) -> NDArray:
    """Return s·clip(round_half_even(x / s), ±127) with one s = max|x| / 127 per row.

    Args and Returns: as `row_codes`. Source: math.md 8.1 (m6, weights), 8.2 (flex, both sides).
    """
    q, scale = row_codes(x)
    return mul(q, scale, scale.dtype)


def fake_int8_tensor(x: NDArray) -> NDArray:
    """Return (q - z)·s, q = round_half_even(x / s + z), over the whole tensor, unclipped.

    s = max((max - min) / 255, EPS), z = round_half_even(-min / s) - 128. min and max are not
    widened to zero. Args: x float32/float16/bfloat16. Returns: same shape and dtype.
    Source: math.md 8.1 (m6, activations).
    """
    dtype = model_dtype(x.dtype)
    wide = as_float32(x)
    low, high = wide.min(), wide.max()
    scale = to_dtype(np.maximum(as_float32(div(sub(high, low, dtype), 255, dtype)), EPS), dtype)
    zero = sub(round_half_even(div(-low, scale, dtype)), 128, dtype)
    q = round_half_even(add(div(x, scale, dtype), zero, dtype))
    return mul(sub(q, zero, dtype), scale, dtype)
