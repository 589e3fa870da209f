"""Matrix products that several schemes share.

The arithmetic and its epilogues are those of `slimspec.matmul`: sums in one fixed order, so that no
bit depends on the machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.matmul import dequantize_per_token, matmul_int8, matmul_weight_only
from slimspec.matmul.floating import matmul_float
from slimspec.matmul.quantize_dynamic import quantize_dynamic
from slimspec.numeric import as_float32, to_dtype


def float_product(
    x: NDArray, w: NDArray, bias: NDArray | None = None, dtype: DTypeLike | None = None
) -> NDArray:
    """Return y = T(float32(Σ x w) + bias), summed in float64 in increasing k.

    Args: x [m, k]; w [n, k]; bias [n] or None; float32, float16 or bfloat16; dtype T, None is that
    of x. Returns: [m, n] of T.
    """
    y = matmul_float(x, w)
    return to_dtype(y if bias is None else y + as_float32(bias), dtype or x.dtype)


def antiquantized_product(
    x: NDArray, q: NDArray, scale: NDArray, offset: NDArray, bias: NDArray | None
) -> NDArray:
    """Return y = x · ŵᵀ + bias, ŵ = (q - offset) · scale in the dtype T of x.

    Args: x [m, k]; q int8 [n, k]; scale, offset [n, 1], [n, k/g] or [1]; bias [n] or None.
    Returns: [m, n] in the dtype of x. Source: math.md 13.3; steps: `matmul.weight_only`.
    """
    return matmul_weight_only(x, q, scale, to_dtype(-as_float32(offset), offset.dtype), bias)


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
