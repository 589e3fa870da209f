"""IEEE binary16 (1 sign, 5 exponent, 10 mantissa bits) as uint16 bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .policy import Overflow, require_overflow
from .rounding import shift_right_half_even

REBIAS = np.uint32(127 - 15)  # exponent biases of float32 and fp16
TINY = np.float32(2.0**-24)  # the smallest subnormal
MAX_BITS = np.uint16(0x7BFF)  # 65504
INF_BITS = np.uint16(0x7C00)
NAN_BITS = np.uint16(0x7E00)

_SIGN, _INF = np.uint32(0x80000000), np.uint32(0x7F800000)
_IMPLICIT, _MANTISSA = np.uint32(0x800000), np.uint32(0x7FFFFF)


def fp16_to_float32(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Widen exactly: (-1)^s · 2^(e-15) · 1.m, subnormals (e = 0) s · m · 2^-24.

    Args: bits uint16. Returns: float32, same shape; NaN keeps its payload.
    """
    u = np.asarray(bits, np.uint16).astype(np.uint32)
    sign = (u & np.uint32(0x8000)) << np.uint32(16)
    exponent, mantissa = (u >> np.uint32(10)) & np.uint32(31), u & np.uint32(0x3FF)
    fraction = mantissa << np.uint32(13)
    normal = ((exponent + REBIAS) << np.uint32(23)) | fraction
    subnormal = (mantissa.astype(np.float32) * TINY).view(np.uint32)
    special = _INF | fraction
    magnitude = np.where(exponent == 0, subnormal, np.where(exponent == 31, special, normal))
    return (sign | magnitude).view(np.float32)


def _round_magnitude(magnitude: NDArray[np.uint32]) -> NDArray[np.uint16]:
    """Round float32 magnitude bits (no NaN) to fp16 magnitude bits, overflow to inf.

    Normal: drop 13 bits and rebias. Subnormal: the significand with its implicit bit loses
    13 + (113 - e) bits, 25 at most, where everything rounds to zero.
    """
    exponent = magnitude >> np.uint32(23)
    normal = shift_right_half_even(magnitude, 13) - (REBIAS << np.uint32(10))
    missing = np.uint32(113 + 13) - np.minimum(exponent, np.uint32(112))
    significand = _IMPLICIT | (magnitude & _MANTISSA)
    subnormal = shift_right_half_even(significand, np.minimum(missing, np.uint32(25)))
    rounded = np.where(exponent < 113, subnormal, normal)
    return np.minimum(rounded, INF_BITS).astype(np.uint16)


def float32_to_fp16(x: NDArray[np.float32], overflow: Overflow = "inf") -> NDArray[np.uint16]:
    """Narrow with one rounding to nearest, ties to even; subnormals are kept.

    Args: x float32; overflow "inf" (IEEE; NaN -> quiet NaN with its sign) or "saturate"
    (inf and overflow -> ±65504, NaN -> 0). Returns: uint16 bits, shape of x.
    Raises: ValueError for another overflow policy. Source: integer_semantics B.0, B.11.
    """
    require_overflow(overflow)
    u = np.asarray(x, np.float32).view(np.uint32)
    sign, magnitude = u & _SIGN, u & ~_SIGN
    nan = magnitude > _INF
    rounded = _round_magnitude(np.where(nan, _INF, magnitude))
    if overflow == "saturate":
        rounded = np.where(nan, np.uint16(0), np.minimum(rounded, MAX_BITS))
        sign = np.where(nan, np.uint32(0), sign)
    else:
        rounded = np.where(nan, NAN_BITS, rounded)
    return rounded | (sign >> np.uint32(16)).astype(np.uint16)
