"""Fused expert operator: grouped matmul, dequantize per token, SwiGLU, quantize per token.

    v = (fp32(acc)·weight_scale[e])·pertoken_scale      float32
    a = silu(first half of v)·second half               float32
    s = 127/max|a|,  q = rint(a·s),  scale = 1/s        float32 (the k910b form)

Source: integer_semantics.md B.9.
"""

from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .check import require
from .grouped import group_edges, grouped_matmul_int8
from .per_token import scale_per_token
from .quantize_dynamic import DynamicQuant, quantize_dynamic
from .swiglu import swiglu


def swiglu_quant(
    acc: NDArray[np.int32],
    weight_scale: NDArray[np.float32],
    pertoken_scale: NDArray[np.float32],
) -> DynamicQuant:
    """Quantize silu(v₁)·v₂ per token, v = (fp32(acc)·weight_scale)·pertoken_scale.

    Args:
        acc: (t, 2c) int32.
        weight_scale: (2c,) float32.
        pertoken_scale: (t,) float32.

    Returns:
        DynamicQuant(q (t, c) int8, scale (t,) float32).
    """
    v = scale_per_token(acc, weight_scale, pertoken_scale)
    return quantize_dynamic(swiglu(v), variant="k910b")


def grouped_matmul_swiglu_quant(
    x: NDArray[np.int8],
    w: NDArray[np.int8],
    weight_scale: NDArray[np.float32],
    pertoken_scale: NDArray[np.float32],
    group_list: ArrayLike,
    kind: Literal["count", "cumsum"] = "count",
) -> DynamicQuant:
    """`swiglu_quant` of each expert's rows.

    Args:
        x: (t, k) int8, rows sorted by expert.
        w: (e, 2c, k) int8.
        weight_scale: (e, 2c) float32.
        pertoken_scale: (t,) float32.
        group_list, kind: as `grouped_matmul_int8`.

    Returns:
        DynamicQuant(q (t, c) int8, scale (t,) float32).

    Raises:
        TypeError, ValueError: dtype or shape is not the above.
    """
    require("weight_scale", weight_scale, (np.float32,), "(e, 2c)", 2)
    acc = grouped_matmul_int8(x, w, group_list, kind)  # (t, 2c)
    q = np.zeros((x.shape[0], w.shape[1] // 2), np.int8)
    scale = np.zeros(x.shape[0], np.float32)
    edges = group_edges(group_list, w.shape[0], x.shape[0], kind)
    for e, (lo, hi) in enumerate(pairwise(edges)):
        part = swiglu_quant(acc[lo:hi], weight_scale[e], pertoken_scale[lo:hi])
        q[lo:hi], scale[lo:hi] = part.q, part.scale
    return DynamicQuant(q, scale)
