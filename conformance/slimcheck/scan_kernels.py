"""Compiled one-pass statistics of tensor bytes; importing this module imports numba.

`scan_stats` chooses between these kernels and the plain form, and says what the numbers mean.
LLVM fills a vector as the widest type of a loop asks: there is one loop for each width, over values
that are in the cache by then. Intermediates are narrowed by hand (numba widens sums), and inner
loops have a constant length: so they are vectorized.
"""

import numpy as np
from numba import njit

BLOCK = 4096
_CHUNK = 128  # values whose sum fits int16 and whose number fits uint8
_ATOM = 64  # bytes of a group that are looked at together
_MANY = 1024  # bytes whose sum of nibbles fits uint16
_NEAR = 1 << 17  # bytes that are near when they are looked at again
_LOW, _HIGH = np.int8(-126), np.int8(126)
_NIBBLE, _SIGN, _FOUR, _ONE = np.uint8(15), np.uint8(8), np.uint8(4), np.uint8(1)


@njit(nogil=True, cache=True)
def _segment(x):  # type: ignore[no-untyped-def]
    """Smallest, largest, sum, and number of values beyond ±126 of an int8 array."""
    least = most = x[0]
    for i in range(x.size):
        v = x[i]
        least = v if v < least else least
        most = v if v > most else most
    total = ends = np.int64(0)
    whole = x.size // _CHUNK * _CHUNK
    for at in range(0, whole, _CHUNK):
        part = x[at : at + _CHUNK]
        partial = np.int16(0)
        for i in range(_CHUNK):
            partial = np.int16(partial + np.int16(part[i]))
        ends += _beyond(part)
        total += partial
    for i in range(whole, x.size):
        total += x[i]
        ends += x[i] < _LOW or x[i] > _HIGH
    return least, most, total, ends


@njit(nogil=True, cache=True)
def _beyond(x):  # type: ignore[no-untyped-def]
    """How many of _CHUNK values lie beyond ±126."""
    count = np.uint8(0)
    for i in range(_CHUNK):
        count = np.uint8(count + (np.uint8(x[i] < _LOW) | np.uint8(x[i] > _HIGH)))
    return count


@njit(nogil=True, cache=True)
def int8_rows(x, k, base, lead, sums, least, most, low, high, ends):  # type: ignore[no-untyped-def]
    """Fill the statistics of rows and of 4 KiB blocks; return how many values lie beyond ±126.

    Args: x int8: whole rows of k, the first at element `base` of the tensor; `lead` elements of the
    tensor lie before its first whole block; sums int64 (0), least (127) and most (-128) int8 of
    these rows; low (127), high (-128) int8 and ends (0) int64 of all blocks.
    """
    beyond, at = np.int64(0), 0
    for r in range(sums.size):
        stop_row = at + k
        while at < stop_row:
            place = base + at
            block = (place - lead) // BLOCK if place >= lead else -1
            stop = min(lead + (block + 1) * BLOCK - base, stop_row)
            first, last, total, count = _segment(x[at:stop])
            beyond += count
            sums[r] += total
            least[r] = min(least[r], first)
            most[r] = max(most[r], last)
            if 0 <= block < low.size:
                low[block] = min(low[block], first)
                high[block] = max(high[block], last)
                ends[block] += count
            at = stop
    return beyond


@njit(nogil=True, cache=True)
def int8_lot(x, table, sums, least, most, low, high, ends, beyond):  # type: ignore[no-untyped-def]
    """`int8_rows` of several matrices in x: their statistics one after another.

    Args: table int64 [m, 7]: where a matrix begins in x, its rows and columns, its lead, and where
    its rows, and its blocks from where to where, begin in the statistics; beyond int64 [m].
    """
    for i in range(table.shape[0]):
        at, n, k, lead, row, block, last = table[i]
        r, b = slice(row, row + n), slice(block, last)
        beyond[i] = int8_rows(
            x[at : at + n * k], k, 0, lead, sums[r], least[r], most[r], low[b], high[b], ends[b]
        )


@njit(nogil=True, cache=True)
def int8_groups(x, k, sums, least, most):  # type: ignore[no-untyped-def]
    """Fill the statistics of short rows of k int8: sums int64, least (127) and most (-128) int8."""
    for r in range(sums.size):
        first, last, total = least[r], most[r], np.int64(0)
        at, stop = r * k, r * k + k
        while at + _ATOM <= stop:
            part = x[at : at + _ATOM]
            for i in range(_ATOM):
                first, last = min(first, part[i]), max(last, part[i])
            partial = np.int16(0)
            for i in range(_ATOM):
                partial = np.int16(partial + np.int16(part[i]))
            total += partial
            at += _ATOM
        for i in range(at, stop):
            first, last = min(first, x[i]), max(last, x[i])
            total += x[i]
        least[r], most[r], sums[r] = first, last, total


@njit(nogil=True, cache=True)
def lowest_nibbles(x):  # type: ignore[no-untyped-def]
    """How many nibbles of uint8 are -8, which is 0 with its sign bit turned."""
    others = np.int64(0)
    whole = x.size // _ATOM * _ATOM
    for at in range(0, whole, _ATOM):
        part, even, odd = x[at : at + _ATOM], np.uint8(0), np.uint8(0)
        for i in range(_ATOM):
            even = np.uint8(even + min(np.uint8((part[i] & _NIBBLE) ^ _SIGN), _ONE))
            odd = np.uint8(odd + min(np.uint8((part[i] >> _FOUR) ^ _SIGN), _ONE))
        others += np.int64(even) + np.int64(odd)
    for i in range(whole, x.size):
        others += np.int64((x[i] & _NIBBLE) != _SIGN) + np.int64((x[i] >> _FOUR) != _SIGN)
    return 2 * x.size - others


@njit(nogil=True, cache=True)
def _many_nibbles(x):  # type: ignore[no-untyped-def]
    """Of _MANY bytes: (smallest, largest, sum) of the low nibbles, the same of the high ones."""
    first_0, first_1, last_0, last_1 = _NIBBLE, _NIBBLE, np.uint8(0), np.uint8(0)
    for i in range(_MANY):
        even = np.uint8((x[i] & _NIBBLE) ^ _SIGN)
        first_0, last_0 = min(first_0, even), max(last_0, even)
        odd = np.uint8((x[i] >> _FOUR) ^ _SIGN)
        first_1, last_1 = min(first_1, odd), max(last_1, odd)
    sum_0 = sum_1 = np.uint16(0)
    for i in range(_MANY):
        sum_0 = np.uint16(sum_0 + np.uint16((x[i] & _NIBBLE) ^ _SIGN))
        sum_1 = np.uint16(sum_1 + np.uint16((x[i] >> _FOUR) ^ _SIGN))
    return first_0, last_0, sum_0, first_1, last_1, sum_1


@njit(nogil=True, cache=True)
def nibble_groups(x, k, sums, least, most):  # type: ignore[no-untyped-def]
    """Fill the statistics of both nibbles of groups of k bytes.

    Codes are counted from -8 on, 0 to 15: two's complement with its sign bit turned. Args: x uint8;
    sums int32, least and most uint8 [rows, 2, groups] of the low and of the high nibbles.
    """
    rows, _, groups = sums.shape
    for r in range(rows * groups):
        first_0, first_1, last_0, last_1 = _NIBBLE, _NIBBLE, np.uint8(0), np.uint8(0)
        total_0 = total_1 = np.int64(0)
        at, stop = r * k, r * k + k
        while at + _MANY <= stop:
            found = _many_nibbles(x[at : at + _MANY])
            first_0, last_0 = min(first_0, found[0]), max(last_0, found[1])
            first_1, last_1 = min(first_1, found[3]), max(last_1, found[4])
            total_0 += found[2]
            total_1 += found[5]
            at += _MANY
        while at + _ATOM <= stop:
            part = x[at : at + _ATOM]
            for i in range(_ATOM):
                even = np.uint8((part[i] & _NIBBLE) ^ _SIGN)
                first_0, last_0 = min(first_0, even), max(last_0, even)
                odd = np.uint8((part[i] >> _FOUR) ^ _SIGN)
                first_1, last_1 = min(first_1, odd), max(last_1, odd)
            sum_0 = sum_1 = np.uint16(0)
            for i in range(_ATOM):
                sum_0 = np.uint16(sum_0 + np.uint16((part[i] & _NIBBLE) ^ _SIGN))
                sum_1 = np.uint16(sum_1 + np.uint16((part[i] >> _FOUR) ^ _SIGN))
            total_0 += sum_0
            total_1 += sum_1
            at += _ATOM
        for i in range(at, stop):
            even, odd = np.uint8((x[i] & _NIBBLE) ^ _SIGN), np.uint8((x[i] >> _FOUR) ^ _SIGN)
            first_0, last_0 = min(first_0, even), max(last_0, even)
            first_1, last_1 = min(first_1, odd), max(last_1, odd)
            total_0 += even
            total_1 += odd
        row, g = r // groups, r % groups
        least[row, 0, g], least[row, 1, g] = first_0, first_1
        most[row, 0, g], most[row, 1, g] = last_0, last_1
        sums[row, 0, g], sums[row, 1, g] = total_0, total_1


@njit(nogil=True, cache=True)
def int8_blocks(x, lead, first, stop, low, high, ends):  # type: ignore[no-untyped-def]
    """Fill the extremes and ends of the whole blocks from `first` up to `stop` of int8.

    Args: as for `int8_rows`; x is the whole tensor.
    """
    for block in range(first, stop):
        part = x[lead + block * BLOCK : lead + (block + 1) * BLOCK]
        least = most = part[0]
        for i in range(BLOCK):
            least, most = min(least, part[i]), max(most, part[i])
        count = np.int64(0)
        for at in range(0, BLOCK, _CHUNK):
            count += _beyond(part[at : at + _CHUNK])
        low[block], high[block], ends[block] = least, most, count


@njit(nogil=True, cache=True)
def int8_groups_and_blocks(x, k, lead, sums, least, most, low, high, ends):  # type: ignore[no-untyped-def]
    """Like `int8_rows` for short rows; x is the whole tensor."""
    done, step = 0, max(_NEAR // k, 1)
    for r in range(0, sums.size, step):
        stop = min(r + step, sums.size)
        int8_groups(x[r * k : stop * k], k, sums[r:stop], least[r:stop], most[r:stop])
        whole = max((stop * k - lead) // BLOCK, 0)
        int8_blocks(x, lead, done, whole, low, high, ends)
        done = max(done, whole)
    beyond = ends.sum()
    for i in range(min(lead, x.size)):
        beyond += x[i] < _LOW or x[i] > _HIGH
    for i in range(lead + low.size * BLOCK, x.size):
        beyond += x[i] < _LOW or x[i] > _HIGH
    return beyond


@njit(nogil=True, cache=True)
def nibble_groups_and_blocks(x, k, lead, sums, least, most, low, high, ends):  # type: ignore[no-untyped-def]
    """`nibble_groups` of x uint8, the whole tensor, and the blocks of its bytes as int8."""
    done, row = 0, k * sums.shape[2]
    step = max(_NEAR // row, 1)
    for r in range(0, sums.shape[0], step):
        stop = min(r + step, sums.shape[0])
        nibble_groups(x[r * row : stop * row], k, sums[r:stop], least[r:stop], most[r:stop])
        whole = max((stop * row - lead) // BLOCK, 0)
        int8_blocks(x.view(np.int8), lead, done, whole, low, high, ends)
        done = max(done, whole)


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

    Args: x uint8, uint16 or uint32, the first at element `base` of the tensor; `lead` elements lie
    before the first whole block of `step`; low (all set) and high (0) of the dtype of x, of all
    blocks.
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
