"""Named rounding rules on float arrays; the dtype is kept, no rule is ever written inline."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

FLOATS = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16), np.dtype(np.float32), np.dtype(float))


def _floats(x: NDArray) -> NDArray:
    """Return `x` as an array, refusing dtypes that numpy would silently promote."""
    array = np.asarray(x)
    if array.dtype not in FLOATS:
        raise TypeError(f"rounding expects a float array, found {array.dtype}")
    return array


def round_half_even(x: NDArray) -> NDArray:
    """Round to the nearest integer, ties to the even one: -2.5 -1.5 -0.5 0.5 -> -2 -2 -0 0.

    torch.round, np.rint, CAST_RINT. Args: x float array, any shape. Returns: same dtype and shape.
    Raises: TypeError for a dtype that is no float. Source: integer_semantics B.0.
    """
    return np.asarray(np.rint(_floats(x)))


def round_half_away(x: NDArray) -> NDArray:
    """Round to the nearest integer, ties away from zero: -2.5 -0.5 0.5 2.5 -> -3 -1 1 3.

    t = trunc(x), r = x - t (exact), result t + sign(x)·[|r| >= 1/2]. Exact for every input, also
    for the largest float below 1/2, where floor(|x| + 1/2) would give 1.
    Args: x float array. Returns: same dtype and shape. Raises: TypeError for a non-float.
    Source: integer_semantics B.0 (CAST_ROUND).
    """
    x = _floats(x)
    one, half = x.dtype.type(1), x.dtype.type(0.5)
    whole = np.trunc(x)
    with np.errstate(invalid="ignore"):  # inf - inf; the comparison below is then False
        away = np.abs(x - whole) >= half
    return np.asarray(np.where(away, whole + np.copysign(one, x), whole))


def round_half_away_by_floor(x: NDArray) -> NDArray:
    """Round as sign(x)·floor(|x| + 1/2), where the sum itself rounds in the dtype of `x`.

    Producers of MX weights write half-away like this. It equals `round_half_away` unless
    |x| + 1/2 is inexact: just below 1/2, and in fp16/bf16 also where 1/2 is below the last digit.
    Args: x float array. Returns: same dtype and shape; zero and NaN stay.
    Raises: TypeError for a non-float. Source: math.md 12.
    """
    x = _floats(x)
    half = x.dtype.type(0.5)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sign(x) * np.floor(np.abs(x) + half))


def round_floor(x: NDArray) -> NDArray:
    """Round towards minus infinity. Args: x float array. Returns: same dtype and shape."""
    return np.asarray(np.floor(_floats(x)))


def round_ceil(x: NDArray) -> NDArray:
    """Round towards plus infinity. Args: x float array. Returns: same dtype and shape."""
    return np.asarray(np.ceil(_floats(x)))


def round_trunc(x: NDArray) -> NDArray:
    """Round towards zero. Args: x float array. Returns: same dtype and shape."""
    return np.asarray(np.trunc(_floats(x)))


def shift_right_half_even(u: NDArray[np.uint32], drop: int | NDArray[np.uint32]) -> NDArray:
    """Divide unsigned integers by 2^drop, ties to the even quotient.

    (u + 2^(drop-1) - 1 + bit(u, drop)) >> drop: the one step behind every narrowing float cast.
    Args: u uint32 < 2^32 - 2^(drop-1); drop 1..31, scalar or uint32 array that broadcasts.
    Returns: uint32.
    """
    one = np.uint32(1)
    drop = np.asarray(drop, np.uint32)
    half_minus_one = (one << (drop - one)) - one
    return np.asarray((u + half_minus_one + ((u >> drop) & one)) >> drop)
