"""A whole weight by the readable definition, tile after tile.

`fast` has the same functions with compiled kernels; a test holds them to the same bytes.

Source: facts/sparse_codec.md 1, 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimspec.sparse import tile as tiles_of
from slimspec.sparse.codebook import Mode
from slimspec.sparse.container import Container, StoredTile
from slimspec.sparse.errors import StreamError
from slimspec.sparse.fractal import COLUMNS, ROWS, fractals
from slimspec.sparse.plan import Tile, TilePlan

Int8 = NDArray[np.int8]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class EncodeJob:
    """A tile, the width it is stored in and the dictionary it is coded with."""

    tile: Tile
    width: int
    dictionary: bytes


def pad(weight: Int8) -> Int8:
    """Return int8 [n, k] zero padded to [16·n1, 32·k1]."""
    n, k = weight.shape
    n1, k1 = fractals(n, k)
    return np.pad(weight, ((0, ROWS * n1 - n), (0, COLUMNS * k1 - k)))


def tile_bytes(padded: Int8, tile: Tile, width: int) -> bytes:
    """Return a tile's fractals as the stream orders them: k-fractals outer, n-fractals inner."""
    first, rows, columns = tile.first(width) * ROWS, width * ROWS, tile.kf * COLUMNS
    part = padded[first : first + rows, tile.k0 * COLUMNS :][:, :columns]
    return part.reshape(width, ROWS, tile.kf, COLUMNS).transpose(2, 0, 1, 3).tobytes()


def place(padded: Int8, stored: StoredTile, data: bytes) -> None:
    """Write the valid fractals of a decoded tile, its last ones, into the padded weight."""
    tile, width = stored.tile, stored.width
    block = np.frombuffer(data, np.int8).reshape(tile.kf, width, ROWS, COLUMNS)
    rows, columns = tile.valid * ROWS, tile.kf * COLUMNS
    target = padded[tile.n0 * ROWS :, tile.k0 * COLUMNS :][:rows, :columns]
    target[:] = block[:, width - tile.valid :].transpose(1, 2, 0, 3).reshape(rows, columns)


def histograms(
    weight: Int8, tiles: Sequence[tuple[Tile, int]], threads: int | None
) -> NDArray[np.int64]:
    """Return int64 [tiles, 256]: how often each byte stands in each (tile, width)."""
    padded = pad(weight)
    parts = (np.frombuffer(tile_bytes(padded, *tile), np.uint8) for tile in tiles)
    return np.stack([np.bincount(part, minlength=256).astype(np.int64) for part in parts])


def encode(
    weight: Int8, jobs: Sequence[EncodeJob], mode: Mode, threads: int | None
) -> list[tuple[Bytes, bool]]:
    """Return (stored bytes, is compressed) of each job."""
    padded = pad(weight)
    stored = []
    for job in jobs:
        data = tile_bytes(padded, job.tile, job.width)
        part, compressed = tiles_of.encode_tile(data, job.dictionary, mode)
        stored.append((np.frombuffer(part, np.uint8), compressed))
    return stored


def decode(
    container: Container, tiles: Sequence[StoredTile], mode: Mode | None, threads: int | None
) -> tuple[Int8, list[int]]:
    """Return the padded weight and the numbers of the tiles that break a rule."""
    padded = empty_padded(container.plan)
    refused = []
    for stored in tiles:
        try:
            place(padded, stored, decode_one(container, stored, mode))
        except StreamError:
            refused.append(stored.tile.number)
    return padded, refused


def decode_one(container: Container, stored: StoredTile, mode: Mode | None) -> bytes:
    """Return the fractals of one tile.

    Raises:
        StreamError: any level 2 or level 3 defect of the tile, with its number.
    """
    book = mode if stored.entry.compressed else None
    try:
        return tiles_of.decode_tile(container.stored(stored.tile), stored.size, book)
    except StreamError as error:
        raise error.at(tile=stored.tile.number) from None


def empty_padded(plan: TilePlan) -> Int8:
    """Return uninitialised int8 [16·n1, 32·k1]."""
    n1, k1 = fractals(plan.n, plan.k)
    return np.empty((ROWS * n1, COLUMNS * k1), np.int8)
