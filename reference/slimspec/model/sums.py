"""Sums of products in the orders that torch takes on a CPU with AVX2.

A float32 sum depends on its order; these three orders are definite, for any machine and thread:

    dot       16-bit x·wᵀ: 64 lanes k mod 64, halves folded onto halves; then what is left, in
              vectors of 16 (8 lanes, folded likewise), then one by one
    weighted  16-bit p·v: four sums k mod 4, what is left onto the first; ((s0 + s1) + s2) + s3
    blocked   float32: blocks of at most 192 products, each a chain of fused multiply-adds; block
              sums are added to the bias (or 0) in turn

Products of 16-bit floats are exact in float32, so fusing changes nothing there. The float32 order
is that of the vendor library for most shapes; with a handful of rows it takes other ones.

Source: pytorch aten/src/ATen/native/cpu/ReducedPrecisionFloatGemvFastPathKernel.cpp (dot),
BlasKernel.cpp (gemm_notrans_, sum); blocked: found by experiment with torch 2.13 on MKL.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric.jit import jit_enabled
from slimspec.numeric.power import fused

Array = NDArray[np.float32]
LANES, VECTOR, BLOCK = 64, 16, 192


def dot(x: Array, w: Array) -> Array:
    """Σ_k x[i, k]·w[j, k] for 16-bit values held in float32.

    Args: x (t, k), w (n, k) float32. Returns: (t, n) float32.
    """
    out = np.empty((x.shape[0], w.shape[0]), np.float32)
    if jit_enabled():
        from . import kernels

        kernels.dot(np.ascontiguousarray(x), np.ascontiguousarray(w), out)
        return out
    k = x.shape[1]
    body, vectors = k // LANES * LANES, k // VECTOR * VECTOR
    with np.errstate(all="ignore"):
        out[:] = _lanes(x[:, :body], w[:, :body], LANES)
        out += _lanes(x[:, body:vectors], w[:, body:vectors], VECTOR // 2)
        for p in range(vectors, k):
            out += x[:, p, None] * w[:, p]
    return out


def weighted(p: Array, v: Array) -> Array:
    """Σ_s p[i, s]·v[s, j] for 16-bit values held in float32.

    Args: p (t, s), v (s, d) float32. Returns: (t, d) float32.
    """
    sums = np.zeros((4, p.shape[0], v.shape[1]), np.float32)
    if jit_enabled():
        from . import kernels

        kernels.weighted(np.ascontiguousarray(p), np.ascontiguousarray(v), sums)
    else:
        whole = p.shape[1] // 4 * 4
        with np.errstate(all="ignore"):
            for s in range(p.shape[1]):
                sums[s % 4 if s < whole else 0] += p[:, s, None] * v[s]
    with np.errstate(all="ignore"):
        return ((sums[0] + sums[1]) + sums[2]) + sums[3]


def blocked(x: Array, wt: Array, bias: Array | None = None) -> Array:
    """bias[j] + Σ_k x[i, k]·wt[k, j] in float32, in blocks of fused chains.

    Args: x (t, k), wt (k, n), bias (n,) or None, float32. Returns: (t, n) float32.
    """
    out = np.zeros((x.shape[0], wt.shape[1]), np.float32)
    if bias is not None:
        out[:] = bias
    size = block_size(x.shape[1])
    if jit_enabled():
        from . import kernels

        kernels.blocked(np.ascontiguousarray(x), np.ascontiguousarray(wt), size, out)
        return out
    with np.errstate(all="ignore"):
        for start in range(0, x.shape[1], size):
            chain = np.zeros_like(out)
            for p in range(start, min(start + size, x.shape[1])):
                left = np.broadcast_to(x[:, p, None], out.shape)
                chain = fused(left, np.broadcast_to(wt[p], out.shape), chain)
            out += chain
    return out


def block_size(k: int) -> int:
    """Products per block: 192, or half of k where k is more than one block and less than two."""
    return (k + 1) // 2 if BLOCK < k < 2 * BLOCK else BLOCK


def _lanes(x: Array, w: Array, lanes: int) -> Array:
    """Lane l adds k = l, l + lanes, ..; then the upper half of the lanes is added to the lower."""
    t, n = x.shape[0], w.shape[0]
    sums = np.zeros((t, n, lanes), np.float32)
    for start in range(0, x.shape[1], lanes):
        sums += x[:, None, start : start + lanes] * w[None, :, start : start + lanes]
    while lanes > 1:
        lanes //= 2
        sums = sums[..., :lanes] + sums[..., lanes:]
    return sums[..., 0]
