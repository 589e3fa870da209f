"""The helpers of the low-bit quantizer: rows, groups and two levels, in the dtype of the weight.

Ranges are not widened to contain zero and scales have no smallest value: a constant group divides
by zero and shows it as NaN. Symmetric forms round straight through, asymmetric ones plainly.

Source: facts/math.md 5, 7.1; the recorded functions of the tool's low-bit module.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import add, as_float32, div, mul, round_half_even, sub, to_dtype
from slimspec.quantize.affine import code_range, common_dtype
from slimspec.quantize.hqq import GROUPS, optimize_hqq
from slimspec.quantize.weight_lowbit import LEVEL_ONE_BOUND, asymmetric_scale, group_params
from slimspec.quantize.weight_lowbit import integer_scale as rounded_scale
from slimspec.sparse.straight_through import round_straight_through, symmetric_codes


@dataclass(frozen=True)
class GroupWeight:
    """q in a float dtype (int8 for whole rows); scale and offset as they broadcast; ŵ."""

    q: NDArray
    scale: NDArray
    offset: NDArray
    approximate: NDArray


@dataclass(frozen=True)
class TwoLevels:
    """ŵ = (second · (q - offset)) · scale; q [n, k], scale [n, 1], second and offset per group."""

    q: NDArray
    scale: NDArray
    second: NDArray
    offset: NDArray
    approximate: NDArray


def quantize_symmetric(x: NDArray, amax: NDArray, bound: int) -> GroupWeight:
    """Quantize with scale = amax / bound, q = clip(ste(x / scale), ±bound).

    Args: x [n, k]; amax broadcasts to it, same dtype. Returns: q int8, the rest in that dtype.
    Source: math.md 7.1.
    """
    scale = div(amax, bound, x.dtype)
    q = symmetric_codes(x, scale, bound)
    return GroupWeight(q, scale, np.zeros_like(scale), mul(q, scale, x.dtype))


def quantize_asymmetric_rows(x: NDArray, bits: int) -> GroupWeight:
    """Quantize rows with scale = (max - min) / (2^b - 1), all roundings straight through.

    offset = -ste(min / scale) - 2^(b-1);  q = clip(ste(x / scale + offset), -2^(b-1), 2^(b-1) - 1)

    Args: x [n, k]. Returns: everything in the dtype of x, scale and offset [n, 1].
    Source: math.md 7.1.
    """
    scale, low = asymmetric_scale(x, bits)
    steps = round_straight_through(div(low, scale, x.dtype))
    offset = add(-as_float32(steps), code_range(bits)[0], x.dtype)
    shifted = add(div(x, scale, x.dtype), offset, x.dtype)
    return _decoded(_clip(round_straight_through(shifted), *code_range(bits)), scale, offset)


def quantize_groups(
    groups: NDArray, bits: int, *, symmetric: bool, integer_scale: bool = False
) -> GroupWeight:
    """Quantize the rows of `groups` with the parameters of `group_params`.

    symmetric:  q = clip(ste(g / scale), ±(2^(b-1) - 1)); the files keep -2^(b-1) (`weight_lowbit`)
    asymmetric: q = clip(round(g / scale + offset), -2^(b-1), 2^(b-1) - 1)

    Args: groups [m, g]. Returns: everything in their dtype, scale and offset [m, 1].
    Source: math.md 5, 7.1.
    """
    dtype, top = groups.dtype, code_range(bits)[1]
    scale, offset = group_params(groups, bits, symmetric=symmetric, second=integer_scale)
    steps = div(groups, scale, dtype)
    if symmetric:
        return _decoded(_clip(round_straight_through(steps), -top, top), scale, offset)
    q = _clip(_rounded(add(steps, offset, dtype)), *code_range(bits))
    return _decoded(q, scale, offset)


def quantize_groups_hqq(
    w: NDArray, bits: int, group_size: int, *, symmetric: bool, integer_scale: bool = False
) -> GroupWeight:
    """Quantize per group with HQQ scales; each block of `group_size` columns is solved alone.

    The search of a block stops when the error over all its rows grows, and after 10 rounds; scale
    and offset are float16. q = clip(round(w / scale + offset), -2^(b-1), 2^(b-1) - 1).

    Args: w [n, k]. Returns: q [n, k] in float16 (float16 weights) or float32; scale and offset
    float16 [n, k/g]; ŵ in the dtype of w. Source: math.md 3.4, 7.1; recorded cases (blocks).
    """
    blocks = []
    for first in range(0, w.shape[1], group_size):
        block = np.ascontiguousarray(w[:, first : first + group_size])
        start = quantize_groups(block, bits, symmetric=symmetric, integer_scale=integer_scale)
        made = optimize_hqq(block, start.scale, start.offset, bits=bits, options=GROUPS)
        blocks.append(made)
    scale, offset = (np.concatenate(part, axis=1) for part in zip(*blocks, strict=True))
    scale = rounded_scale(scale) if integer_scale else scale
    source = to_dtype(as_float32(w), np.float16) if integer_scale else w
    dtype = common_dtype(source, scale)
    wide_scale, wide_offset = (np.repeat(x, group_size, axis=1) for x in (scale, offset))
    shifted = add(div(source, wide_scale, dtype), wide_offset, dtype)
    q = _clip(_rounded(shifted), *code_range(bits))
    approximate = mul(sub(q, wide_offset, dtype), wide_scale, dtype)
    return GroupWeight(q, scale, offset, to_dtype(approximate, w.dtype))


def quantize_two_levels(
    w: NDArray, group_size: int, *, symmetric: bool, hqq: bool = False
) -> TwoLevels:
    """Quantize rows to ±119, then these integers to int4 per group with integer scales.

    Args: w [n, k] float32, float16 or bfloat16; group_size divides k.
    Returns: scale [n, 1] in the dtype of w; second and offset [n · k/g, 1] float32, with `hqq`
    [n, k/g] float16; ŵ float32. Source: math.md 5.
    """
    amax = np.abs(w).max(axis=1, keepdims=True)
    rows = quantize_symmetric(w, amax, LEVEL_ONE_BOUND)
    level_one = as_float32(rows.q)
    if hqq:
        inner = quantize_groups_hqq(
            level_one, 4, group_size, symmetric=symmetric, integer_scale=True
        )
        # ŵ comes from the integers, where a zero has no sign
        middle = inner.approximate + np.float32(0)
    else:
        groups = level_one.reshape(-1, group_size)  # (n · k // g, g)
        inner = quantize_groups(groups, 4, symmetric=symmetric, integer_scale=True)
        middle = inner.approximate.reshape(w.shape)
    approximate = mul(middle, rows.scale, np.float32)
    q = inner.q.reshape(w.shape)
    return TwoLevels(q, rows.scale, inner.scale, inner.offset, approximate)


def _rounded(x: NDArray) -> NDArray:
    return to_dtype(round_half_even(as_float32(x)), x.dtype)


def _clip(x: NDArray, low: int, high: int) -> NDArray:
    return to_dtype(np.clip(as_float32(x), np.float32(low), np.float32(high)), x.dtype)


def _decoded(q: NDArray, scale: NDArray, offset: NDArray) -> GroupWeight:
    dtype = scale.dtype
    return GroupWeight(q, scale, offset, mul(sub(q, offset, dtype), scale, dtype))
