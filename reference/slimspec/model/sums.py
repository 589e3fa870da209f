"""Sums of products in the orders that torch takes on a CPU with AVX-512 FP16.

A float32 sum depends on its order; these orders are definite, for any machine and thread:

    tiled     bfloat16 on a CPU with AMX: tiles of 32 products, the even ones a chain and the odd
              ones another; their sum is added to the tiles before
    paired    bfloat16 on a CPU without: one chain, the second product of a pair before the first
    chained   float16: blocks of 512 products (1024 where k is more than 1024), each a chain; block
              sums are added in turn
    dot       16 bits, one row of x: 64 lanes k mod 64, halves folded onto halves; then what is
              left, in vectors of 16 (8 lanes, folded likewise), then one by one
    blocked   float32: blocks of 384 products, each a chain of fused multiply-adds; what is left of
              more than one block and less than two goes in halves; block sums are added to the bias
              (or 0) in turn
    laned     float32, 2 to 15 rows of x and k at least 24 times their number: 16 lanes k mod 16,
              each a chain; the quarters are added in turn, then neighbours

Products of 16-bit floats are exact in float32, so fusing changes nothing there. A single row of
float32 goes as blocked here; the vendor library starts it at an aligned address.

Source: pytorch aten/src/ATen/native/cpu/ReducedPrecisionFloatGemvFastPathKernel.cpp (dot); Intel
Instruction Set Extensions Reference, TDPBF16PS (tiled) and VDPBF16PS (paired); chained: oneDNN
with AVX512_FP16, blocked and laned: MKL, found by experiment with torch 2.13 (which ones vanish
beside a large summand and its negative tells the tree of a sum). The recorded runs follow all of
them, some tiled, some paired.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric.jit import jit_enabled
from slimspec.numeric.power import fused

Array = NDArray[np.float32]
LANES, VECTOR, BLOCK, CHAIN, TILE = 64, 16, 384, 512, 32
MOST_ROWS, PER_ROW = 15, 24  # of `laned`: rows of x, and products for each of them
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


def paired(x: Array, wt: Array) -> Array:
    """Σ_k x[i, k]·wt[k, j] for bfloat16 values held in float32.

    Args: x (t, k), wt (k, n) float32. Returns: (t, n) float32.
    """
    k = x.shape[1]
    order = np.arange(k)
    order[: k // 2 * 2] ^= 1  # 1, 0, 3, 2, ..
    out = np.zeros((x.shape[0], wt.shape[1]), np.float32)
    return _chains(x[:, order], wt[order], max(1, k), out)


def single(x: Array, wt: Array, bias: Array | None = None) -> Array:
    """bias[j] + Σ_k x[i, k]·wt[k, j] in float32, in the order for these shapes.

    Args: x (t, k), wt (k, n), bias (n,) or None, float32. Returns: (t, n) float32.
    """
    t, k = x.shape
    if not (2 <= t <= MOST_ROWS and k >= PER_ROW * t):
        return blocked(x, wt, bias)
    out = laned(x, wt)
    return out if bias is None else bias + out


def laned(x: Array, wt: Array) -> Array:
    """Σ_k x[i, k]·wt[k, j] in float32, in 16 lanes.

    Args: x (t, k), wt (k, n) float32. Returns: (t, n) float32.
    """
    t, n = x.shape[0], wt.shape[1]
    lanes = np.zeros((VECTOR, t, n), np.float32)
    for lane in range(min(VECTOR, x.shape[1])):
        own = slice(lane, None, VECTOR)
        _chains(x[:, own], wt[own], x.shape[1], lanes[lane])
    first, *others = lanes.reshape(4, 4, t, n)  # quarters of 4 lanes
    for quarter in others:
        first = first + quarter
    return (first[0] + first[1]) + (first[2] + first[3])


def blocked(x: Array, wt: Array, bias: Array | None = None) -> Array:
    """bias[j] + Σ_k x[i, k]·wt[k, j] in float32, in blocks of fused chains.

    Args: x (t, k), wt (k, n), bias (n,) or None, float32. Returns: (t, n) float32.
    """
    out = np.zeros((x.shape[0], wt.shape[1]), np.float32)
    if bias is not None:
        out[:] = bias
    start = 0
    for size in block_sizes(x.shape[1]):
        own = slice(start, start + size)
        _chains(x[:, own], wt[own], size, out)
        start += size
    return out


def block_sizes(k: int) -> list[int]:
    """Products of each block: 384, and halves of what is left between one block and two."""
    sizes = []
    while k >= 2 * BLOCK or k == BLOCK:
        sizes.append(BLOCK)
        k -= BLOCK
    if k > BLOCK:
        sizes.append((k + 1) // 2)
        k //= 2
    return [*sizes, k] if k else sizes


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
