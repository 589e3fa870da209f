"""Matrix products that several schemes share, plain and readable.

The integer arithmetic and its epilogues are those of `slimspec.matmul`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.matmul import dequantize_per_token, matmul_int8
from slimspec.matmul.quantize_dynamic import quantize_dynamic
from slimspec.numeric import add, as_float32, mul, to_dtype
from slimspec.quantize.affine import group_view


def float_product(x: NDArray, w: NDArray, bias: NDArray | None) -> NDArray:
    """Return y = x · wᵀ + bias, summed in float32 and rounded once to the dtype of x.

    Args: x [m, k]; w [n, k]; bias [n] or None; float32, float16 or bfloat16. Returns: [m, n].
    """
    y = as_float32(x) @ as_float32(w).T
    return to_dtype(y if bias is None else y + as_float32(bias), x.dtype)


def antiquantized_product(
    x: NDArray, q: NDArray, scale: NDArray, offset: NDArray, bias: NDArray | None
) -> NDArray:
    """Return y = x · ŵᵀ + bias with ŵ = T(T(q + T(-offset)) · T(scale)), T the dtype of x.

    Args: x [m, k]; q int8 [n, k]; scale, offset [n, 1], [n, k/g] or [1]; bias [n] or None.
    Returns: [m, n] in the dtype of x. Source: math.md 13.3.
    """
    dtype, groups = x.dtype, scale.shape[-1]
    view = group_view(q, q.shape[1] // groups)  # (n, k // g, g)
    s, z = (to_dtype(p, dtype).reshape(-1, groups, 1) for p in (scale, offset))
    w = mul(add(view, -as_float32(z), dtype), s, dtype)
    return float_product(x, w.reshape(q.shape), bias)


def per_token_product(
    x: NDArray, q: NDArray[np.int8], scale: NDArray, bias: NDArray | None, bits: int = 8
) -> NDArray:
    """Return y = T((acc · scale) · s_x + bias), acc = Σ q_x q, x quantized per token.

    Args: x [m, k]; q int8 [n, k]; scale [n, 1] or [1]; bias [n] or None; bits of the activation.
    Returns: [m, n] in the dtype of x. Source: math.md 13.2.
    """
    token = quantize_dynamic(x, bits=bits)
    per_row = np.broadcast_to(as_float32(scale).reshape(-1), (q.shape[0],))
    acc = matmul_int8(token.q, q)
    return dequantize_per_token(acc, per_row, token.scale, bias, x.dtype)
