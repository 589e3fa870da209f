"""bfloat16 (1 sign, 8 exponent, 7 mantissa bits) as uint16 bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .policy import Overflow, require_overflow
from .rounding import shift_right_half_even

SIGN = np.uint32(0x80000000)
INF = np.uint32(0x7F800000)
MAX_BITS = np.uint16(0x7F7F)  # (2 - 2^-7)·2^127
NAN_BITS = np.uint16(0x7FC0)


def bf16_to_float32(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Widen: a bfloat16 is the upper half of a float32. Args: bits uint16. Returns: float32."""
    return (np.asarray(bits, np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)


def float32_to_bf16(x: NDArray[np.float32], overflow: Overflow = "inf") -> NDArray[np.uint16]:
    """Narrow with one rounding to nearest, ties to even, in the 16 dropped bits.

    A carry out of the mantissa steps the exponent, so that values past the maximum become inf.
    Args: x float32; overflow "inf" (IEEE; NaN -> quiet NaN with its sign) or "saturate"
    (inf and overflow -> ±max, NaN -> 0). Returns: uint16 bits, shape of x.
    Raises: ValueError for another overflow policy. Source: math.md 1.8; integer_semantics B.0.
    """
    require_overflow(overflow)
    u = np.asarray(x, np.float32).view(np.uint32)
    sign, magnitude = u & SIGN, u & ~SIGN
    nan = magnitude > INF
    rounded = shift_right_half_even(np.where(nan, INF, magnitude), 16).astype(np.uint16)
    if overflow == "saturate":
        rounded = np.where(nan, np.uint16(0), np.minimum(rounded, MAX_BITS))
        sign = np.where(nan, np.uint32(0), sign)
    else:
        rounded = np.where(nan, NAN_BITS, rounded)
    return rounded | (sign >> np.uint32(16)).astype(np.uint16)
