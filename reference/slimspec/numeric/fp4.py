"""FP4 E2M1 (1 sign, 2 exponent, 1 mantissa bits) as 4-bit codes: sign << 3 | index of magnitude."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .arithmetic import model_dtype, sub

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
E2M1_MAX = np.float32(6)

_MIDPOINTS = (E2M1[1:] + E2M1[:-1]) / np.float32(2)  # exact; index i lies between i and i + 1
_TO_ODD = np.array([False, True] * 3 + [False])  # a tie at midpoint i goes up iff i is odd


def fp4_to_float32(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Decode: (-1)^(code >> 3) · E2M1[code & 7]; code 8 is -0.

    Args: codes uint8, 0..15. Returns: float32, same shape. Raises: ValueError with the index of
    a larger code.
    """
    codes = np.asarray(codes, np.uint8)
    if (codes > 15).any():
        at = tuple(int(i) for i in np.argwhere(codes > 15)[0])
        raise ValueError(f"FP4 code {codes[at]} at index {at} is above 15")
    magnitude = E2M1[codes & np.uint8(7)]
    return np.where(codes & np.uint8(8), -magnitude, magnitude)


def float32_to_fp4(x: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Encode to the nearest value, ties to the even code, past ±6 to ±6 (infinity too).

    Args: x float32. Returns: uint8 codes, shape of x. Raises: ValueError with the index of a NaN,
    which FP4 cannot hold.
    """
    x = np.asarray(x, np.float32)
    if np.isnan(x).any():
        at = tuple(int(i) for i in np.argwhere(np.isnan(x))[0])
        raise ValueError(f"NaN at index {at} has no FP4 code")
    magnitude = np.abs(x)[..., None]  # (..., 1) against the 7 midpoints
    above = (magnitude > _MIDPOINTS) | ((magnitude == _MIDPOINTS) & _TO_ODD)
    return _with_sign(above.sum(axis=-1), x)


def nearest_fp4(x: NDArray) -> NDArray[np.uint8]:
    """Encode as producers do: the first magnitude at the least distance, ties to the lower one.

    index = argmin_i | |x| - E2M1[i] |, each distance rounded in the dtype of x, which makes
    further ties in 16 bits; sign bit from the sign of x, so -0 gets code 8. NaN gets index 0.
    Args: x float32, float16 or bfloat16. Returns: uint8 codes, shape of x. Raises: TypeError for
    other dtypes. Source: math.md 12; msmodelslim save/utils/pack.py:93-124.
    """
    dtype = model_dtype(x.dtype)
    distance = np.abs(sub(np.abs(x)[..., None], E2M1, dtype))  # (..., 8)
    return _with_sign(distance.astype(np.float32).argmin(axis=-1), x)


def _with_sign(index: NDArray, x: NDArray) -> NDArray[np.uint8]:
    return index.astype(np.uint8) | (np.signbit(x).astype(np.uint8) << np.uint8(3))
