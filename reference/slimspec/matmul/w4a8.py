"""W4A8 with per-group scales: int8 activations split into two int4 halves.

The unit multiplies int4 by int4, so x is split with hi = floor(x/16) and lo = (x & 15) − 8, both in
[−8, 7], and x = 16·hi + lo + 8. With ŵ = w·scale per group

    Σ x·ŵ = 16·Σ hi·ŵ + Σ lo·ŵ + 8·Σ ŵ,

whose last term depends on the weights only: it is the stored `scale_bias`.

Steps and dtypes, for H (hi) and L (lo) alike, group after group:
    1. a = Σ_group hi·w              int32
    2. p = fp16(fp32(a)·scale_g)     product in float32
    3. H = fp16(H + p)               the accumulator is fp16 (order-dependent, may overflow)
    4. y = (16·H + L) + bias         float32
    5. y = y + Σ_g (Σ x)·offset_g    float32, asymmetric weights only
    6. out = T(y·pertoken_scale)

Source: integer_semantics.md B.8; math.md 5, 13.4.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.numeric import add, as_float32, mul, to_dtype

from .check import require, require_equal, require_range
from .deq_word import scale_bits
from .integer import matmul_int8
from .profiles import Numerics, to_output

F32 = np.float32


class Halves(NamedTuple):
    """x = 16·hi + lo + 8; both int8 in [−8, 7], shape of x."""

    hi: NDArray[np.int8]
    lo: NDArray[np.int8]


def split_int8(x: NDArray[np.int8]) -> Halves:
    """hi = floor(x/16), lo = (x & 15) − 8. Args: x (...) int8. Returns: Halves."""
    require("x", x, (np.int8,), "(...)", tuple(range(x.ndim + 1)))
    return Halves(x >> np.int8(4), (x & np.int8(15)) - np.int8(8))


def matmul_w4a8(
    x: NDArray[np.int8],
    w: NDArray[np.int8],
    scale: NDArray,
    scale_bias: NDArray,
    pertoken_scale: NDArray[np.float32],
    offset: NDArray | None = None,
    out_dtype: DTypeLike = np.float16,
    numerics: str | Numerics = "canonical",
) -> NDArray:
    """out = T((16·H + L + Σ scale_bias)·pertoken_scale), H and L accumulated over groups in fp16.

    Args:
        x: (m, k) int8.
        w: (n, k) int4 codes, one per int8.
        scale: (n, k/g) float32, or int64/uint64 with float32 in the low word (not truncated).
        scale_bias: (n,), (n, 1) or (n, 16) float32 = 8·Σ_k w·scale; its last axis is summed.
        pertoken_scale: (m,) float32.
        offset: (n, k/g) float, added as (Σ_group x)·offset, or None.
        out_dtype: float16, bfloat16 or float32.
        numerics: profile name; it also governs the fp16 accumulator.

    Returns:
        (m, n) of out_dtype.

    Raises:
        TypeError, ValueError: dtype, shape or range is not the above.
    """
    require_range("w", w, -8, 7)
    require("pertoken_scale", pertoken_scale, (F32,), "(m,)", 1)
    scale = scale_bits(scale) if scale.dtype.kind in "iu" else scale
    require("scale", scale, (F32,), "(n, k/g)", 2)
    halves = split_int8(x)
    high = grouped_sum_fp16(halves.hi, w, scale, numerics)  # (m, n) fp16
    low = grouped_sum_fp16(halves.lo, w, scale, numerics)
    y = add(add(mul(16.0, high, F32), low, F32), sum_bias(scale_bias), F32)
    if offset is not None:
        y = add(y, _offset_term(x, offset), F32)
    return to_output(mul(y, pertoken_scale[:, None], F32), out_dtype, numerics)


def grouped_sum_fp16(
    x: NDArray[np.int8],
    w: NDArray[np.int8],
    scale: NDArray[np.float32],
    numerics: str | Numerics = "canonical",
) -> NDArray[np.float16]:
    """S = fp16(S + fp16(fp32(Σ_group x·w)·scale_g)), groups of k in increasing order.

    Args:
        x: (m, k) int8.
        w: (n, k) int8.
        scale: (n, k/g) float32.
        numerics: profile name.

    Returns:
        (m, n) float16.
    """
    total = np.zeros((x.shape[0], w.shape[0]), np.float16)
    for g, span in enumerate(group_slices(x.shape[1], scale.shape[1])):
        acc = matmul_int8(x[:, span], w[:, span])  # (m, n) int32
        part = to_output(mul(acc.astype(F32), scale[:, g], F32), np.float16, numerics)
        total = to_output(add(total, part, F32), np.float16, numerics)
    return total


def group_slices(k: int, groups: int) -> list[slice]:
    """The columns of each of `groups` equal groups. Raises: ValueError unless they divide k."""
    if groups == 0 or k % groups:
        raise ValueError(f"scale: {groups} groups do not divide k={k}")
    size = k // groups
    return [slice(g * size, (g + 1) * size) for g in range(groups)]


def sum_bias(scale_bias: NDArray) -> NDArray[np.float32]:
    """Sum over the last axis in float32, in increasing order: (n, c) or (n,) -> (n,)."""
    columns = as_float32(scale_bias).reshape(scale_bias.shape[0], -1)  # (n, c)
    total = np.zeros(columns.shape[0], F32)
    for c in range(columns.shape[1]):
        total = add(total, columns[:, c], F32)
    return total


def _offset_term(x: NDArray[np.int8], offset: NDArray) -> NDArray[np.float32]:
    """Σ_g (Σ_group x)·offset_g: (m, n) float32, groups in increasing order."""
    require_equal("axes of offset and 2", offset.ndim, 2)
    total = np.zeros((x.shape[0], offset.shape[0]), F32)
    for g, span in enumerate(group_slices(x.shape[1], offset.shape[1])):
        total = add(total, sum_times_offset(x[:, span], offset[:, g]), F32)
    return total


def sum_times_offset(x: NDArray[np.int8], offset: NDArray) -> NDArray[np.float32]:
    """(Σ_k x)·offset of one group: the sum in int32, the product in float32.

    Args: x (m, g) int8; offset (n,) float. Returns: (m, n) float32.
    """
    sums = x.sum(axis=1, dtype=np.int32).astype(F32)  # (m,)
    return mul(sums[:, None], to_dtype(offset, F32), F32)
