"""Fused attention as torch computes it on a CPU: scores and their softmax never leave float32.

    S = (q·kᵀ)·scale,  P = e^(S − max S),  out = T((T(P)·v) · (1 / ΣP))

P is rounded to T for the product with v only. The exponential is a fast one, but for the columns
that fill no vector; the sum runs in as many lanes as a vector has.

Source: pytorch aten/src/ATen/native/cpu/FlashAttentionKernel.cpp (one block of up to 512 keys).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.matmul.swiglu import exp_float32
from slimspec.numeric import as_float32, to_dtype

from .exponential import exp_fast, exp_u20
from .sums import blocked, weighted

Array = NDArray[np.float32]
LANES = 16


def flash_head(
    q: NDArray, k: NDArray, v: NDArray, scale: float, hidden: NDArray[np.bool_] | None
) -> NDArray:
    """One head of fused attention.

    Args:
        q: (t, d) of T.
        k: (s, d) of T.
        v: (s, dv) of T.
        scale: factor on the scores.
        hidden: (t, s), True where a key must not be seen; None for all seen.

    Returns:
        (t, dv) of T.
    """
    keys = np.ascontiguousarray(as_float32(k).T)
    scores = blocked(as_float32(q), keys) * np.float32(scale)  # (t, s)
    if hidden is not None:
        scores = np.where(hidden, np.float32(-np.inf), scores)
    p = _exponentials(scores - scores.max(axis=1, keepdims=True), q.dtype)
    inverse = np.float32(1) / _lane_sum(p)[:, None]
    product = blocked if q.dtype == np.float32 else weighted
    return to_dtype(product(as_float32(to_dtype(p, q.dtype)), as_float32(v)) * inverse, q.dtype)


def _exponentials(x: Array, dtype: np.dtype) -> Array:
    """The fast exponential of the columns that fill vectors, the plain one of the rest."""
    whole = x.shape[1] // LANES * LANES
    fast = exp_u20 if dtype == np.float32 else exp_fast
    return np.concatenate([fast(x[:, :whole]), exp_float32(x[:, whole:])], axis=1)


def _lane_sum(p: Array) -> Array:
    """Σ over columns: lanes, folded halves onto halves, then the rest. (t, s) to (t,)."""
    whole, width = p.shape[1] // LANES * LANES, LANES
    lanes = np.zeros((len(p), LANES), np.float32)
    for start in range(0, whole, LANES):
        lanes += p[:, start : start + LANES]
    while width > 1:
        width //= 2
        lanes = lanes[:, :width] + lanes[:, width:]
    total = lanes[:, 0]
    for column in range(whole, p.shape[1]):
        total = total + p[:, column]
    return total
