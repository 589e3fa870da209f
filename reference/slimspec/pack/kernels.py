"""Compiled nibble packing; the same bytes as the plain forms in `int4` and `words`.

Neighbours along the last axis are handled as one little-endian integer, the first code in its low
byte. A code fits four bits iff its bits 3..7 are equal, so (v ^ v << 1) & 0xF0 collects
violations without a branch.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_U8, _U16, _U32, _U64 = np.uint8, np.uint16, np.uint32, np.uint64


@njit(nogil=True, cache=True)
def pack_flat(pairs, out):  # type: ignore[no-untyped-def]
    """pairs uint16 [m] -> out uint8 [m]. Returns: nonzero if any code is outside [-8, 7]."""
    wrong = _U16(0)
    for i in range(pairs.size):
        v = pairs[i]
        wrong |= _U16(_U16(v ^ _U16(v << _U16(1))) & _U16(0xF0F0))
        out[i] = _U8((v & _U16(15)) | ((v >> _U16(4)) & _U16(0xF0)))
    return wrong


@njit(nogil=True, cache=True)
def pack_rows(q, out):  # type: ignore[no-untyped-def]
    """q uint8 [e, 2m, k] -> out uint8 [e, m, k]. Returns: as `pack_flat`."""
    wrong = _U8(0)
    for e in range(out.shape[0]):
        for i in range(out.shape[1]):
            low, high, row = q[e, 2 * i], q[e, 2 * i + 1], out[e, i]
            for j in range(row.size):
                a, b = low[j], high[j]
                wrong |= _U8(_U8(_U8(a ^ _U8(a << 1)) | _U8(b ^ _U8(b << 1))) & _U8(0xF0))
                row[j] = _U8(_U8(a & _U8(15)) | _U8(b << 4))
    return wrong


@njit(nogil=True, cache=True)
def unpack_flat(packed, pairs):  # type: ignore[no-untyped-def]
    """packed uint8 [m] -> pairs uint16 [m]; bit 3 of each nibble times 0x1E fills bits 4..7."""
    for i in range(packed.size):
        b = _U16(packed[i])
        v = _U16(_U16(b & _U16(15)) | _U16(_U16(b & _U16(0xF0)) << _U16(4)))
        pairs[i] = _U16(v | _U16(_U16(v & _U16(0x0808)) * _U16(0x1E)))


@njit(nogil=True, cache=True)
def unpack_rows(packed, q):  # type: ignore[no-untyped-def]
    """packed uint8 [e, m, k] -> q uint8 [e, 2m, k], two's complement: (nibble ^ 8) - 8."""
    for e in range(packed.shape[0]):
        for i in range(packed.shape[1]):
            row, low, high = packed[e, i], q[e, 2 * i], q[e, 2 * i + 1]
            for j in range(row.size):
                low[j] = _U8(_U8(_U8(row[j] & _U8(15)) ^ _U8(8)) - _U8(8))
            for j in range(row.size):
                high[j] = _U8(_U8(_U8(row[j] >> _U8(4)) ^ _U8(8)) - _U8(8))


@njit(nogil=True, cache=True)
def pack_words(octets, shifts, out):  # type: ignore[no-untyped-def]
    """octets uint64 [m], a code in each byte -> out uint32 [m]. Nonzero if a code is above 15."""
    wrong = _U64(0)
    s0, s1, s2, s3, s4, s5, s6, s7 = shifts
    n = _U64(15)
    for i in range(out.size):
        v = octets[i]
        wrong |= v & _U64(0xF0F0F0F0F0F0F0F0)
        a = ((v & n) << s0) | (((v >> _U64(8)) & n) << s1)
        b = (((v >> _U64(16)) & n) << s2) | (((v >> _U64(24)) & n) << s3)
        c = (((v >> _U64(32)) & n) << s4) | (((v >> _U64(40)) & n) << s5)
        d = (((v >> _U64(48)) & n) << s6) | (((v >> _U64(56)) & n) << s7)
        out[i] = _U32(a | b | c | d)
    return wrong


@njit(nogil=True, cache=True)
def unpack_words(words, shifts, octets):  # type: ignore[no-untyped-def]
    """words uint32 [m] -> octets uint64 [m], a code in each byte."""
    s0, s1, s2, s3, s4, s5, s6, s7 = shifts
    n = _U64(15)
    for i in range(words.size):
        w = _U64(words[i])
        a = ((w >> s0) & n) | (((w >> s1) & n) << _U64(8))
        b = (((w >> s2) & n) << _U64(16)) | (((w >> s3) & n) << _U64(24))
        c = (((w >> s4) & n) << _U64(32)) | (((w >> s5) & n) << _U64(40))
        d = (((w >> s6) & n) << _U64(48)) | (((w >> s7) & n) << _U64(56))
        octets[i] = a | b | c | d
