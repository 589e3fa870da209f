"""FP8 E4M3FN (1 sign, 4 exponent, 3 mantissa bits, no infinity) as uint8 codes."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .rounding import shift_right_half_even

E4M3_MAX = np.float32(448)  # code 0x7E; 0x7F and 0xFF are the two NaN
NAN_CODE = np.uint8(0x7F)

# "saturate": past ±448 and infinity give ±448. "nan": what rounds past 448 becomes NaN, as a plain
# cast does. NaN stays NaN under both: FP8 has a code for it.
Fp8Overflow = Literal["saturate", "nan"]

_SIGN, _INF = np.uint32(0x80000000), np.uint32(0x7F800000)
_IMPLICIT, _MANTISSA = np.uint32(0x800000), np.uint32(0x7FFFFF)
_REBIAS = np.uint32(127 - 7)
_MAX_CODE = np.uint32(0x7E)


def e4m3_to_float32(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Decode: (-1)^s · 2^(e-7) · 1.m, subnormals (e = 0) m · 2^-9, code 0x7F and 0xFF NaN.

    Args: codes uint8. Returns: float32, same shape.
    """
    u = np.asarray(codes, np.uint8).astype(np.uint32)
    sign, exponent, mantissa = (u & np.uint32(0x80)) << np.uint32(24), (u >> 3) & 15, u & 7
    subnormal = (mantissa.astype(np.float32) * np.float32(2.0**-9)).view(np.uint32)
    normal = ((exponent + _REBIAS) << np.uint32(23)) | (mantissa << np.uint32(20))
    magnitude = np.where(exponent == 0, subnormal, normal)
    magnitude = np.where((u & 0x7F) == 0x7F, np.uint32(0x7FC00000), magnitude)
    return (sign | magnitude).view(np.float32)


def float32_to_e4m3(
    x: NDArray[np.float32], overflow: Fp8Overflow = "saturate"
) -> NDArray[np.uint8]:
    """Encode with one rounding to nearest, ties to even; subnormals are kept.

    Args: x float32; overflow "saturate" or "nan" (464 is the tie between 448 and the first value
    that has no code; it rounds to 448). Returns: uint8 codes, shape of x; NaN -> 0x7F with its
    sign. Raises: ValueError for another overflow policy. Source: math.md 12.
    """
    if overflow not in get_args(Fp8Overflow):
        raise ValueError(f"overflow policy {overflow!r} is none of {get_args(Fp8Overflow)}")
    u = np.asarray(x, np.float32).view(np.uint32)
    sign, magnitude = ((u & _SIGN) >> np.uint32(24)).astype(np.uint8), u & ~_SIGN
    nan = magnitude > _INF
    exponent = np.minimum(magnitude, _INF) >> np.uint32(23)
    normal = shift_right_half_even(np.minimum(magnitude, _INF), 20) - (_REBIAS << np.uint32(3))
    # a value below 2^-6 loses 20 bits and one more for each step of its exponent under 2^-6
    missing = np.minimum(np.uint32(121 + 20) - np.minimum(exponent, np.uint32(120)), np.uint32(25))
    subnormal = shift_right_half_even(_IMPLICIT | (magnitude & _MANTISSA), missing)
    rounded = np.where(exponent < 121, subnormal, normal)
    past = _MAX_CODE if overflow == "saturate" else np.uint32(NAN_CODE)
    code = np.where(rounded > _MAX_CODE, past, rounded).astype(np.uint8)
    return np.where(nan, NAN_CODE, code) | sign
