"""Compiled forms of `sums`; the same float32 operations in the same order.

The fused multiply-add is one IEEE operation whether the machine has an instruction for it or not.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

ZERO = np.float32(0)


@intrinsic
def fma(typingctx, a, b, c):  # type: ignore[no-untyped-def]
    """a·b + c rounded once, float32."""

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), build


@njit(nogil=True, cache=True)
def _fold(lanes, count):  # type: ignore[no-untyped-def]
    """Add the upper half of the first `count` lanes to the lower until one is left."""
    while count > 1:
        count //= 2
        for lane in range(count):
            lanes[lane] += lanes[lane + count]
    return lanes[0]


@njit(nogil=True, cache=True)
def dot(x: NDArray, w: NDArray, out: NDArray) -> None:
    """As `sums.dot`; x (t, k), w (n, k), out (t, n) float32."""
    k = x.shape[1]
    body, vectors = k // 64 * 64, k // 16 * 16
    lanes = np.empty(64, np.float32)
    for j in range(w.shape[0]):
        for i in range(x.shape[0]):
            lanes[:] = ZERO
            for start in range(0, body, 64):
                for lane in range(64):
                    lanes[lane] += x[i, start + lane] * w[j, start + lane]
            total = _fold(lanes, 64)
            lanes[:8] = ZERO
            for start in range(body, vectors, 8):
                for lane in range(8):
                    lanes[lane] += x[i, start + lane] * w[j, start + lane]
            total += _fold(lanes, 8)
            for p in range(vectors, k):
                total += x[i, p] * w[j, p]
            out[i, j] = total


@njit(nogil=True, cache=True)
def _chain(row, panel, start, stop, step, chain):  # type: ignore[no-untyped-def]
    """chain[j] = Σ row[p]·panel[p, j] over p = start, start + step, .. < stop, fused."""
    chain[:] = ZERO
    for p in range(start, stop, step):
        a = row[p]
        for j in range(chain.size):
            chain[j] = fma(a, panel[p, j], chain[j])


@njit(nogil=True, cache=True)
def chains(x: NDArray, panel: NDArray, size: int, out: NDArray) -> None:
    """As `sums._chains`; x (t, k), panel (k, n), out (t, n) float32, added to."""
    chain = np.empty(panel.shape[1], np.float32)
    for i in range(x.shape[0]):
        for start in range(0, x.shape[1], size):
            _chain(x[i], panel, start, min(start + size, x.shape[1]), 1, chain)
            for j in range(chain.size):
                out[i, j] += chain[j]


@njit(nogil=True, cache=True)
def tiled(x: NDArray, panel: NDArray, size: int, out: NDArray) -> None:
    """As `sums.tiled`; x (t, k), panel (k, n), out (t, n) float32, added to."""
    even, odd = np.empty(panel.shape[1], np.float32), np.empty(panel.shape[1], np.float32)
    for i in range(x.shape[0]):
        for start in range(0, x.shape[1], size):
            stop = min(start + size, x.shape[1])
            _chain(x[i], panel, start, stop, 2, even)
            _chain(x[i], panel, start + 1, stop, 2, odd)
            for j in range(even.size):
                out[i, j] += even[j] + odd[j]
