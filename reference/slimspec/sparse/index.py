"""The tile index: one 8-byte little-endian entry per tile.

    u16  bits 0-8 stored length in units of 128 B; bits 9-14 zero; bit 15 compressed
    u16  zero
    u32  offset of the tile in units of 128 B

Source: facts/sparse_codec.md 2, 10 level 1.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimspec.sparse.errors import StreamDefect
from slimspec.sparse.plan import Tile, TilePlan

UNIT = 128
SMALLEST_COMPRESSED = 256  # four engines of one header, padded to 64 bytes each
ENTRY = np.dtype([("length", "<u2"), ("zero", "<u2"), ("offset", "<u4")])
LENGTH_MASK = 0x1FF
RESERVED_MASK = 0x7E00
COMPRESSED = 0x8000


@dataclass(frozen=True)
class Entry:
    """Where a tile lies in the weight (bytes) and whether it is compressed."""

    start: int
    size: int
    compressed: bool


def build_index(stored: Iterable[tuple[int, bool]]) -> NDArray[np.int8]:
    """Return the index of tiles that lie back to back.

    Args:
        stored: (bytes, is compressed) of each tile in stream order; bytes a multiple of 128.

    Returns:
        int8 [8 · tiles].

    Source: facts/sparse_codec.md 2.
    """
    rows = list(stored)
    entries = np.zeros(len(rows), ENTRY)
    units = np.array([size // UNIT for size, _ in rows], np.int64)
    flags = np.array([COMPRESSED if compressed else 0 for _, compressed in rows], np.int64)
    offsets = np.cumsum(units) - units
    if offsets.size and int(offsets[-1]) > 0xFFFFFFFF:
        raise ValueError("the weight is too long for a 32-bit offset in units of 128 bytes")
    entries["length"] = units | flags
    entries["offset"] = offsets
    return entries.view(np.int8)


def parse_index(index: NDArray[np.int8]) -> list[Entry]:
    """Return the entries of an index whose length is a multiple of 8; checks nothing."""
    raw = np.frombuffer(np.ascontiguousarray(index).tobytes(), ENTRY)
    length = raw["length"].astype(np.int64)
    sizes = (length & LENGTH_MASK) * UNIT
    starts = raw["offset"].astype(np.int64) * UNIT
    compressed = (length & COMPRESSED) != 0
    return [
        Entry(*row)
        for row in zip(starts.tolist(), sizes.tolist(), compressed.tolist(), strict=True)
    ]


def index_defects(
    index: NDArray[np.int8], plan: TilePlan, weight_bytes: int
) -> Iterator[StreamDefect]:
    """Yield what breaks level 1; without a defect every tile lies inside the weight.

    Args:
        index: int8 [y], y already checked against the plan.
        plan: the tile plan of (n, k).
        weight_bytes: length of the weight tensor.

    Source: facts/sparse_codec.md 10 level 1.
    """
    raw = np.frombuffer(np.ascontiguousarray(index).tobytes(), ENTRY)
    reserved = (raw["length"] & RESERVED_MASK).astype(np.int64) | raw["zero"].astype(np.int64) << 16
    end = 0
    entries = parse_index(index)
    for tile, entry, bits in zip(plan.tiles(), entries, reserved.tolist(), strict=True):
        if bits:
            found, bit = f"bits {bits:#010x}", (bits & -bits).bit_length() - 1
            yield StreamDefect("reserved", found, "0", tile=tile.number, bit=bit)
        if (defect := _length_defect(tile, entry)) is not None:
            yield defect
        if entry.start != end:
            yield StreamDefect("offset", f"{entry.start} B", f"{end} B", tile=tile.number, bit=32)
        end = entry.start + entry.size
    if end != weight_bytes:
        last = len(entries) - 1
        yield StreamDefect("weight-end", f"end at {end} B", f"{weight_bytes} B", tile=last)


def _length_defect(tile: Tile, entry: Entry) -> StreamDefect | None:
    sizes = [tile.size(width) for width in tile.widths]
    found = f"{entry.size} B"
    place = {"tile": tile.number, "bit": 0}
    if not UNIT <= entry.size <= sizes[0]:
        return StreamDefect("data-length", found, f"{UNIT} to {sizes[0]} B", **place)
    if not entry.compressed and entry.size not in sizes:
        return StreamDefect("raw-length", found, f"{' or '.join(map(str, sizes))} B", **place)
    if entry.compressed and entry.size < SMALLEST_COMPRESSED:
        expected = f"at least {SMALLEST_COMPRESSED} B"
        return StreamDefect("compressed-length", found, expected, **place)
    return None
