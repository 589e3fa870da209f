# mypy: disable-error-code="assignment, arg-type, return-value"
"""The compiled tile decoder: accepts exactly what `tile.decode_tile` accepts, with the same bytes.

A symbol of the code book is found in a 512-entry table on the next nine bits. Dense parts go
through a second table on twelve bits whose entries hold up to six output bytes at once; it is used
only where all of them surely fit, every other place takes the single step with all its checks.

Type errors of int against np.int64 are off: the compiler makes both the same 64-bit integer.

Source: facts/sparse_codec.md 4, 5, 6, 10 levels 2 and 3.
"""

from collections.abc import Sequence

import numpy as np

from slimspec.sparse.container import StoredTile
from slimspec.sparse.decode_tables import (
    END,
    ESCAPE,
    MULTI_BITS,
    MULTI_BYTES,
    RUN,
    UNASSIGNED,
    Book,
    load_dictionary,
)
from slimspec.sparse.encode_kernels import ENGINE_WORDS, HEADER_WORDS
from slimspec.sparse.kernels import Bytes, Int64, Words, deinterleave, jit, scatter_tile

U64 = np.uint64
BYTES_MASK = U64(0x0000FFFFFFFFFFFF)  # output bytes of a table entry
PARITY_MASK = U64(0xFFFF0000FFFFFFFF)  # header word 0 without bytes 4 and 5
FULL_SLOT = U64(1 << MULTI_BITS)


class Scratch:
    """Working space of one thread: stored and decoded engine words, the tables of a dictionary."""

    def __init__(self) -> None:
        self.stored = np.zeros((4, ENGINE_WORDS), np.uint64)
        self.stored_bytes = self.stored.view(np.uint8)
        self.decoded = np.zeros((4, ENGINE_WORDS), np.uint64)
        self.head = np.zeros(HEADER_WORDS, np.uint64)  # header that the tables were built for
        self.dictionary = np.zeros(64, np.uint8)
        self.single = np.zeros(512, np.uint64)
        self.multi = np.zeros(2 << MULTI_BITS, np.uint64)


@jit
def emit(entry: np.uint64, count: int, produced: int, partial: np.uint64, out: Words) -> np.uint64:
    """Append `count` <= 6 bytes; `partial` holds the bytes of the output word not yet full.

    Bytes of the entry past `count` are zero. Returns the new partial word.
    """
    shift = U64(8) * (U64(produced) & U64(7))
    partial |= entry << shift
    out[U64(produced) >> U64(3)] = partial
    if (produced & 7) + count >= 8:
        return (entry >> U64(1)) >> (U64(63) - shift)
    return partial


@jit
def reversed_byte(bits: np.uint64) -> np.uint64:
    """Return the low eight bits in the opposite order."""
    value = U64(0)
    for j in range(8):
        value |= ((bits >> U64(j)) & U64(1)) << U64(7 - j)
    return value


@jit
def room_needed(symbol: np.uint64) -> int:
    """Return the bits that this first code, or for a run any run, needed in the last packet."""
    kind = symbol >> U64(24)
    if kind == U64(ESCAPE):
        return 12
    if kind == U64(RUN):
        return 3
    return np.int64((symbol >> U64(16)) & U64(255))


@jit
def decode_packets(
    stored: Words, words: int, size: int, single: Words, multi: Words, out: Words
) -> int:
    """Decode the packets in stored[5:words]; return the bytes used with header, 0 for a defect.

    One long loop on purpose: handing its state to functions halves the speed.
    """
    produced, unused, partial = 0, 0, U64(0)
    for at in range(HEADER_WORDS, words):
        rest, position, start = stored[at], 0, produced
        limit = min(size, start + 64)
        if unused > 0 and unused >= room_needed(single[rest & U64(511)]):
            return 0
        unused = 0
        while True:
            # Whole runs and indices, twelve bits at a time, then once what is left of the packet.
            while position <= 63 - MULTI_BITS and produced + MULTI_BYTES <= limit:
                entry = multi[FULL_SLOT | (rest & (FULL_SLOT - U64(1)))]
                taken = entry >> U64(56)
                if taken == U64(0):
                    break
                count = np.int64((entry >> U64(48)) & U64(255))
                partial = emit(entry & BYTES_MASK, count, produced, partial, out)
                produced += count
                rest >>= taken
                position += np.int64(taken)
            if position > 63 - MULTI_BITS and produced + MULTI_BYTES <= limit:
                slot = U64(1) << U64(63 - position)
                entry = multi[slot | (rest & (slot - U64(1)))]
                count = np.int64((entry >> U64(48)) & U64(255))
                partial = emit(entry & BYTES_MASK, count, produced, partial, out)
                produced += count
                rest >>= entry >> U64(56)
                position += np.int64(entry >> U64(56))
            # The cap, the fill.
            if produced - start == 64 and produced < size:
                if rest != U64(0):
                    return 0
                break
            left = 64 - position
            if left < 12 and (left == 1 or rest & U64(15) == U64(15)):
                if rest != (U64(1) << U64(left)) - U64(1):
                    return 0
                unused = 63 - position
                break
            # One code word with all its checks.
            symbol = single[rest & U64(511)]
            kind, length = symbol >> U64(24), np.int64((symbol >> U64(16)) & U64(255))
            if kind == U64(UNASSIGNED) or position + length > 63:
                return 0
            rest >>= U64(length)
            position += length
            if kind == U64(END):
                if produced != size:
                    return 0
                for q in range(at + 1, words):
                    rest |= stored[q]
                return 8 * at + (position + 7) // 8 if rest == U64(0) else 0
            value, count = symbol & U64(255), np.int64((symbol >> U64(8)) & U64(255))
            if produced + count > limit:
                return 0
            if kind == U64(ESCAPE):
                value = reversed_byte(rest)
                rest >>= U64(8)
                position += 8
            for _ in range(count):
                partial = emit(value, 1, produced, partial, out)
                produced += 1
    return 0


@jit
def headers_agree(stored: Words, start: np.uint64, known: np.uint64) -> bool:
    """Check level 2 on all four headers, but for repeated dictionary values.

    `start` is what header word 0 holds in the bits `known`: marker, size and reserved bytes.
    """
    if stored[0, 0] & known != start:
        return False
    for engine in range(1, 4):
        if (stored[engine, 0] ^ stored[0, 0]) & PARITY_MASK != U64(0):
            return False
        for j in range(1, HEADER_WORDS):
            if stored[engine, j] != stored[0, j]:
                return False
    return True


@jit
def parity_holds(head: np.uint64, data: Words, size: int) -> bool:
    """Check header bytes 4 and 5 against the engine's `size` decoded bytes."""
    folded = U64(0)
    for j in range(size >> 3):
        folded ^= data[j]
    folded ^= folded >> U64(32)
    folded ^= folded >> U64(16)
    odd, even = (head >> U64(32)) & U64(255), (head >> U64(40)) & U64(255)
    return folded & U64(255) == even and (folded >> U64(8)) & U64(255) == odd


@jit
def decode_tile(
    weight: Words,
    base: int,
    count: int,
    size: int,
    marker: int,
    known: np.uint64,
    kinds: Int64,
    lengths: Int64,
    values: Int64,
    layout: Int64,
    stored: Words,
    stored_bytes: Bytes,
    decoded: Words,
    head: Words,
    dictionary: Bytes,
    single: Words,
    multi: Words,
) -> bool:
    """Decode the `count` words of each engine from word `base` on; False for any defect."""
    deinterleave(weight, base, count, stored)
    if not headers_agree(stored, U64(marker | (size >> 9) << 8), known):
        return False
    same = stored[0, 0] & PARITY_MASK == head[0]
    for j in range(1, HEADER_WORDS):
        same = same and stored[0, j] == head[j]
    if not same:
        head[0] = U64(0)
        if not load_dictionary(
            stored_bytes, kinds, lengths, values, layout, dictionary, single, multi
        ):
            return False
        head[0] = stored[0, 0] & PARITY_MASK
        for j in range(1, HEADER_WORDS):
            head[j] = stored[0, j]
    engine_size, longest = size >> 2, 0
    for engine in range(4):
        used = decode_packets(stored[engine], count, engine_size, single, multi, decoded[engine])
        if used == 0 or used >= engine_size:
            return False
        if not parity_holds(stored[engine, 0], decoded[engine], engine_size):
            return False
        longest = max(longest, used)
    return 8 * count == (longest + 31) // 32 * 32


@jit
def decode_tiles(
    weight: Words,
    tiles: Int64,
    marker: int,
    known: np.uint64,
    kinds: Int64,
    lengths: Int64,
    values: Int64,
    layout: Int64,
    stored: Words,
    stored_bytes: Bytes,
    decoded: Words,
    head: Words,
    dictionary: Bytes,
    single: Words,
    multi: Words,
    words: Words,
    accepted: Bytes,
) -> None:
    """Decode tiles into the panel `words` and note which were accepted.

    `tiles` is int64 [t, 9]: first word, words per engine, bytes before compression, compressed,
    k0, kf, n0, valid, width.
    """
    for t in range(tiles.shape[0]):
        row = tiles[t]
        if row[3] == 0:
            deinterleave(weight, row[0], row[1], decoded)
            good = True
        else:
            good = decode_tile(
                weight, row[0], row[1], row[2], marker, known, kinds, lengths, values, layout,
                stored, stored_bytes, decoded, head, dictionary, single, multi,
            )  # fmt: skip
        accepted[t] = good
        if good:
            scatter_tile(decoded, row[4], row[5], row[6], row[7], row[8], words)


def geometry(tiles: Sequence[StoredTile]) -> Int64:
    """Return the rows of `decode_tiles`."""
    rows = [
        (
            stored.entry.start // 8,
            stored.entry.size // 32,
            stored.size,
            stored.entry.compressed,
            stored.tile.k0,
            stored.tile.kf,
            stored.tile.n0,
            stored.tile.valid,
            stored.width,
        )
        for stored in tiles
    ]
    return np.array(rows, np.int64)


def decode(weight: Words, tiles: Sequence[StoredTile], book: Book, words: Words) -> list[int]:
    """Decode tiles into the panel `words`; return the numbers of those that break any rule."""
    scratch = Scratch()
    accepted = np.zeros(len(tiles), np.uint8)
    decode_tiles(
        weight,
        geometry(tiles),
        book.marker,
        book.known,
        book.kinds,
        book.lengths,
        book.values,
        book.layout,
        scratch.stored,
        scratch.stored_bytes,
        scratch.decoded,
        scratch.head,
        scratch.dictionary,
        scratch.single,
        scratch.multi,
        words,
        accepted,
    )
    return [stored.tile.number for stored, good in zip(tiles, accepted, strict=True) if not good]
