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
def weighted(p: NDArray, v: NDArray, sums: NDArray) -> None:
    """Partial sums of `sums.weighted`; p (t, s), v (s, d), sums (4, t, d) float32, zero before."""
    whole = p.shape[1] // 4 * 4
    for i in range(p.shape[0]):
        for s in range(p.shape[1]):
            part = s % 4 if s < whole else 0
            for j in range(v.shape[1]):
                sums[part, i, j] += p[i, s] * v[s, j]


@njit(nogil=True, cache=True)
def blocked(x: NDArray, wt: NDArray, size: int, out: NDArray) -> None:
    """As `sums.blocked`; x (t, k), wt (k, n), out (t, n) float32 with the bias in it."""
    k, n = wt.shape
    chain = np.empty(n, np.float32)
    for i in range(x.shape[0]):
        for start in range(0, k, size):
            chain[:] = ZERO
            for p in range(start, min(start + size, k)):
                for j in range(n):
                    chain[j] = fma(x[i, p], wt[p, j], chain[j])  # type: ignore[call-arg]
            for j in range(n):
                out[i, j] += chain[j]
