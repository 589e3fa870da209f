"""The "v0" low-bit weight quantizers: per group, and the two levels of W4A8.

They differ from `minmax`: the weight is float32 first, the range is not widened to contain zero and
the scale has no smallest value, so that a group of zeros gets scale 0 and integers 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import add, as_float32, div, round_half_even, sub, to_dtype

from .affine import code_range, group_view, quantize, require_finite
from .minmax import IntegerWeight

LEVEL_ONE_BOUND = 119  # 17 · 7: scale_second · q4 then stays within int8


@dataclass(frozen=True)
class TwoLevelWeight:
    """ŵ = scale · (second · q).

    q int8 [n, k] in [-8, 7]; scale float32 [n, 1]; second float32 [n, k/g], positive integers.
    """

    q: NDArray[np.int8]
    scale: NDArray[np.float32]
    second: NDArray[np.float32]


def asymmetric_scale(x: NDArray, bits: int) -> tuple[NDArray, NDArray]:
    """Return (max - min) / (2^bits - 1) and min over the last axis, kept, in the dtype of x."""
    low, high = x.min(axis=-1, keepdims=True), x.max(axis=-1, keepdims=True)
    return div(sub(high, low, x.dtype), 2**bits - 1, x.dtype), low


def integer_scale(scale: NDArray) -> NDArray:
    """Return round_half_even(max(scale, 1)), the second level's scale, in its dtype."""
    least = np.maximum(as_float32(scale), np.float32(1))
    return to_dtype(round_half_even(least), scale.dtype)


def group_params(
    x: NDArray, bits: int, *, symmetric: bool, second: bool = False
) -> tuple[NDArray, NDArray]:
    """Return scale and offset of each group (the last axis), each step in the dtype of x.

    symmetric:  scale = max|x| / (2^(bits-1) - 1), offset = 0
    asymmetric: scale = (max - min) / (2^bits - 1),
                offset = -round_half_even(min / scale) - 2^(bits-1)

    `second`: an integer scale, at least 1 (`integer_scale`).
    Args: x [..., g]. Returns: [..., 1] each; a constant group has scale 0 and offset NaN or
    infinity where it is asymmetric. Source: math.md 1.5, 5, 7.1.
    """
    dtype = x.dtype
    if symmetric:
        scale = div(np.abs(x).max(axis=-1, keepdims=True), code_range(bits)[1], dtype)
        scale = integer_scale(scale) if second else scale
        return scale, np.zeros_like(scale)
    scale, low = asymmetric_scale(x, bits)
    scale = integer_scale(scale) if second else scale
    steps = round_half_even(as_float32(div(low, scale, dtype)))
    return scale, add(-steps, code_range(bits)[0], dtype)


def quantize_lowbit_groups(
    w: NDArray, *, bits: int, group_size: int, symmetric: bool = True, name: str = "weight"
) -> IntegerWeight:
    """Quantize per group in float32, with the parameters of `group_params`.

    Args: w [n, k] float32, float16 or bfloat16; group_size divides k.
    Returns: scale and offset float32 [n, k/g]; q clipped to [-2^(bits-1), 2^(bits-1) - 1].
    Raises: ValueError for NaN, infinity or a group size that does not divide k.
    Source: math.md 1.5, 7.1.
    """
    require_finite(w, name)
    groups = group_view(as_float32(w), group_size)  # (n, k // g, g)
    scale, offset = group_params(groups, bits, symmetric=symmetric)
    q = quantize(groups, scale, offset, bits=bits, name=name)
    return IntegerWeight(q.reshape(w.shape), scale[..., 0], offset[..., 0])


def quantize_two_level(w: NDArray, *, group_size: int, name: str = "weight") -> TwoLevelWeight:
    """Quantize to int8 per row, then that int8 to int4 per group with integer scales.

    scale  = max|w| / 119 per row;          q8 = clip(round_half_even(w / scale), ±119)
    second = round_half_even(max(max|q8| / 7, 1)) per group
    q      = clip(round_half_even(q8 / second), -8, 7)

    Then |second · q| <= 119, so the int8 level never overflows.
    Args: w [n, k] float32, float16 or bfloat16; group_size divides k. Arithmetic is float32.
    Raises: ValueError for NaN, infinity or a group size that does not divide k.
    Source: math.md 5.
    """
    require_finite(w, name)
    rows = as_float32(w)
    zero = np.zeros(1, np.float32)
    scale = div(np.abs(rows).max(axis=1, keepdims=True), LEVEL_ONE_BOUND, np.float32)
    level_one = quantize(rows, scale, zero, max_bound=LEVEL_ONE_BOUND, name=name)
    groups = group_view(as_float32(level_one), group_size)  # (n, k // g, g)
    second, _ = group_params(groups, 4, symmetric=True, second=True)
    q = quantize(groups, second, zero, bits=4, name=name)
    return TwoLevelWeight(q.reshape(w.shape), scale, second[..., 0])
