"""The three tensors of a compressed weight, checked before anything is decoded.

`open_container` enforces levels 0 and 1: afterwards every tile lies inside the weight and the
decoded size is bounded by 128 times the stored one, whatever the tensors claim.

Source: facts/sparse_codec.md 1, 2, 10 levels 0 and 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimspec.sparse.codebook import MARKERS, Mode
from slimspec.sparse.errors import StreamDefect, StreamError, fail
from slimspec.sparse.fractal import FRACTAL_BYTES
from slimspec.sparse.index import UNIT, Entry, index_defects, parse_index
from slimspec.sparse.plan import TILING, Tile, TilePlan

AnyArray = NDArray[np.generic]
DIRECTION = 1  # last value of info; no other traversal is known


@dataclass(frozen=True)
class StoredTile:
    """A tile of the plan, where it lies, and the width (n-fractals) it is stored in."""

    tile: Tile
    entry: Entry
    width: int

    @property
    def size(self) -> int:
        """Bytes of the tile before compression."""
        return self.tile.size(self.width)


@dataclass(frozen=True)
class Container:
    """A compressed weight whose tiles are known to lie inside it."""

    weight: NDArray[np.uint8]
    plan: TilePlan
    entries: tuple[Entry, ...]

    def stored(self, tile: Tile) -> bytes:
        """Return the stored bytes of a tile."""
        entry = self.entries[tile.number]
        return self.weight[entry.start : entry.start + entry.size].tobytes()

    def mode(self) -> Mode | None:
        """Return the mode that the first compressed tile names, None if all tiles are raw.

        Raises:
            StreamError: the first compressed tile names no known mode.
        """
        for number, entry in enumerate(self.entries):
            if entry.compressed:
                marker = int(self.weight[entry.start])
                if marker not in MARKERS:
                    known = " or ".join(f"{known:#04x}" for known in MARKERS)
                    raise fail("marker", f"{marker:#04x}", known, tile=number, engine=0, bit=0)
                return MARKERS[marker]
        return None

    def resolve(self, tile: Tile) -> StoredTile:
        """Return the tile with its stored width, which its size before compression decides.

        Raises:
            StreamError: no form of the tile has that size.
        """
        entry = self.entries[tile.number]
        if not entry.compressed:
            size = entry.size
        else:
            size = FRACTAL_BYTES * int(self.weight[entry.start + 1])
        width = tile.width_of(size)
        place = {"tile": tile.number, "engine": 0, "bit": 8}
        if width is None:
            expected = " or ".join(str(tile.size(w) // FRACTAL_BYTES) for w in tile.widths)
            raise fail("tile-size", size // FRACTAL_BYTES, expected, **place)
        if entry.size > size:
            place = {"tile": tile.number, "bit": 0}
            raise fail("compressed-length", f"{entry.size} B", f"at most {size} B", **place)
        return StoredTile(tile, entry, width)


def open_container(weight: AnyArray, index: AnyArray, info: AnyArray) -> Container:
    """Return the container of three tensors.

    Args:
        weight: int8 [x].
        index: int8 [y].
        info: int64 [5], (8, 8, k, n, 1).

    Raises:
        StreamError: the first level 0 or level 1 defect.

    Source: facts/sparse_codec.md 10 levels 0 and 1.
    """
    for defect in container_defects(weight, index, info):
        if not defect.warning:
            raise StreamError(defect)
    plan = TilePlan(n=int(info[3]), k=int(info[2]))
    data = np.ascontiguousarray(weight).view(np.uint8)
    return Container(data, plan, tuple(parse_index(index.view(np.int8))))


def container_defects(weight: AnyArray, index: AnyArray, info: AnyArray) -> Iterator[StreamDefect]:
    """Yield the defects of level 0 and, where that holds, of level 1."""
    broken = False
    for defect in shape_defects(weight, index, info):
        broken = broken or not defect.warning
        yield defect
    if not broken:
        plan = TilePlan(n=int(info[3]), k=int(info[2]))
        yield from index_defects(index.view(np.int8), plan, weight.size)


def shape_defects(weight: AnyArray, index: AnyArray, info: AnyArray) -> Iterator[StreamDefect]:
    """Yield the level 0 defects: dtypes and shapes of the tensors against `info`."""
    if weight.dtype != np.int8 or weight.ndim != 1 or weight.size == 0 or weight.size % UNIT:
        found = f"{weight.dtype} {list(weight.shape)}"
        yield StreamDefect("weight-shape", found, f"int8 [x], x a positive multiple of {UNIT}")
    if (defect := _info_defect(info)) is not None:
        yield defect
        return
    plan = TilePlan(n=int(info[3]), k=int(info[2]))
    if index.dtype != np.int8 or index.shape != (plan.index_bytes,):
        found = f"{index.dtype} {list(index.shape)}"
        yield StreamDefect("index-shape", found, f"int8 [{plan.index_bytes}]")
    if weight.size > plan.largest_weight:
        yield StreamDefect("weight-bound", f"{weight.size} B", f"at most {plan.largest_weight} B")
    elif weight.size >= plan.n * plan.k:
        expected = f"less than n·k = {plan.n * plan.k} B"
        yield StreamDefect("weight-not-smaller", f"{weight.size} B", expected)


def _info_defect(info: AnyArray) -> StreamDefect | None:
    expected = f"int64 [{TILING}, {TILING}, k >= 1, n >= 1, {DIRECTION}]"
    if info.dtype != np.int64 or info.shape != (5,):
        return StreamDefect("info", f"{info.dtype} {list(info.shape)}", expected)
    values = [int(value) for value in info]
    if [*values[:2], values[4]] != [TILING, TILING, DIRECTION] or min(values[2:4]) < 1:
        return StreamDefect("info", str(values), expected)
    return None
