"""E8M0: a shared exponent as one byte, value 2^(byte - 127), 255 is NaN."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BIAS = 127
NAN_BYTE = np.uint8(255)


def exponent_to_e8m0(exponent: NDArray) -> NDArray[np.uint8]:
    """Encode integer exponents: byte = e + 127, NaN -> 255.

    Args: exponent float or integer array of integers in [-127, 127], NaN allowed in floats.
    Returns: uint8. Raises: ValueError with the index of an exponent that has no byte.
    Source: math.md 12.
    """
    wide = np.asarray(exponent).astype(np.float64)
    nan = np.isnan(wide)
    bad = ~nan & ((wide != np.trunc(wide)) | (np.abs(wide) > BIAS))
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"exponent {wide[at]} at index {at} is no integer in [-127, 127]")
    return np.where(nan, float(NAN_BYTE), wide + BIAS).astype(np.uint8)


def e8m0_to_exponent(byte: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Decode to the exponent byte - 127, 255 to NaN. Args: byte uint8. Returns: float32."""
    byte = np.asarray(byte, np.uint8)
    exponent = byte.astype(np.float32) - np.float32(BIAS)
    return np.where(byte == NAN_BYTE, np.float32(np.nan), exponent)


def e8m0_to_float32(byte: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Decode to the scale 2^(byte - 127); byte 0 is the subnormal 2^-127, 255 is NaN.

    Args: byte uint8. Returns: float32, same shape.
    """
    u = np.asarray(byte, np.uint8).astype(np.uint32)
    bits = np.where(u == 0, np.uint32(0x00400000), u << np.uint32(23))
    return np.where(u == NAN_BYTE, np.uint32(0x7FC00000), bits).view(np.float32)
