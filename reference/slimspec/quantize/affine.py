"""Affine quantization: scale and offset from a range, integers from values, and back.

    q = clip(round_half_even(x / scale + offset))          x̂ = (q - offset) · scale

Every operation runs in float32 and is rounded to the dtype of the input, one after the other: that
is what the producers' torch code does, and it is visible in the last bit of bfloat16 and float16
models. Two producers differ in the asymmetric scale: "v0" divides the width of the range, "v1"
subtracts two quotients (math.md 1.1-1.3).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import add, as_float32, div, model_dtype, mul, round_half_even, sub, to_dtype
from slimspec.numeric.saturate import saturate

Variant = Literal["v0", "v1"]

EPS = np.float32(2.0**-23)  # smallest scale: the float32 machine epsilon, a subnormal in float16


def require_finite(x: NDArray, name: str) -> None:
    """Refuse NaN and infinity. Raises: ValueError naming the tensor and the first index."""
    wrong = ~np.isfinite(as_float32(x))
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"{name}: {as_float32(x)[at]} at index {at}, expected a finite value")


def common_dtype(*arrays: NDArray) -> np.dtype:
    """Return the dtype the arrays share; different ones meet in float32, as in torch."""
    found = {model_dtype(a.dtype) for a in arrays}
    return found.pop() if len(found) == 1 else np.dtype(np.float32)


def code_range(bits: int, max_bound: int | None = None, signed: bool = True) -> tuple[int, int]:
    """Return the lowest and highest integer: ±max_bound if given, else all `bits` allow."""
    if not 2 <= bits <= 8:
        raise ValueError(f"bits {bits}: expected 2 to 8")
    if max_bound is not None:
        return -max_bound, max_bound
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def without_lowest(q: NDArray[np.int8], bits: int) -> NDArray[np.int8]:
    """Return symmetric integers as files of "v0" hold them: the most negative one is raised by 1.

    A run of "v0" still uses it. Source: math.md 1.5.
    """
    return np.maximum(q, np.int8(1 + code_range(bits)[0]))


def qparams(
    lo: NDArray,
    hi: NDArray,
    *,
    bits: int = 8,
    symmetric: bool,
    variant: Variant,
    max_bound: int | None = None,
    signed: bool = True,
    round_offset: bool = True,
    name: str = "range",
) -> tuple[NDArray, NDArray]:
    """Return scale and offset of a range that is first widened to contain zero.

    lo' = min(lo, 0), hi' = max(hi, 0)
    symmetric:   scale = max(max(-lo', hi') / steps, EPS), steps = 2^(bits-1) - 1;  offset = 0
    asymmetric:  scale = max((hi' - lo') / steps, EPS)            (v0), steps = 2^bits - 1
                 scale = max(hi' / steps - lo' / steps, EPS)      (v1)
                 offset = round_half_even(-lo' / scale) - 2^(bits-1)

    Args:
        lo, hi: smallest and largest value, any equal shape; float32, float16 or bfloat16.
        max_bound: replaces `steps` in every form (119 in the first level of two-level W4A8).
        signed: False leaves out the shift by 2^(bits-1).
        round_offset: False leaves the offset fractional.
    Returns: scale and offset, dtype and shape of `lo`; a zero range gives EPS, never 0.
    Raises: ValueError for NaN or infinity; TypeError for other dtypes.
    Source: math.md 1.1, 1.2, 1.8.
    """
    dtype = model_dtype(lo.dtype)
    require_finite(lo, f"{name} minimum")
    require_finite(hi, f"{name} maximum")
    low = np.minimum(as_float32(lo), np.float32(0))
    high = np.maximum(as_float32(hi), np.float32(0))
    top = code_range(bits)[1]
    steps = max_bound or (top if symmetric else 2**bits - 1)
    if symmetric:
        scale = div(np.maximum(-low, high), steps, dtype)
    elif variant == "v0":
        scale = div(sub(high, low, dtype), steps, dtype)
    else:
        scale = sub(div(high, steps, dtype), div(low, steps, dtype), dtype)
    scale = to_dtype(np.maximum(as_float32(scale), EPS), dtype)
    if symmetric:
        return scale, np.zeros_like(scale)
    offset = div(-low, scale, dtype)
    offset = round_half_even(offset) if round_offset else offset
    return scale, add(offset, -top - 1, dtype) if signed else offset


def codes(
    x: NDArray,
    scale: NDArray,
    offset: NDArray,
    *,
    bits: int = 8,
    max_bound: int | None = None,
    signed: bool = True,
    name: str = "tensor",
) -> NDArray[np.float32]:
    """Return the integers still as float32: clip(round_half_even(x / scale + offset)).

    x / scale is rounded to the dtype before the offset is added, and the sum once more. Different
    dtypes of `x` and `scale` meet in float32. A scale of 0 is legal for zeros only, and gives the
    integer 0 there. Clipping happens here, in the wide type; narrowing is a later, separate step.

    Args: x, scale, offset broadcast; dtypes as for `qparams`.
    Returns: float32 integers; a small negative value gives -0.0, as in the "v0" producer.
    Raises: ValueError naming the first NaN or infinity of `x`.
    Source: math.md 1.4, 1.8.
    """
    dtype = common_dtype(x, scale)
    require_finite(x, name)
    low, high = code_range(bits, max_bound, signed)
    moved = as_float32(add(div(x, scale, dtype), offset, dtype))
    rounded = round_half_even(np.where(np.isnan(moved), np.float32(0), moved))  # NaN is 0 / 0
    return np.clip(rounded, np.float32(low), np.float32(high))


def quantize(
    x: NDArray,
    scale: NDArray,
    offset: NDArray,
    *,
    bits: int = 8,
    max_bound: int | None = None,
    signed: bool = True,
    name: str = "tensor",
) -> NDArray:
    """Return the integers of `codes` as int8 (uint8 if not `signed`), one value per byte.

    Args and Raises: as `codes`. Source: math.md 1.4, 1.5 (which path allows -128).
    """
    wide = codes(x, scale, offset, bits=bits, max_bound=max_bound, signed=signed, name=name)
    low, high = code_range(bits, max_bound, signed)
    return saturate(wide, low, high, np.int8 if signed else np.uint8)


def dequantize(q: NDArray, scale: NDArray, offset: NDArray) -> NDArray:
    """Return x̂ = (q - offset) · scale in the dtype of `scale`, rounded after each operation.

    Args: q int8 or uint8, or the float integers of `codes`; scale, offset broadcast to it.
    Returns: dtype of `scale`. Source: math.md 1.4.
    """
    dtype = model_dtype(scale.dtype)
    return mul(sub(q, offset, dtype), scale, dtype)


def group_view(x: NDArray, group_size: int) -> NDArray:
    """Return rows cut into groups of consecutive columns; group_size 0 is one group per row.

    Args: x [n, k]. Returns: [n, k // g, g], a view where memory allows.
    Raises: ValueError if k is not a multiple of g. Source: math.md 1.6; formats.md 3.0.8.
    """
    n, k = x.shape
    g = group_size or k
    if g < 1 or k % g:
        raise ValueError(f"group size {g} does not divide the {k} columns of shape {x.shape}")
    return x.reshape(n, k // g, g)


def dequantize_rows(q: NDArray, scale: NDArray, offset: NDArray) -> NDArray:
    """Dequantize a weight with one scale per tensor [1], row [n, 1] or group [n, k/g].

    Args: q int8 [n, k]. Returns: [n, k] in the dtype of `scale`. Source: math.md 1.4, 1.6.
    """
    groups = scale.shape[-1]
    view = group_view(q, q.shape[1] // groups)  # (n, k // g, g)
    per_group = (-1, groups, 1)
    return dequantize(view, scale.reshape(per_group), offset.reshape(per_group)).reshape(q.shape)
