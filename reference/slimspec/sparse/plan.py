"""Which fractals each tile of an [n, k] weight holds.

A tile is 8 × 8 fractals, tiles run n outer, k inner. The last tile along k is stored at its true
size. The last tile along n of a weight with more than 8 n-fractals is stored either at full width,
its valid fractals last and the tail of its neighbour before them ("overlap"), or narrow.

Source: facts/sparse_codec.md 1, 9.1.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from slimspec.sparse.fractal import FRACTAL_BYTES, fractals

TILING = 8  # fractals per tile along k and along n
ENTRY_BYTES = 8

Remainder = Literal["overlap", "narrow"]


@dataclass(frozen=True)
class Tile:
    """Fractals [k0, k0 + kf) × [n0, n0 + valid) of the weight; `widths` it may be stored in."""

    number: int
    k0: int
    kf: int
    n0: int
    valid: int
    widths: tuple[int, ...]

    def size(self, width: int) -> int:
        """Bytes of the tile before compression at that stored width."""
        return FRACTAL_BYTES * self.kf * width

    def first(self, width: int) -> int:
        """First n-fractal stored; the `valid` ones stand last."""
        return self.n0 + self.valid - width

    def width_of(self, size: int) -> int | None:
        """Return the stored width of a tile of `size` bytes, None if no form has that size."""
        return next((width for width in self.widths if self.size(width) == size), None)


@dataclass(frozen=True)
class TilePlan:
    """The tiles of an int8 [n, k] weight (k in bytes)."""

    n: int
    k: int

    @property
    def k_index(self) -> int:
        """Tiles along k: ceil(ceil(k / 32) / 8)."""
        return -(-fractals(self.n, self.k)[1] // TILING)

    @property
    def n_index(self) -> int:
        """Tiles along n: ceil(ceil(n / 16) / 8)."""
        return -(-fractals(self.n, self.k)[0] // TILING)

    @property
    def index_bytes(self) -> int:
        """Length y of the index tensor: k_index · n_index · 8."""
        return ENTRY_BYTES * self.k_index * self.n_index

    @property
    def largest_weight(self) -> int:
        """Length of the weight when every tile is raw and stored in its widest form."""
        n1, k1 = fractals(self.n, self.k)
        return FRACTAL_BYTES * k1 * (n1 if n1 <= TILING else TILING * self.n_index)

    def tiles(self) -> Iterator[Tile]:
        """Yield the tiles in the order of the stream."""
        n1, k1 = fractals(self.n, self.k)
        number = 0
        for n0 in range(0, n1, TILING):
            valid = min(TILING, n1 - n0)
            partial = n1 > TILING and valid < TILING
            widths = (TILING, valid) if partial else (valid,)
            for k0 in range(0, k1, TILING):
                yield Tile(number, k0, min(TILING, k1 - k0), n0, valid, widths)
                number += 1


def stored_width(tile: Tile, remainder: Remainder) -> int:
    """Return the width an encoder stores: the full one for "overlap", the valid one for "narrow".

    Raises:
        ValueError: unknown form.
    """
    if remainder not in ("overlap", "narrow"):
        raise ValueError(f"n_remainder is {remainder!r}, expected overlap or narrow")
    return tile.widths[0] if remainder == "overlap" else tile.widths[-1]
