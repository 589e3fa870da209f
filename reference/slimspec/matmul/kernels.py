"""Jitted loops of the integer runtime; imported only where one of them runs.

Every kernel is a plain loop whose result does not depend on the JIT, on vectorisation or on the
number of threads: integers wrap modulo 2^32, and float64 sums run over k in increasing order.
With NUMBA_DISABLE_JIT=1 callers take the NumPy form (`COMPILED` is false): interpreted loops would
be slow and NumPy scalars warn where the register wraps.
"""

import numpy as np
from numba import njit
from numba.core import config
from numpy.typing import NDArray

COMPILED = not config.DISABLE_JIT  # type: ignore[attr-defined]


@njit(nogil=True, cache=True)
def _dot(x, w):  # type: ignore[no-untyped-def]
    """One dot product of two int8 vectors (k,) modulo 2^32."""
    total = np.int32(0)
    for j in range(x.shape[0]):
        # Products and sums are cast back to int32: numba would widen them to int64, which
        # loses the multiply-add-pairs instruction.
        total = np.int32(total + np.int32(np.int32(x[j]) * np.int32(w[j])))
    return total


@njit(nogil=True, cache=True)
def dot_rows(x: NDArray, w: NDArray, out: NDArray) -> None:
    """out[i, j] = Σ_k x[i, k]·w[j, k] modulo 2^32; x (m, k), w (n, k) int8, out (m, n) int32.

    Four rows of x share each load of w; the rest goes row by row.
    """
    m, k = x.shape
    for j in range(w.shape[0]):
        for i in range(0, m - 3, 4):
            a = np.int32(0)
            b = np.int32(0)
            c = np.int32(0)
            d = np.int32(0)
            for p in range(k):
                v = np.int32(w[j, p])
                a = np.int32(a + np.int32(np.int32(x[i, p]) * v))
                b = np.int32(b + np.int32(np.int32(x[i + 1, p]) * v))
                c = np.int32(c + np.int32(np.int32(x[i + 2, p]) * v))
                d = np.int32(d + np.int32(np.int32(x[i + 3, p]) * v))
            out[i, j] = a
            out[i + 1, j] = b
            out[i + 2, j] = c
            out[i + 3, j] = d
        for i in range(m - m % 4, m):
            out[i, j] = _dot(x[i], w[j])


@njit(nogil=True, cache=True)
def chunk_squares(x: NDArray, chunk: int, out: NDArray) -> None:
    """out[i, c] = Σ x[i, p]² over the c-th run of `chunk` columns; x (m, k) int8, out int64."""
    m, k = x.shape
    for i in range(m):
        for c in range(out.shape[1]):
            total = np.int32(0)
            for p in range(c * chunk, min(k, (c + 1) * chunk)):
                v = np.int32(x[i, p])
                total = np.int32(total + np.int32(v * v))
            out[i, c] = total


@njit(nogil=True, cache=True)
def float_rows(x, wt, out):  # type: ignore[no-untyped-def]
    """out[i, j] += Σ_k x[i, k]·wt[k, j], k in increasing order; all float64, wt (k, n)."""
    for i in range(x.shape[0]):
        for p in range(x.shape[1]):
            v = x[i, p]
            for j in range(wt.shape[1]):
                out[i, j] += v * wt[p, j]


@njit(nogil=True, cache=True, error_model="numpy")
def quotient_codes(x, scale, top, q):  # type: ignore[no-untyped-def]
    """q[i, j] = clip(rint(x[i, j]/scale[i]), -top - 1, top), NaN gives 0; x, scale, top float32."""
    low, zero = -top - np.float32(1), np.float32(0)
    for i in range(x.shape[0]):
        s = scale[i]
        for j in range(x.shape[1]):
            v = np.rint(x[i, j] / s)
            v = v if v == v else zero
            q[i, j] = np.int8(min(max(v, low), top))
