"""Compiled looks at whole W4A8 scales, for where nothing is wrong; importing this imports numba.

The rules say what is wrong, and where; these only say that nothing is.
"""

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def levels_fit(second, least, most, largest, top):  # type: ignore[no-untyped-def]
    """Whether every second scale is a whole number from 1 to `largest` and keeps its codes in ±top.

    Args: second float32, least and most int8, all [n, g].
    """
    fit = True
    for r in range(second.shape[0]):
        for g in range(second.shape[1]):
            level = second[r, g]
            whole = level >= 1 and level <= largest and np.trunc(level) == level
            peak = max(np.int32(most[r, g]), -np.int32(least[r, g]))
            fit &= whole and np.float32(peak) * level <= top
    return fit


@njit(nogil=True, cache=True)
def biases_are_near(stored, sums, second, step, error):  # type: ignore[no-untyped-def]
    """Whether every scale_bias is 8 Σ codes · scales but for rounding.

    Args:
        stored: float32 [n, b].
        sums: integers [n, c] of groups of columns.
        second: float32 [n, g], whole numbers; b and g divide c.
        step: float64 [n], what one code contributes an eighth of.
        error: of a sum, relative.
    """
    near, (n, biases) = True, stored.shape
    per, wide = sums.shape[1] // biases, sums.shape[1] // second.shape[1]
    for r in range(n):
        for b in range(biases):
            total = np.int64(0)
            for c in range(b * per, (b + 1) * per):
                total += np.int64(sums[r, c]) * np.int64(second[r, c // wide])
            wanted = 8.0 * total * step[r]
            near &= abs(wanted - stored[r, b]) <= max(8.0 * step[r] / 4, error * abs(wanted))
    return near
