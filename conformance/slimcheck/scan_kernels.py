"""Compiled one-pass statistics of tensor bytes; importing this module imports numba.

`scan_stats` chooses between these kernels and the plain form, and says what the numbers mean.
"""

import numpy as np
from numba import njit

BLOCK = 4096
_CHUNK = 128  # values whose sum fits int16 and whose number fits uint8
_LOW, _HIGH = np.int8(-126), np.int8(126)


@njit(nogil=True, cache=True)
def _segment(x):  # type: ignore[no-untyped-def]
    """Smallest, largest, sum, and number of values beyond ±126 of an int8 array.

    One loop for each width of accumulator, over values that are in the cache by then: LLVM fills a
    vector as its widest type asks. Intermediates are narrowed by hand (numba widens sums), and
    chunks have a constant length: so the loops are vectorized.
    """
    least = most = x[0]
    for i in range(x.size):
        v = x[i]
        least = v if v < least else least
        most = v if v > most else most
    total = ends = np.int64(0)
    whole = x.size // _CHUNK * _CHUNK
    for at in range(0, whole, _CHUNK):
        part = x[at : at + _CHUNK]
        count = np.uint8(0)
        for i in range(_CHUNK):
            count = np.uint8(count + (np.uint8(part[i] < _LOW) | np.uint8(part[i] > _HIGH)))
        partial = np.int16(0)
        for i in range(_CHUNK):
            partial = np.int16(partial + np.int16(part[i]))
        ends += count
        total += partial
    for i in range(whole, x.size):
        total += x[i]
        ends += x[i] < _LOW or x[i] > _HIGH
    return least, most, total, ends


@njit(nogil=True, cache=True)
def int8_rows(x, k, base, lead, row_sum, row_min, row_max, low, high, ends):  # type: ignore[no-untyped-def]
    """Fill the statistics of rows and of 4 KiB blocks; return how many values lie beyond ±126.

    Args: x int8: whole rows of k, the first at element `base` of the tensor; `lead` elements of the
    tensor lie before its first whole block; row_sum int64, row_min, row_max int8 of these rows;
    low, high int8 and ends int64 of all blocks.
    """
    beyond, at = np.int64(0), 0
    for r in range(row_sum.size):
        stop_row = at + k
        while at < stop_row:
            place = base + at
            block = (place - lead) // BLOCK if place >= lead else -1
            stop = min(lead + (block + 1) * BLOCK - base, stop_row)
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
def float_words(x, exponent, base, lead, step, low, high):  # type: ignore[no-untyped-def]
    """Fill the extremes of blocks; return the first place without a finite number, or -1.

    Args: x uint16 or uint32, the first at element `base` of the tensor; `lead` elements lie before
    the first whole block of `step`; low (all set) and high (0) of the dtype of x, of all blocks.
    """
    first, at = -1, 0
    while at < x.size:
        place = base + at
        block = (place - lead) // step if place >= lead else -1
        stop = min(lead + (block + 1) * step - base, x.size)
        least, most, special = _words(x[at:stop], exponent)
        if 0 <= block < low.size:
            low[block] = min(low[block], least)
            high[block] = max(high[block], most)
        if special and first < 0:
            for i in range(at, stop):
                if first < 0 and (x[i] & exponent) == exponent:
                    first = base + i
        at = stop
    return first
