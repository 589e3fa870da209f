"""Compiled one-pass statistics of tensor bytes; importing this module imports numba.

`scan_stats` chooses between these kernels and the plain form, and says what the numbers mean.
"""

import numpy as np
from numba import njit

_CHUNK = 128  # values whose sum fits int16 and whose number fits uint8
_SHIFT, _MOST = np.int8(126), np.uint8(252)  # v + 126 as uint8 is above 252 for v beyond ±126


@njit(nogil=True, cache=True)
def _segment(x):  # type: ignore[no-untyped-def]
    """Smallest, largest, sum, and number of values beyond ±126 of an int8 array.

    Intermediates are narrowed by hand: numba widens sums, and then does not vectorize well.
    """
    least = most = x[0]
    total = ends = np.int64(0)
    for at in range(0, x.size, _CHUNK):
        part = x[at : at + _CHUNK]
        partial, count = np.int16(0), np.uint8(0)
        for i in range(part.size):
            v = part[i]
            least = v if v < least else least
            most = v if v > most else most
            partial = np.int16(partial + np.int16(v))
            count = np.uint8(count + np.uint8(np.uint8(v + _SHIFT) > _MOST))
        total += partial
        ends += count
    return least, most, total, ends


@njit(nogil=True, cache=True)
def int8_rows(x, k, lead, step, row_sum, row_min, row_max, low, high, ends):  # type: ignore[no-untyped-def]
    """Fill the statistics of rows and of blocks; return how many values lie beyond ±126.

    Args: x int8 [n·k]; `lead` bytes lie before the first whole block of `step`; row_sum int64,
    row_min, row_max int8 [n]; low, high int8 and ends int64 [blocks].
    """
    beyond, at = np.int64(0), 0
    for r in range(row_sum.size):
        stop_row = at + k
        while at < stop_row:
            block = (at - lead) // step if at >= lead else -1
            stop = min(lead + (block + 1) * step, stop_row)
            least, most, total, count = _segment(x[at:stop])
            beyond += count
            row_sum[r] += total
            row_min[r] = min(row_min[r], least)
            row_max[r] = max(row_max[r], most)
            if 0 <= block < low.size:
                low[block] = min(low[block], least)
                high[block] = max(high[block], most)
                ends[block] += count
            at = stop
    return beyond


@njit(nogil=True, cache=True)
def _words(x, exponent):  # type: ignore[no-untyped-def]
    """Smallest and largest word of a short array, and whether one has all bits of `exponent`."""
    least = most = x[0]
    special = False
    for i in range(x.size):
        v = x[i]
        least = v if v < least else least
        most = v if v > most else most
        special |= (v & exponent) == exponent
    return least, most, special


@njit(nogil=True, cache=True)
def float_words(x, exponent, lead, step, low, high):  # type: ignore[no-untyped-def]
    """Fill the extremes of blocks; return the first place without a finite number, or -1.

    Args: x uint16 or uint32; `lead` words lie before the first whole block of `step` words; low,
    high of the dtype of x [blocks].
    """
    first, at = -1, 0
    while at < x.size:
        block = (at - lead) // step if at >= lead else -1
        stop = min(lead + (block + 1) * step, x.size)
        least, most, special = _words(x[at:stop], exponent)
        if 0 <= block < low.size:
            low[block], high[block] = least, most
        if special and first < 0:
            for i in range(at, stop):
                if first < 0 and (x[i] & exponent) == exponent:
                    first = i
        at = stop
    return first
