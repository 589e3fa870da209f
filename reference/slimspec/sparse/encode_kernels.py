"""The compiled tile encoder: the same bytes as `tile.encode_tile`.

Source: facts/sparse_codec.md 3, 4, 5.
"""

import numpy as np

from slimspec.sparse.codebook import Mode
from slimspec.sparse.kernels import Bytes, Int64, Words, gather_tile, interleave, jit
from slimspec.sparse.packets import byte_codes
from slimspec.sparse.plan import Tile
from slimspec.sparse.tile import header

U64 = np.uint64
ENGINE_WORDS = 1024  # words of one engine of the largest tile
HEADER_WORDS = 5
ONES = U64(0xFFFFFFFFFFFFFFFF)
END_CODE = U64(503)


class Tables:
    """What the encoder needs of a dictionary, as arrays.

    `codes` uint64 [256] and `lengths` int64 [256] per byte value; `runs` int64 [r, 3] of
    (count, length, code), longest first; `head` uint64 [5], a header without size and parity.
    """

    def __init__(self, dictionary: bytes, mode: Mode) -> None:
        pairs = byte_codes(dictionary, mode)
        self.codes = np.array([pairs[value][0] for value in range(256)], np.uint64)
        self.lengths = np.array([pairs[value][1] for value in range(256)], np.int64)
        self.runs = np.array([(count, bits, code) for count, code, bits in mode.runs], np.int64)
        self.head = np.frombuffer(header(b"", dictionary, mode), np.uint64)
        self.run_character = dictionary[0]


class Scratch:
    """Working space of one thread: raw engine bytes and encoded engine words."""

    def __init__(self) -> None:
        self.raw = np.empty((4, ENGINE_WORDS), np.uint64)
        self.raw_bytes = self.raw.view(np.uint8)
        self.encoded = np.empty((4, ENGINE_WORDS), np.uint64)


@jit
def longest_run(data: Bytes, at: int, stop: int, runs: Int64, room: int) -> int:
    """Return the row of the longest run code at data[at] that fits `room` bits, -1 for none."""
    length = 1
    while length < runs[0, 0] and at + length < stop and data[at + length] == data[at]:
        length += 1
    for row in range(runs.shape[0]):
        if runs[row, 0] <= length and runs[row, 1] <= room:
            return row
    return -1


@jit
def encode_packets(
    data: Bytes,
    size: int,
    run_character: int,
    codes: Words,
    lengths: Int64,
    runs: Int64,
    out: Words,
) -> int:
    """Write packets and END from word 5 on; return the bytes up to END, 0 where raw is shorter."""
    consumed = 0
    for at in range(HEADER_WORDS, size >> 3):
        word, position, start = U64(0), 0, consumed
        stop = min(consumed + 64, size)
        while consumed < stop:
            value, count = data[consumed], 1
            code, bits = codes[value], lengths[value]
            if value == run_character:
                row = longest_run(data, consumed, stop, runs, 63 - position)
                if row < 0:
                    break
                count, bits, code = runs[row, 0], runs[row, 1], U64(runs[row, 2])
            if position + bits > 63:
                break
            word |= code << U64(position)
            position += bits
            consumed += count
        if consumed == size and position <= 54:
            used = 8 * at + (position + 9 + 7) // 8
            out[at] = word | END_CODE << U64(position)
            return used if used < size else 0
        if consumed == size or consumed - start < 64:
            word |= ONES << U64(position)
        out[at] = word
        if consumed == size:
            used = 8 * at + 10
            if used >= size:
                return 0
            out[at + 1] = END_CODE
            return used
    return 0


@jit
def finish_header(head: Words, raw: Words, size: int, out: Words) -> None:
    """Write the five header words with tile size and parity of the engine's `size` raw bytes."""
    folded = U64(0)
    for j in range(size >> 3):
        folded ^= raw[j]
    folded ^= folded >> U64(32)
    folded ^= folded >> U64(16)
    even, odd = folded & U64(0xFF), (folded >> U64(8)) & U64(0xFF)
    for j in range(HEADER_WORDS):
        out[j] = head[j]
    out[0] |= U64(size >> 7) << U64(8) | odd << U64(32) | even << U64(40)


@jit
def encode_tile(
    words: Words,
    tile: Int64,
    run_character: int,
    codes: Words,
    lengths: Int64,
    runs: Int64,
    head: Words,
    raw: Words,
    raw_bytes: Bytes,
    encoded: Words,
    out: Words,
) -> int:
    """Store one tile of the panel; return its words, negative if raw.

    `tile` is (k0, kf, first n-fractal, width).
    """
    k0, kf, first, width = tile[0], tile[1], tile[2], tile[3]
    size = 128 * kf * width
    gather_tile(words, k0, kf, first, width, raw)
    longest = 0
    for engine in range(4):
        used = encode_packets(
            raw_bytes[engine], size, run_character, codes, lengths, runs, encoded[engine]
        )
        if used == 0:
            interleave(raw, size >> 3, out)
            return -(size >> 1)
        finish_header(head, raw[engine], size, encoded[engine])
        for j in range((used + 7) >> 3, size >> 3):  # zero padding
            encoded[engine, j] = U64(0)
        longest = max(longest, used)
    count = (longest + 31) // 32 * 4
    interleave(encoded, count, out)
    return 4 * count


def encode(
    words: Words, tile: Tile, width: int, tables: Tables, scratch: Scratch
) -> tuple[Bytes, bool]:
    """Return (stored bytes, is compressed) of one tile of the panel."""
    out = np.empty(tile.size(width) // 8, np.uint64)
    geometry = np.array([tile.k0, tile.kf, tile.first(width), width], np.int64)
    count = encode_tile(
        words,
        geometry,
        tables.run_character,
        tables.codes,
        tables.lengths,
        tables.runs,
        tables.head,
        scratch.raw,
        scratch.raw_bytes,
        scratch.encoded,
        out,
    )
    return out[: abs(count)].copy().view(np.uint8), count > 0
