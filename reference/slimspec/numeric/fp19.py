"""FP19 (1 sign, 8 exponent, 10 mantissa bits): what the hardware reads of a deq_scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .rounding import shift_right_half_even

KEPT = np.uint32(0xFFFFE000)  # bits 13..31 of the float32

_SIGN, _INF, _MIN_NORMAL = np.uint32(0x80000000), np.uint32(0x7F800000), np.uint32(0x00800000)


def truncate_fp19(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Clear the low 13 mantissa bits: bits(x) & 0xFFFFE000, a rounding towards zero.

    As bits, so a NaN whose payload is only in the low bits becomes inf.
    Args: x float32. Returns: float32, same shape. Source: integer_semantics B.1.
    """
    return (np.asarray(x, np.float32).view(np.uint32) & KEPT).view(np.float32)


def round_fp19(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to nearest even at bit 13; float32 subnormals become ±0 (round_mode=1).

    Args: x float32. Returns: float32, same shape; overflow becomes inf, NaN stays NaN.
    Source: integer_semantics B.1.
    """
    u = np.asarray(x, np.float32).view(np.uint32)
    sign, magnitude = u & _SIGN, u & ~_SIGN
    nan = magnitude > _INF
    rounded = shift_right_half_even(np.where(nan, _INF, magnitude), 13) << np.uint32(13)
    rounded = np.where(magnitude < _MIN_NORMAL, np.uint32(0), rounded)
    return (sign | np.where(nan, magnitude | np.uint32(0x400000), rounded)).view(np.float32)
