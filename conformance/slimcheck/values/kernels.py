"""Compiled one-pass statistics of tensor bytes; importing this module imports numba.

`integers` and `words` choose between these kernels and the plain form, and say what the numbers
mean. LLVM fills a vector as the widest type of a loop asks: there is one short loop for each width,
over bytes that are in the cache by then. Places are unsigned, or numba would ask at every element
whether they are counted from the end; intermediates are narrowed by hand, or numba would widen
them.
"""

import numpy as np
from numba import njit, types

from slimcheck.values.blocks import BLOCK, MIXED, UNSEEN

NEAR = 1 << 18  # bytes that are read at once, and near when they are looked at again
_GROUP = 128  # columns of the usual group: LLVM unrolls a loop of a length that it knows
_LOOK = np.uint64(256)  # bytes that mostly tell that not all are the same
_FEW = 4096  # nibbles whose sum fits uint16
_SHORT = 512  # bytes; of fewer the end of a vector loop, one by one, takes long
_LOW, _HIGH = np.int8(-126), np.int8(126)
_SIGNS, _NIBBLE, _FOUR = np.uint8(0x88), np.uint8(15), np.uint8(4)
_EACH_SIGNS, _NIBBLES = np.uint64(0x8888888888888888), np.uint64(0x0F0F0F0F0F0F0F0F)
_HALF = np.uint64(32)  # bits of half a word
_LOWER, _UPPER, _FIRST = np.uint64(0xFFFFFFFF), np.uint64(0xFFFFFFFF << 32), np.uint64(0xFF000000FF)
WHOLE, APART, JOINT = -1, 0, 1  # integers of a byte; two of two rows; two neighbours

_pread = types.ExternalFunction(  # of the C library
    "pread", types.intp(types.intc, types.uintp, types.uintp, types.int64)
)


@njit(nogil=True)
def _extremes(x, at, size):  # type: ignore[no-untyped-def]
    """Smallest and largest of `size` elements from `at` on."""
    at = np.uint64(at)
    least = most = x[at]
    for i in range(np.uint64(size)):
        least, most = min(least, x[at + i]), max(most, x[at + i])
    return least, most


@njit(nogil=True)
def _total(x, at, size):  # type: ignore[no-untyped-def]
    """Sum of up to 2^24 int8."""
    at, total = np.uint64(at), np.int32(0)
    for i in range(np.uint64(size)):
        total = np.int32(total + np.int32(x[at + i]))
    return total


@njit(nogil=True)
def _beyond(x, at, size):  # type: ignore[no-untyped-def]
    """How many of up to BLOCK int8 lie beyond ±126."""
    at, count = np.uint64(at), np.uint16(0)
    for i in range(np.uint64(size)):
        v = x[at + i]
        count = np.uint16(count + np.uint16(np.uint8(v < _LOW) | np.uint8(v > _HIGH)))
    return np.int64(count)


@njit(nogil=True)
def _int8_extremes(x, at, k, least, most):  # type: ignore[no-untyped-def]
    """Of groups of k int8 from `at` on."""
    for r in range(least.size):
        begin = at + r * k
        if k == _GROUP:
            least[r], most[r] = _extremes(x, begin, _GROUP)
        else:
            least[r], most[r] = _extremes(x, begin, k)


@njit(nogil=True)
def _int8_sums(x, at, k, sums):  # type: ignore[no-untyped-def]
    """Of groups of k int8 from `at` on."""
    for r in range(sums.size):
        sums[r] = _total(x, at + r * k, k)


@njit(nogil=True)
def _both_extremes(x, at, size):  # type: ignore[no-untyped-def]
    """Smallest and largest nibble of bytes, counted from -8 on."""
    at, first, last = np.uint64(at), _NIBBLE, np.uint8(0)
    for i in range(np.uint64(size)):
        both = np.uint8(x[at + i] ^ _SIGNS)
        low, high = np.uint8(both & _NIBBLE), np.uint8(both >> _FOUR)
        first, last = min(first, min(low, high)), max(last, max(low, high))
    return first, last


@njit(nogil=True)
def _joint_extremes(x, at, k, least, most):  # type: ignore[no-untyped-def]
    """Of groups of 2k nibbles in k bytes."""
    for r in range(least.size):
        begin = at + r * k
        if k == _GROUP // 2:
            first, last = _both_extremes(x, begin, _GROUP // 2)
        else:
            first, last = _both_extremes(x, begin, k)
        least[r], most[r] = np.int8(first) - np.int8(8), np.int8(last) - np.int8(8)


@njit(nogil=True)
def _joint_sums(x, at, k, sums):  # type: ignore[no-untyped-def]
    """Of groups of 2k nibbles in k bytes."""
    for r in range(sums.size):
        total = np.int64(-16 * k)
        for done in range(0, k, _FEW // 2):
            begin, part = np.uint64(at + r * k + done), np.uint16(0)
            for i in range(np.uint64(min(k - done, _FEW // 2))):
                both = np.uint8(x[begin + i] ^ _SIGNS)
                part = np.uint16(part + np.uint16(np.uint8((both & _NIBBLE) + (both >> _FOUR))))
            total += np.int64(part)
        sums[r] = total


@njit(nogil=True)
def _apart_extremes(x, at, k, groups, least, most):  # type: ignore[no-untyped-def]
    """Of groups of k low nibbles, of one row of so many groups, and k high ones, of the next.

    The upper half of the smallest byte is the smallest upper half.
    """
    for i in range(0, least.size, 2 * groups):
        for j in range(i, i + groups):
            begin, first, last = np.uint64(at), np.uint8(255), np.uint8(0)
            first_low, last_low = _NIBBLE, np.uint8(0)
            for c in range(np.uint64(k)):
                both = np.uint8(x[begin + c] ^ _SIGNS)
                low = np.uint8(both & _NIBBLE)
                first, last = min(first, both), max(last, both)
                first_low, last_low = min(first_low, low), max(last_low, low)
            least[j], most[j] = np.int8(first_low) - np.int8(8), np.int8(last_low) - np.int8(8)
            least[j + groups] = np.int8(first >> _FOUR) - np.int8(8)
            most[j + groups] = np.int8(last >> _FOUR) - np.int8(8)
            at += k


@njit(nogil=True)
def _apart_sums(x, at, k, groups, sums):  # type: ignore[no-untyped-def]
    """Of groups of k low nibbles, of one row of so many groups, and k high ones, of the next."""
    if k < _SHORT and k % 8 == at % 8 == 0:
        _apart_sums_of_words(x[: x.size // 8 * 8].view(np.uint64), at // 8, k, groups, sums)
        return
    for i in range(0, sums.size, 2 * max(groups, 1)):
        for j in range(i, i + groups):
            lows = highs = np.int64(-8 * k)
            for done in range(0, k, _FEW):
                begin, low, high = np.uint64(at + done), np.uint16(0), np.uint16(0)
                for c in range(np.uint64(min(k - done, _FEW))):
                    both = np.uint8(x[begin + c] ^ _SIGNS)
                    low = np.uint16(low + np.uint16(both & _NIBBLE))
                    high = np.uint16(high + np.uint16(both >> _FOUR))
                lows += np.int64(low)
                highs += np.int64(high)
            sums[j], sums[j + groups] = lows, highs
            at += k


@njit(nogil=True)
def _apart_sums_of_words(words, at, k, groups, sums):  # type: ignore[no-untyped-def]
    """The same of eight bytes at once: low ones are summed in the lower half of a word, high ones
    in its upper half, by halves of halves.
    """
    per = k // 8
    row = np.empty(per * groups, np.uint64)
    for i in range(0, sums.size, 2 * max(groups, 1)):
        for c in range(np.uint64(row.size)):
            both = words[np.uint64(at) + c] ^ _EACH_SIGNS
            low, high = both & _NIBBLES, (both >> np.uint64(4)) & _NIBBLES
            four = ((low + (low >> _HALF)) & _LOWER) | ((high + (high << _HALF)) & _UPPER)
            two = four + (four >> np.uint64(16))
            row[c] = (two + (two >> np.uint64(8))) & _FIRST
        for j in range(groups):
            both, begin = np.uint64(0), np.uint64(j * per)
            for c in range(np.uint64(per)):
                both += row[begin + c]
            sums[i + j] = np.int64(np.uint32(both)) - 8 * k
            sums[i + j + groups] = np.int64(both >> _HALF) - 8 * k
        at += row.size


@njit(nogil=True)
def _one_value(x, at, size):  # type: ignore[no-untyped-def]
    """The unsigned integer that all from `at` on are; or MIXED."""
    at, size = np.uint64(at), np.uint64(size)
    first, done = x[at], np.uint64(0)
    while done < size:
        others, stop = np.uint64(0), min(done + _LOOK, size)
        for i in range(done, stop):
            others |= np.uint64(x[at + i] ^ first)
        if others:
            return MIXED
        done = stop
    return np.int64(first)


@njit(nogil=True)
def _widen(values, block, value):  # type: ignore[no-untyped-def]
    """Note that a block has elements of this value, or of several."""
    same = values[block] == UNSEEN or values[block] == value
    values[block] = value if same else MIXED


@njit(nogil=True)
def _blocks(x, signed, at, size, place, counted, values, ends):  # type: ignore[no-untyped-def]
    """Complete what is known of blocks by bytes from `at` on, the first at `place` of their grid.

    Args: x uint8; signed: the same as int8; counted: whether to count those beyond ±126; values
    int64 (UNSEEN, a byte, or MIXED) and ends int64 (0) of all blocks. Returns: how many lie beyond
    ±126.
    """
    beyond, done = np.int64(0), 0
    while done < size:
        here = place + done
        block = here // BLOCK if here >= 0 else -1
        stop = min((block + 1) * BLOCK - place, size)
        inside = 0 <= block < values.size
        if inside and values[block] != MIXED:
            _widen(values, block, _one_value(x, at + done, stop - done))
        if counted:
            count = _beyond(signed, at + done, stop - done)
            beyond += count
            if inside:
                ends[block] += count
        done = stop
    return beyond


@njit(nogil=True)
def _read(handle, at, size, buffer, to):  # type: ignore[no-untyped-def]
    """Read bytes of an open file from `at` on into a buffer, from `to` on; False if they end."""
    while size > 0:
        found = _pread(np.int32(handle), buffer.ctypes.data + to, np.uintp(size), at)
        if found <= 0:
            return False
        at, to, size = at + found, to + found, size - found
    return True


@njit(nogil=True, cache=True)
def gather(handle, table, out):  # type: ignore[no-untyped-def]
    """Read parts of an open file into uint8; table int64 [m, 3]: where, how many bytes, where to.

    Returns: the number of the first that cannot be read, or m.
    """
    for i in range(table.shape[0]):
        at, size, to = table[i]
        if not _read(handle, at, size, out, to):
            return i
    return table.shape[0]


@njit(nogil=True, cache=True)
def integer_lot(handle, x, table, sums, least, most, values, ends, beyond, samples):  # type: ignore[no-untyped-def]
    """Fill the statistics of matrices of integers, those of one behind those of another.

    Args:
        handle: an open file, read piece by piece into x, which holds NEAR and any row; or -1.
        x: uint8; the bytes of all matrices, if there is no file.
        table: int64 [m, 11]: where a matrix begins in the file or in x, its rows and their bytes
            there, how integers lie in the bytes (WHOLE, APART, JOINT), the place of its first byte
            in the grid of blocks; groups in a row of which the extremes are asked, groups of which
            the sums are (or 0); where the former and the latter begin; from where to where its
            blocks lie.
        sums: int32; least, most: int8.
        values (UNSEEN): int64, and ends (0): int64, of blocks; beyond (0): int64 [m].
        samples (0): uint8 [m, s], bytes at equal distances.

    Returns: the number of the first matrix that cannot be read, or m.
    """
    signed = x.view(np.int8)
    for i in range(table.shape[0]):
        at, rows, row, packing, place, groups, chunks, group, chunk, block, last = table[i]
        two = 2 if packing == APART else 1
        step = max(NEAR // row, 1)
        b = slice(block, last)
        for r in range(0, rows, step):
            stop = min(r + step, rows)
            begin, size = at + r * row, (stop - r) * row
            if handle >= 0:
                if not _read(handle, begin, size, x, 0):
                    return i
                begin = 0
            g = slice(group + r * groups * two, group + stop * groups * two)
            s = slice(chunk + r * chunks * two, chunk + stop * chunks * two)
            k, part = row // groups, row // max(chunks, 1)
            if packing == APART:
                _apart_extremes(x, begin, k, groups, least[g], most[g])
                _apart_sums(x, begin, part, chunks, sums[s])
            elif packing == JOINT:
                _joint_extremes(x, begin, k, least[g], most[g])
                _joint_sums(x, begin, part, sums[s])
            else:
                _int8_extremes(signed, begin, k, least[g], most[g])
                _int8_sums(signed, begin, part, sums[s])
            beyond[i] += _blocks(
                x, signed, begin, size, place + r * row, packing == WHOLE, values[b], ends[b]
            )
            _sample(x, begin, size, r * row, max(rows * row // samples.shape[1], 1), samples[i])
    return table.shape[0]


@njit(nogil=True)
def _sample(x, at, size, done, stride, found):  # type: ignore[no-untyped-def]
    """Take elements at multiples of `stride`, of x from `at` on, before which `done` lie."""
    for j in range((done + stride - 1) // stride, found.size):
        if j * stride >= done + size:
            return
        found[j] = x[at + j * stride - done]


@njit(nogil=True, cache=True)
def lowest_nibbles(x):  # type: ignore[no-untyped-def]
    """How many nibbles of uint8 are -8, which is 0 with its sign bit turned."""
    found = np.int64(0)
    for done in range(0, x.size, _FEW):
        first, count = np.uint64(done), np.uint16(0)
        for i in range(np.uint64(min(x.size - done, _FEW))):
            both = np.uint8(x[first + i] ^ _SIGNS)
            low, high = np.uint8(both & _NIBBLE), np.uint8(both >> _FOUR)
            count = np.uint16(count + np.uint16(np.uint8(low == 0) + np.uint8(high == 0)))
        found += np.int64(count)
    return found


@njit(nogil=True)
def _first_special(words, at, size, exponent):  # type: ignore[no-untyped-def]
    """Number of the first of `size` words from `at` on with all bits of `exponent`, or -1."""
    at, special = np.uint64(at), False
    for i in range(np.uint64(size)):
        special |= (words[at + i] & exponent) == exponent
    if special:
        for i in range(size):
            if (words[at + np.uint64(i)] & exponent) == exponent:
                return i
    return -1


@njit(nogil=True, cache=True)
def word_lot(handle, x, words, table, exponents, values, firsts, samples):  # type: ignore[no-untyped-def]
    """Fill the statistics of tensors of unsigned words, those of one behind those of another.

    Args:
        handle: an open file, read piece by piece into x of NEAR bytes; or -1.
        x: uint8; words: the same as words; the bytes of all tensors, if there is no file.
        table: int64 [m, 5]: where a tensor begins in the file or in `words`, how many words it has,
            the place of its first word in the grid of blocks, from where to where its blocks lie.
        exponents: words [m], bits that no finite number has all; 0: not asked.
        values (UNSEEN): int64 of blocks; firsts (-1): int64 [m], first word that is no finite
            number; samples: words [m, s], at equal distances.

    Returns: the number of the first tensor that cannot be read, or m.
    """
    width = words.itemsize
    per, step = BLOCK // width, NEAR // width
    for i in range(table.shape[0]):
        at, size, place, first_block, last_block = table[i]
        own = values[first_block:last_block]
        for done in range(0, size, step):
            count, begin = min(step, size - done), at + done
            if handle >= 0:
                if not _read(handle, at + done * width, count * width, x, 0):
                    return i
                begin = 0
            part = 0
            while part < count:
                here = place + done + part
                block = here // per if here >= 0 else -1
                stop = min((block + 1) * per - place - done, count)
                if 0 <= block < own.size and own[block] != MIXED:
                    _widen(own, block, _one_value(words, begin + part, stop - part))
                if exponents[i] and firsts[i] < 0:
                    special = _first_special(words, begin + part, stop - part, exponents[i])
                    firsts[i] = done + part + special if special >= 0 else -1
                part = stop
            _sample(words, begin, count, done, max(size // samples.shape[1], 1), samples[i])
    return table.shape[0]
