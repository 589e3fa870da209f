"""Attention as torch's fused CPU kernel computes it (`scaled_dot_product_attention`).

    S = q·kᵀ · scale;  P = e^(S − max S);  out = T((T(P)·v) · (1 / Σ P))

Unlike the eager form nothing is rounded to T between the products, and the weights are rounded
before they are divided by their sum. In whole vectors of 16 columns the exponential is a
polynomial: of degree 5 for float32, of degree 3 (about 13 bits) for 16-bit models. What is left of
a row takes the exact one.

Source: pytorch aten/src/ATen/native/cpu/FlashAttentionKernel.cpp (cpu_flash_attention);
exponentials as in `exponential`. Keys come in blocks of 512 there; here in one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.matmul.swiglu import exp_float32
from slimspec.numeric import as_float32, mul, to_dtype

from .exponential import F32, LANES, exp_degree3, exp_degree5, lane_sum
from .numerics import Numerics
from .sums import blocked

Array = NDArray[np.float32]


def attend_fused(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    scale: float,
    hidden: NDArray[np.bool_] | None,
    numerics: Numerics,
) -> NDArray:
    """Attention of every head in the fused kernel's steps; arguments and result as `attend`."""
    h, t, _ = q.shape
    out = np.empty((t, h, v.shape[2]), q.dtype)
    for i in range(h):
        g = i // (h // len(k))
        keys = np.ascontiguousarray(as_float32(k[g]).T)  # (d, s)
        scores = mul(blocked(as_float32(q[i]), keys), np.float32(scale), F32)
        if hidden is not None:
            scores = np.where(hidden, np.float32(-np.inf), scores)
        p = exponentials(scores - scores.max(axis=1, keepdims=True), numerics.dtype)
        inverse = np.float32(1) / lane_sum(p, tail_in_lanes=False)[:, None]  # (t, 1)
        rounded = as_float32(to_dtype(p, numerics.dtype))
        out[:, i] = mul(blocked(rounded, as_float32(v[g])), inverse, numerics.dtype)
    return out.reshape(t, h * v.shape[2])


def exponentials(x: Array, dtype: np.dtype) -> Array:
    """e^x of each row: the polynomial in whole vectors, then the exact one. Args: x (t, s)."""
    whole = x.shape[1] // LANES * LANES
    fast = exp_degree5 if dtype == F32 else exp_degree3
    return np.concatenate([fast(x[:, :whole]), exp_float32(x[:, whole:])], axis=1)
