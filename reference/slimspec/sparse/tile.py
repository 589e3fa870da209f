"""One tile: four engine streams, their headers, the interleave and the raw rule.

    block b of 64 bytes -> engine b mod 4
    stored = e0[0:32] e1[0:32] e2[0:32] e3[0:32] e0[32:64] …

This is the readable definition; `kernels` must agree with it bit for bit.

Source: facts/sparse_codec.md 3, 4.
"""

from functools import reduce
from operator import xor

from slimspec.sparse.codebook import HEADER_BYTES, MARKERS, Mode
from slimspec.sparse.errors import StreamError, fail
from slimspec.sparse.fractal import FRACTAL_BYTES
from slimspec.sparse.packets import PacketDecoder, encode_packets

ENGINES = 4
BLOCK = 64  # bytes of a tile that go to one engine at a time
CHUNK = 32  # bytes of a stored stream before the next engine's turn


def encode_tile(data: bytes, dictionary: bytes, mode: Mode) -> tuple[bytes, bool]:
    """Return (stored bytes, is compressed) of a tile.

    Args:
        data: the tile's fractals, a multiple of 512 bytes, at most 64 fractals.
        dictionary: 36 (low) or 34 (high) distinct byte values, the run character first.
        mode: the code book.

    Source: facts/sparse_codec.md 3.
    """
    streams = deal(data, BLOCK)
    size = len(streams[0])
    encoded = [
        header(stream, dictionary, mode) + encode_packets(stream, dictionary, mode)
        for stream in streams
    ]
    longest = max(map(len, encoded))
    if longest >= size:
        return undeal(streams, CHUNK), False
    padded = -(-longest // CHUNK) * CHUNK
    return undeal([stream.ljust(padded, b"\0") for stream in encoded], CHUNK), True


def decode_tile(stored: bytes, size: int, mode: Mode | None) -> bytes:
    """Return the fractals of a stored tile.

    Args:
        stored: a multiple of 128 bytes, at most `size`.
        size: bytes of the tile before compression.
        mode: the code book, None for a raw tile.

    Raises:
        StreamError: any level 2 or level 3 defect but the zero padding of the weight.

    Source: facts/sparse_codec.md 3, 4, 5, 10 levels 2 and 3.
    """
    streams = deal(stored, CHUNK)
    if mode is None:
        return undeal(streams, BLOCK)
    dictionary = check_headers(streams, size, mode)
    decoded, used = [], []
    for engine, stream in enumerate(streams):
        try:
            data, taken = _decode_engine(stream, size // ENGINES, dictionary, mode)
        except StreamError as error:
            raise error.at(engine=engine) from None
        decoded.append(data)
        used.append(taken)
    _check_lengths(used, len(streams[0]), size // ENGINES)
    return undeal(decoded, BLOCK)


def deal(data: bytes, unit: int) -> list[bytes]:
    """Deal `unit`-byte pieces round robin to the engines."""
    turn = ENGINES * unit
    return [
        b"".join(data[at : at + unit] for at in range(engine * unit, len(data), turn))
        for engine in range(ENGINES)
    ]


def undeal(streams: list[bytes], unit: int) -> bytes:
    """Join equally long engine streams again, `unit` bytes of each in turn."""
    size = len(streams[0])
    return b"".join(s[at : at + unit] for at in range(0, size, unit) for s in streams)


def header(stream: bytes, dictionary: bytes, mode: Mode) -> bytes:
    """Return the 40-byte header of an engine whose raw bytes are `stream`."""
    out = bytearray(HEADER_BYTES)
    out[0] = mode.marker
    out[1] = ENGINES * len(stream) // FRACTAL_BYTES
    out[4:6] = parity(stream)
    for position, value in zip(mode.dictionary_bytes, dictionary, strict=True):
        out[position] = value
    return bytes(out)


def parity(stream: bytes) -> bytes:
    """Return the XOR of the bytes at odd positions and the XOR of those at even positions."""
    return bytes([reduce(xor, stream[1::2], 0), reduce(xor, stream[0::2], 0)])


def check_headers(streams: list[bytes], size: int, mode: Mode) -> bytes:
    """Return the dictionary that all four engines agree on.

    Args:
        streams: one stored stream per engine, at least a header long.
        size: bytes of the tile before compression.
        mode: the code book.

    Raises:
        StreamError: any level 2 defect, with engine and bit.

    Source: facts/sparse_codec.md 4, 10 level 2.
    """
    reserved = {2, 3} - set(mode.dictionary_bytes)
    first = streams[0]
    for engine, head in enumerate(streams):
        if head[0] != mode.marker:
            code = "mode" if head[0] in MARKERS else "marker"
            raise fail(code, f"{head[0]:#04x}", f"{mode.marker:#04x}", engine=engine, bit=0)
        if head[1] * FRACTAL_BYTES != size:
            raise fail("tile-size", head[1], size // FRACTAL_BYTES, engine=engine, bit=8)
        for at in sorted(reserved):
            if head[at]:
                raise fail("header-reserved", f"{head[at]:#04x}", "0", engine=engine, bit=8 * at)
        for at in mode.dictionary_bytes:
            if head[at] != first[at]:
                found, expected = f"{head[at]:#04x}", f"{first[at]:#04x} as in engine 0"
                raise fail("header-differs", found, expected, engine=engine, bit=8 * at)
    return _distinct_dictionary(first, mode)


def _distinct_dictionary(head: bytes, mode: Mode) -> bytes:
    dictionary = bytes(head[at] for at in mode.dictionary_bytes)
    for entry, at in enumerate(mode.dictionary_bytes):
        if dictionary.index(head[at]) != entry:
            found = f"{head[at]:#04x} again in entry {entry}"
            raise fail("dictionary", found, "distinct values", engine=0, bit=8 * at)
    return dictionary


def _decode_engine(stream: bytes, size: int, dictionary: bytes, mode: Mode) -> tuple[bytes, int]:
    data, used = PacketDecoder(size, dictionary, mode).decode(stream[HEADER_BYTES:])
    expected = parity(data)
    for at in range(2):
        if stream[4 + at] != expected[at]:
            found = f"{stream[4 + at]:#04x}"
            raise fail("xor", found, f"{expected[at]:#04x}", bit=8 * (4 + at))
    return data, HEADER_BYTES + used


def _check_lengths(used: list[int], stored: int, size: int) -> None:
    """Refuse a compressed tile that the encoder stores raw or pads less."""
    longest = max(used)
    engine = used.index(longest)
    if longest >= size:
        raise fail("not-raw", f"{longest} B", f"less than {size} B", engine=engine)
    padded = -(-longest // CHUNK) * CHUNK
    if stored != padded:
        raise fail("stream-padding", f"{stored} B", f"{padded} B", engine=engine)
