"""The "v0" low-bit weight quantizers: per group, and the two levels of W4A8.

They differ from `minmax`: the weight is float32 first, the range is not widened to contain zero and
the scale has no smallest value, so that a group of zeros gets scale 0 and integers 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import add, as_float32, div, round_half_even, sub

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


def quantize_lowbit_groups(
    w: NDArray, *, bits: int, group_size: int, symmetric: bool = True, name: str = "weight"
) -> IntegerWeight:
    """Quantize per group in float32 without eps.

    symmetric:  scale = max|w| / (2^(bits-1) - 1), offset = 0
    asymmetric: scale = (max - min) / (2^bits - 1),
                offset = -round_half_even(min / scale) - 2^(bits-1)

    Args: w [n, k] float32, float16 or bfloat16; group_size divides k.
    Returns: scale and offset float32 [n, k/g]; q clipped to [-2^(bits-1), 2^(bits-1) - 1].
    Raises: ValueError for NaN, infinity or a group size that does not divide k.
    Source: math.md 1.5, 7.1.
    """
    require_finite(w, name)
    groups = group_view(as_float32(w), group_size)  # (n, k // g, g)
    low, high = code_range(bits)
    f32 = np.float32
    if symmetric:
        scale = div(np.abs(groups).max(axis=2), high, f32)
        offset = np.zeros_like(scale)
    else:
        lo, hi = groups.min(axis=2), groups.max(axis=2)
        scale = div(sub(hi, lo, f32), high - low, f32)
        offset = add(-round_half_even(div(lo, scale, f32)), low, f32)
    q = quantize(groups, scale[..., None], offset[..., None], bits=bits, name=name)
    return IntegerWeight(q.reshape(w.shape), scale, offset)


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
    peak = div(np.abs(groups).max(axis=2), code_range(4)[1], np.float32)
    second = round_half_even(np.maximum(peak, np.float32(1)))
    q = quantize(groups, second[..., None], zero, bits=4, name=name)
    return TwoLevelWeight(q.reshape(w.shape), scale, second)
