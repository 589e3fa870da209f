"""W4A4: int4 activations per token and int4 weights.

    per channel   y = T((fp32(Σ x·w)·weight_scale)·pertoken_scale)
    per group     y = T((Σ_g (fp32(Σ_group x·w) − (Σ_group x)·offset_g)·scale_g)·pertoken_scale)

The first is the per-token epilogue of W8A8_DYNAMIC on int4 codes (max|x|/7). In the second every
group is scaled and added in float32, in increasing order.

Source: math.md 6.4; integer_semantics.md B.8 (int4 per group, asymmetric).
"""

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.numeric import add, mul, sub

from .check import require, require_range
from .integer import matmul_int8
from .per_token import dequantize_per_token
from .profiles import Numerics, to_output
from .w4a8 import group_slices, sum_times_offset

F32 = np.float32


def matmul_w4a4(
    x: NDArray[np.int8],
    w: NDArray[np.int8],
    weight_scale: NDArray[np.float32],
    pertoken_scale: NDArray[np.float32],
    bias: NDArray | None = None,
    out_dtype: DTypeLike = np.float16,
    numerics: str | Numerics = "canonical",
) -> NDArray:
    """out = T((fp32(Σ_k x·w)·weight_scale)·pertoken_scale + bias).

    Args:
        x: (m, k) int4 codes, one per int8.
        w: (n, k) likewise.
        weight_scale: (n,) or (n, 1) float32.
        pertoken_scale: (m,) float32.
        bias: (n,) or None.
        out_dtype: float16, bfloat16 or float32.
        numerics: profile name.

    Returns:
        (m, n) of out_dtype.

    Raises:
        TypeError, ValueError: dtype, shape or range is not the above.
    """
    require_range("x", x, -8, 7)
    require_range("w", w, -8, 7)
    acc = matmul_int8(x, w)
    return dequantize_per_token(
        acc, weight_scale, pertoken_scale, bias, out_dtype, numerics=numerics
    )


def matmul_w4a4_group(
    x: NDArray[np.int8],
    w: NDArray[np.int8],
    scale: NDArray[np.float32],
    pertoken_scale: NDArray[np.float32],
    offset: NDArray | None = None,
    out_dtype: DTypeLike = np.float16,
    numerics: str | Numerics = "canonical",
) -> NDArray:
    """out = T((Σ_g (fp32(acc_g) − (Σ_group x)·offset_g)·scale_g)·pertoken_scale).

    Args:
        x: (m, k) int4 codes, one per int8.
        w: (n, k) likewise.
        scale: (n, k/g) float32.
        pertoken_scale: (m,) float32.
        offset: (n, k/g) float, or None.
        out_dtype, numerics: as `matmul_w4a4`.

    Returns:
        (m, n) of out_dtype.

    Raises:
        TypeError, ValueError: dtype, shape or range is not the above.
    """
    require_range("x", x, -8, 7)
    require_range("w", w, -8, 7)
    require("scale", scale, (F32,), "(n, k/g)", 2)
    require("pertoken_scale", pertoken_scale, (F32,), "(m,)", 1)
    total = np.zeros((x.shape[0], w.shape[0]), F32)
    for g, span in enumerate(group_slices(x.shape[1], scale.shape[1])):
        part = matmul_int8(x[:, span], w[:, span]).astype(F32)  # (m, n)
        if offset is not None:
            part = sub(part, sum_times_offset(x[:, span], offset[:, g]), F32)
        total = add(total, mul(part, scale[:, g], F32), F32)
    return to_output(mul(total, pertoken_scale[:, None], F32), out_dtype, numerics)
