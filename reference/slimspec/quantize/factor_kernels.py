"""Compiled forms of `inverse_factor`: the same float64 operations, in the same order per element.

Rows are taken in panels that stay in the cache; only the lower triangle is touched.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

PANEL = 32


@njit(nogil=True, cache=True)
def _subtract(row, factor, other, count):  # type: ignore[no-untyped-def]
    """row[c] -= factor·other[c] for c < count."""
    for c in range(count):
        row[c] -= factor * other[c]


@njit(nogil=True, cache=True)
def factor(a: NDArray, t: NDArray) -> bool:
    """As `inverse_factor._factor`; a, t [k, k] float64."""
    stop = a.shape[0]
    while stop > 0:
        start = max(0, stop - PANEL)
        for p in range(stop - 1, start - 1, -1):
            if not a[p, p] > 0:
                return False
            t[p, p] = np.sqrt(a[p, p])
            for c in range(p):
                t[p, c] = a[p, c] / t[p, p]
            for i in range(start, p):
                _subtract(a[i], t[p, i], t[p], i + 1)
        for i in range(start):
            for p in range(stop - 1, start - 1, -1):
                _subtract(a[i], t[p, i], t[p], i + 1)
        stop = start
    return True


@njit(nogil=True, cache=True)
def invert(t: NDArray, v: NDArray) -> None:
    """As `inverse_factor._invert`; t, v [k, k] float64."""
    k = t.shape[0]
    for start in range(0, k, PANEL):
        stop = min(start + PANEL, k)
        for p in range(start, stop):
            for c in range(p + 1):
                v[p, c] /= t[p, p]
            for i in range(p + 1, stop):
                _subtract(v[i], t[i, p], v[p], p + 1)
        for i in range(stop, k):
            for p in range(start, stop):
                _subtract(v[i], t[i, p], v[p], p + 1)
