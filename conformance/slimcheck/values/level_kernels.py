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

    Products and their sums are whole numbers that float64 holds.

    Args:
        stored: float32 [n, b].
        sums: integers [n, c] of groups of columns.
        second: float32 [n, g], whole numbers; b and g divide c.
        step: float64 [n], what one code contributes an eighth of.
        error: of a sum, relative.
    """
    (n, c), biases = sums.shape, stored.shape[1]
    per, wide = c // biases, c // second.shape[1]
    totals, near = np.empty(biases, np.float64), True
    for r in range(np.uint64(n)):
        if per == 1:
            _scaled(sums, second, r, wide, totals)
        else:
            _sums_of_scaled(sums, second, r, per, wide, totals)
        near &= _all_near(stored, totals, r, step[r], error)
    return near


@njit(nogil=True)
def _scaled(sums, second, r, wide, totals):  # type: ignore[no-untyped-def]
    """Scale the sums of a row, each group of so many by its own level."""
    wide = np.uint64(wide)
    for g in range(np.uint64(second.shape[1])):
        level = np.float64(second[r, g])
        for i in range(g * wide, (g + np.uint64(1)) * wide):
            totals[i] = level * sums[r, i]


@njit(nogil=True)
def _sums_of_scaled(sums, second, r, per, wide, totals):  # type: ignore[no-untyped-def]
    """The same, and then sum so many each."""
    for b in range(totals.size):
        total = np.float64(0)
        for c in range(b * per, (b + 1) * per):
            total += np.float64(sums[r, c]) * np.float64(second[r, c // wide])
        totals[b] = total


@njit(nogil=True)
def _all_near(stored, totals, r, step, error):  # type: ignore[no-untyped-def]
    """Whether all of a row are 8 · totals · step but for rounding."""
    near, least = True, 8.0 * step / 4
    for i in range(np.uint64(totals.size)):
        wanted = 8.0 * totals[i] * step
        far = abs(wanted - stored[r, i])
        near &= (far <= least) | (far <= error * abs(wanted))
    return near
