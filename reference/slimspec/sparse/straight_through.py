"""Rounding as a trainable quantizer writes it: v + (round(v) - v).

Exact for finite values, with two visible traits: a negative value that rounds to zero gives +0, and
an infinite one (a scale of zero) gives NaN, which the cast to int8 turns into 0.

Source: facts/math.md 7.1 (rounding is STE, then clamp, then int8).
"""

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import add, as_float32, div, round_half_even, saturate_int8, sub, to_dtype


def round_straight_through(x: NDArray) -> NDArray:
    """Return v + (round_half_even(v) - v), each operation rounded to the dtype of `x`.

    Args: x float32, float16 or bfloat16. Returns: same dtype and shape.
    """
    rounded = to_dtype(round_half_even(as_float32(x)), x.dtype)
    return add(sub(rounded, x, x.dtype), x, x.dtype)


def symmetric_codes(x: NDArray, scale: NDArray, bound: int) -> NDArray[np.int8]:
    """Return clip(round_straight_through(x / scale), ±bound) as int8; NaN becomes 0.

    Args: x, scale of one dtype, broadcast; a scale of 0 gives 0. Returns: int8, shape of `x`.
    """
    rounded = as_float32(round_straight_through(div(x, scale, x.dtype)))
    with np.errstate(invalid="ignore"):
        wide = np.clip(rounded, np.float32(-bound), np.float32(bound))
    return saturate_int8(np.where(np.isnan(wide), np.float32(0), wide))
