# mypy: disable-error-code="assignment, arg-type, return-value"
"""The tables of the compiled decoder: the code book by nine bits, a dictionary by twelve.

Type errors of int against np.int64 are off: the compiler makes both the same 64-bit integer.

Source: facts/sparse_codec.md 4, 6.
"""

import numpy as np

from slimspec.sparse.codebook import Mode, symbol_table
from slimspec.sparse.kernels import Bytes, Int64, Words, jit

U64 = np.uint64
UNASSIGNED, RUN, INDEX, ESCAPE, END = range(5)
KINDS = {"run": RUN, "index": INDEX, "escape": ESCAPE, "end": END}
MULTI_BITS = 12
MULTI_BYTES = 6


class Book:
    """The code book as arrays [512] over the next nine bits: kind, code length, value.

    `layout` is int64 [size], the header positions of the dictionary; `known` masks the bytes of
    header word 0 whose value does not depend on the weight.
    """

    def __init__(self, mode: Mode) -> None:
        table = symbol_table(mode)
        self.kinds = np.array([KINDS[s.kind] if s else UNASSIGNED for s in table], np.int64)
        self.lengths = np.array([s.length if s else 0 for s in table], np.int64)
        self.values = np.array([s.value if s else 0 for s in table], np.int64)
        self.layout = np.array(mode.dictionary_bytes, np.int64)
        self.marker = mode.marker
        dictionary = [at for at in mode.dictionary_bytes if at < 8]
        self.known = U64(sum(0xFF << 8 * at for at in range(8) if at not in (4, 5, *dictionary)))


@jit
def build_single(
    kinds: Int64, lengths: Int64, values: Int64, dictionary: Bytes, single: Words
) -> None:
    """Fill single[next nine bits]: output byte, count, code bits, kind, from byte 0 up."""
    for symbol in range(512):
        value, count = 0, 1
        if kinds[symbol] == RUN:
            value, count = dictionary[0], values[symbol]
        elif kinds[symbol] == INDEX:
            value = dictionary[values[symbol]]
        single[symbol] = (
            U64(value)
            | U64(count) << U64(8)
            | U64(lengths[symbol]) << U64(16)
            | U64(kinds[symbol]) << U64(24)
        )


@jit
def build_multi(single: Words, multi: Words) -> None:
    """Fill multi[2^b + v] with what the next b bits v hold whole, b = 0 to 12.

    Bytes 0-5 of an entry are output, byte 6 their count, byte 7 the code bits they took.
    """
    for slot in range(1, multi.shape[0]):
        available = 0
        while slot >> (available + 1):
            available += 1
        bits = slot - (1 << available)
        position, count, entry = 0, 0, U64(0)
        while position < available:
            symbol = single[(bits >> position) & 511]
            kind, length = symbol >> U64(24), np.int64((symbol >> U64(16)) & U64(255))
            repeat = np.int64((symbol >> U64(8)) & U64(255))
            if kind != U64(RUN) and kind != U64(INDEX):
                break
            if position + length > available or count + repeat > MULTI_BYTES:
                break
            for _ in range(repeat):
                entry |= (symbol & U64(255)) << U64(8 * count)
                count += 1
            position += length
        multi[slot] = entry | U64(count) << U64(48) | U64(position) << U64(56)


@jit
def load_dictionary(
    stored_bytes: Bytes,
    kinds: Int64,
    lengths: Int64,
    values: Int64,
    layout: Int64,
    dictionary: Bytes,
    single: Words,
    multi: Words,
) -> bool:
    """Read the dictionary of engine 0 and build its tables; False if a value repeats."""
    for entry in range(layout.shape[0]):
        value = stored_bytes[0, layout[entry]]
        for earlier in range(entry):
            if dictionary[earlier] == value:
                return False
        dictionary[entry] = value
    build_single(kinds, lengths, values, dictionary, single)
    build_multi(single, multi)
    return True
