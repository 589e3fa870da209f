"""Requantize accumulators to int8 through the 9-bit intermediate.

    i9 = saturate9(rint(fp32(acc + quant_bias)·scale))     int16 in [-256, 255]
    q  = saturate8(i9 + saturate9(rint(offset)))           int8

The saturation to 9 bits before the offset is observable: with offset −3 an accumulator that
scales to 1875 gives 255 − 3 = 252, hence 127, and one that scales to −254.125 gives −257.

Source: integer_semantics.md B.2 (worked requantization).
"""

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import round_half_even, saturate_int8, saturate_int9

from .deq_word import parse_quant_param
from .dequantize import add_int32_bias, read_scale, scaled


def requantize(
    acc: NDArray[np.int32],
    scale: NDArray,
    offset: NDArray | float | None = None,
    quant_bias: NDArray[np.int32] | None = None,
) -> NDArray[np.int8]:
    """q = saturate8(saturate9(rint(fp32(acc + quant_bias)·scale)) + offset).

    Args:
        acc: (..., n) int32.
        scale: (n,) or scalar float32, or int64/uint64 words (FP19 scale).
        offset: (n,) or scalar, rounded half to even and saturated to 9 bits; None takes the
            9-bit offset of the words, or 0 for a float scale.
        quant_bias: (n,) int32 or None.

    Returns:
        (..., n) int8.

    Raises:
        TypeError, ValueError: dtype or shape, or a scale or offset that makes NaN.
    """
    y = scaled(add_int32_bias(acc, quant_bias), read_scale(scale))
    intermediate = saturate_int9(round_half_even(y))
    return saturate_int8(np.add(intermediate, _offset(np.asarray(scale), offset), dtype=np.int16))


def _offset(scale: NDArray, offset: NDArray | float | None) -> NDArray[np.int16]:
    if offset is not None:
        return saturate_int9(round_half_even(np.asarray(offset, np.float32)))
    if scale.dtype.kind in "iu":
        return parse_quant_param(scale).offset.astype(np.int16).reshape(-1)
    return np.zeros(1, np.int16)
