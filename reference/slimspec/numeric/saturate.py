"""Saturating casts to integers: clip in a wide type, narrow last, NaN never by accident."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .rounding import FLOATS

INT32_MAX = 2**31 - 1


def _first(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(mask)[0])


def _wide(x: NDArray, low: int, high: int, nan: int | None) -> NDArray:
    """Return `x` in a type that holds it and both bounds exactly; settle NaN, refuse fractions."""
    if x.dtype.kind == "u":
        return np.minimum(x, np.uint64(high)).astype(np.int64)
    if x.dtype.kind == "i":
        return x.astype(np.int64)
    if x.dtype not in FLOATS:
        raise TypeError(f"saturation expects integers or floats, found {x.dtype}")
    exact = np.float32 if x.dtype.itemsize <= 4 and high < 2**24 else np.float64
    wide = x.astype(exact)
    is_nan = np.isnan(wide)
    if is_nan.any():
        if nan is None:
            raise ValueError(f"NaN at index {_first(is_nan)} has no integer value")
        wide = np.where(is_nan, exact(nan), wide)
    fraction = wide != np.trunc(wide)
    if fraction.any():
        at = _first(fraction)
        raise ValueError(f"value {wide[at]} at index {at} is not an integer: round it first")
    return wide


def saturate(x: NDArray, low: int, high: int, dtype: type, nan: int | None = None) -> NDArray:
    """Clip to [low, high] in a wide type, then narrow: min(max(x, low), high).

    Args: x integers, or floats that are already rounded (±inf is clipped); low, high: bounds that
    `dtype` holds; nan: None refuses NaN, an integer replaces it.
    Returns: `dtype`, shape of x. Raises: ValueError naming the index of a NaN (nan=None) or of a
    fraction, TypeError for other dtypes. Source: STYLE rule; seed defect of math.md 14 (cast
    before clip).
    """
    x = np.asarray(x)
    wide = _wide(x, low, high, nan)
    return np.clip(wide, wide.dtype.type(low), wide.dtype.type(high)).astype(dtype)


def saturate_int4(x: NDArray, nan: int | None = None) -> NDArray[np.int8]:
    """Clip to [-8, 7], one value per int8. Arguments and errors as `saturate`."""
    return saturate(x, -8, 7, np.int8, nan)


def saturate_uint4(x: NDArray, nan: int | None = None) -> NDArray[np.uint8]:
    """Clip to [0, 15], one value per uint8. Arguments and errors as `saturate`."""
    return saturate(x, 0, 15, np.uint8, nan)


def saturate_int8(x: NDArray, nan: int | None = None) -> NDArray[np.int8]:
    """Clip to [-128, 127]. Arguments and errors as `saturate`."""
    return saturate(x, -128, 127, np.int8, nan)


def saturate_uint8(x: NDArray, nan: int | None = None) -> NDArray[np.uint8]:
    """Clip to [0, 255]. Arguments and errors as `saturate`."""
    return saturate(x, 0, 255, np.uint8, nan)


def saturate_int9(x: NDArray, nan: int | None = None) -> NDArray[np.int16]:
    """Clip to [-256, 255], the requantization intermediate. Arguments and errors as `saturate`.

    Source: integer_semantics B.2.
    """
    return saturate(x, -256, 255, np.int16, nan)


def saturate_int16(x: NDArray, nan: int | None = None) -> NDArray[np.int16]:
    """Clip to [-32768, 32767]. Arguments and errors as `saturate`."""
    return saturate(x, -(2**15), 2**15 - 1, np.int16, nan)


def saturate_int32(x: NDArray, nan: int | None = None) -> NDArray[np.int32]:
    """Clip to [-2^31, 2^31 - 1]; floats are clipped in float64. Arguments as `saturate`."""
    return saturate(x, -INT32_MAX - 1, INT32_MAX, np.int32, nan)
