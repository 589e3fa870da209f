"""Sums of products in the orders that torch takes on a CPU with AMX and AVX-512 FP16.

A float32 sum depends on its order; these four orders are definite, for any machine and thread:

    tiled     bfloat16: tiles of 32 products, the even ones a chain and the odd ones another; their
              sum is added to the tiles before
    chained   float16: blocks of 512 products (1024 where k is more than 1024), each a chain; block
              sums are added in turn
    dot       float16, one row of x: 64 lanes k mod 64, halves folded onto halves; then what is
              left, in vectors of 16 (8 lanes, folded likewise), then one by one
    blocked   float32: blocks of at most 192 products, each a chain of fused multiply-adds; block
              sums are added to the bias (or 0) in turn

Products of 16-bit floats are exact in float32, so fusing changes nothing there. The float32 order
is that of the vendor library for most shapes; with a handful of rows it takes other ones.

Source: pytorch aten/src/ATen/native/cpu/ReducedPrecisionFloatGemvFastPathKernel.cpp (dot);
tiled: Intel Instruction Set Extensions Reference, TDPBF16PS; chained: oneDNN with AVX512_FP16,
blocked: MKL, both found by experiment with torch 2.13. The recorded runs follow all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric.jit import jit_enabled
from slimspec.numeric.power import fused

Array = NDArray[np.float32]
LANES, VECTOR, BLOCK, CHAIN, TILE = 64, 16, 192, 512, 32
PANEL, FEW_ROWS = 64, 3  # columns taken together where there are more rows


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


def chained(x: Array, wt: Array) -> Array:
    """Σ_k x[i, k]·wt[k, j] for float16 values held in float32.

    Args: x (t, k), wt (k, n) float32. Returns: (t, n) float32.
    """
    out = np.zeros((x.shape[0], wt.shape[1]), np.float32)
    return _chains(x, wt, CHAIN if x.shape[1] <= 2 * CHAIN else 2 * CHAIN, out)


def tiled(x: Array, wt: Array) -> Array:
    """Σ_k x[i, k]·wt[k, j] for bfloat16 values held in float32.

    Args: x (t, k), wt (k, n) float32. Returns: (t, n) float32.
    """
    out = np.zeros((x.shape[0], wt.shape[1]), np.float32)
    if jit_enabled():
        from . import kernels

        return _in_panels(kernels.tiled, x, wt, TILE, out)
    with np.errstate(all="ignore"):
        for start in range(0, x.shape[1], TILE):
            halves = np.zeros((2, *out.shape), np.float32)
            for p in range(start, min(start + TILE, x.shape[1])):
                halves[p % 2] += x[:, p, None] * wt[p]
            out += halves[0] + halves[1]
    return out


def blocked(x: Array, wt: Array, bias: Array | None = None) -> Array:
    """bias[j] + Σ_k x[i, k]·wt[k, j] in float32, in blocks of fused chains.

    Args: x (t, k), wt (k, n), bias (n,) or None, float32. Returns: (t, n) float32.
    """
    out = np.zeros((x.shape[0], wt.shape[1]), np.float32)
    if bias is not None:
        out[:] = bias
    return _chains(x, wt, block_size(x.shape[1]), out)


def block_size(k: int) -> int:
    """Products per block: 192, or half of k where k is more than one block and less than two."""
    return (k + 1) // 2 if BLOCK < k < 2 * BLOCK else BLOCK


def _chains(x: Array, wt: Array, size: int, out: Array) -> Array:
    """Add to `out` the chains of `size` products, one after the other."""
    if jit_enabled():
        from . import kernels

        return _in_panels(kernels.chains, x, wt, size, out)
    with np.errstate(all="ignore"):
        for start in range(0, x.shape[1], size):
            chain = np.zeros_like(out)
            for p in range(start, min(start + size, x.shape[1])):
                left = np.broadcast_to(x[:, p, None], out.shape)
                chain = fused(left, np.broadcast_to(wt[p], out.shape), chain)
            out += chain
    return out


def _in_panels(kernel: Callable[..., None], x: Array, wt: Array, size: int, out: Array) -> Array:
    """Call a kernel for panels of columns, each of which stays in the cache for all rows."""
    x = np.ascontiguousarray(x)
    width = PANEL if len(x) > FEW_ROWS else max(1, wt.shape[1])
    for first in range(0, wt.shape[1], width):
        columns = slice(first, first + width)
        part = out[:, columns].copy()
        kernel(x, np.ascontiguousarray(wt[:, columns]), size, part)
        out[:, columns] = part
    return out


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
