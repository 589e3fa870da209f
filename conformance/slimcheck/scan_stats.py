"""What one pass over the bytes of a tensor tells: rows, 4 KiB blocks of the file, finiteness.

Every value rule takes its numbers from here, so that the bytes are read once. Large arrays go
through compiled kernels (`scan_kernels`), small ones through the plain form: the same integers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint.stored import pieces
from slimspec.numeric.jit import jit_pays
from slimspec.pack import unpack_int4

BLOCK = 4096  # bytes that file systems and downloads lose together, aligned in the file
EXPONENT: dict[str, Any] = {  # bits that are all set in NaN and Inf, and in no number
    "F8_E4M3": np.uint8(0x7F),
    "F16": np.uint16(0x7C00),
    "BF16": np.uint16(0x7F80),
    "F32": np.uint32(0x7F800000),
}

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Whole 4 KiB blocks of the file that a tensor covers.

    Attributes:
        lead: elements of the tensor before the first block.
        step: elements in a block.
        low, high: smallest and largest element of each block, as stored integers.
    """

    lead: int
    step: int
    low: NDArray[Any]
    high: NDArray[Any]

    @property
    def constant(self) -> Integers:
        """Numbers of the blocks that hold one value only."""
        return np.flatnonzero(self.low == self.high)

    def element(self, block: int) -> int:
        """Flat position of the first element of a block."""
        return self.lead + block * self.step


@dataclass(frozen=True, slots=True)
class IntegerStats:
    """Of the integers [n, k] of a weight, whose rows are cut into g equal groups of columns.

    Attributes:
        sums: int32 or int64 [n, g].
        least, most: int16 [n, g] (127 and -128 for an empty group).
        beyond: number of integers past ±126.
        blocks: of the stored bytes.
        ends: int64, integers past ±126 of each block; empty for int4.
    """

    sums: NDArray[Any]
    least: NDArray[np.int16]
    most: NDArray[np.int16]
    beyond: int
    blocks: Blocks
    ends: Integers

    def over(self, columns: int) -> "Groups | None":
        """The same of so many wider groups of columns; None if the groups do not make those."""
        n, groups = self.sums.shape
        if columns < 1 or groups % columns:
            return None
        if columns == groups:
            return Groups(self.sums.astype(np.int64, copy=False), self.least, self.most)
        shape = n, columns, groups // columns
        return Groups(
            self.sums.reshape(shape).sum(axis=2, dtype=np.int64),
            self.least.reshape(shape).min(axis=2),
            self.most.reshape(shape).max(axis=2),
        )


class Groups(NamedTuple):
    """Sums int64, smallest and largest integers int16 [n, g] of groups of columns."""

    sums: Integers
    least: NDArray[np.int16]
    most: NDArray[np.int16]


_SHORT = 512  # elements: groups from here on are counted together with the blocks
_WIDEST = (1 << 31) // 15  # nibbles whose sum fits int32


def integer_stats(
    codes: NDArray[np.int8], begin: int = 0, path: Path | None = None, groups: int = 1
) -> IntegerStats:
    """Return the statistics of int8 [n, k] that starts at byte `begin` of its file.

    Args: path: the file, to read it in pieces where `codes` are a map that is too large to touch;
    groups: into how many groups a row is cut, a divisor of k.
    """
    (n, k), flat = codes.shape, codes.reshape(-1)
    size = k // groups
    lead, count = _grid(begin, flat.size, BLOCK)
    low, high = np.full(count, 127, np.int8), np.full(count, -128, np.int8)
    ends = np.zeros(count, np.int64)
    if jit_pays(flat.size) and k:
        from slimcheck.scan_kernels import int8_groups_and_blocks, int8_rows

        sums = np.zeros(n * groups, np.int64)
        least, most = np.full(n * groups, 127, np.int8), np.full(n * groups, -128, np.int8)
        if size < _SHORT and path is None:
            found = sums, least, most, low, high, ends
            beyond = int(int8_groups_and_blocks(flat, size, lead, *found))
        else:
            beyond = 0
            for at, piece in _pieces(flat, begin, path, size):
                r = slice(at // size, (at + piece.size) // size)
                rows = sums[r], least[r], most[r]
                beyond += int(int8_rows(piece, size, at, lead, *rows, low, high, ends))
    else:
        cut = codes.reshape(n, groups, size)
        sums = cut.sum(axis=2, dtype=np.int64)
        least, most = cut.min(axis=2, initial=127), cut.max(axis=2, initial=-128)
        far = (flat < -126) | (flat > 126)
        beyond = int(np.count_nonzero(far))
        if count:
            view = _cut(flat, lead, count, BLOCK)
            low, high = view.min(axis=1), view.max(axis=1)
            ends = _cut(far, lead, count, BLOCK).sum(axis=1, dtype=np.int64)
    shape, blocks = (n, groups), Blocks(lead, BLOCK, low, high)
    wide = least.astype(np.int16).reshape(shape), most.astype(np.int16).reshape(shape)
    return IntegerStats(sums.reshape(shape), *wide, beyond, blocks, ends)


class Matrix(NamedTuple):
    """An int8 [n, k], not empty, in an array of bytes."""

    at: int  # where it begins there
    n: int
    k: int
    begin: int  # where it begins in its file


def lot_stats(x: NDArray[np.int8], matrices: Sequence[Matrix]) -> list[IntegerStats]:
    """Return `integer_stats` of several matrices in x [...], of one call."""
    if not jit_pays(x.size):
        return [
            integer_stats(x[m.at : m.at + m.n * m.k].reshape(m.n, m.k), m.begin) for m in matrices
        ]
    from slimcheck.scan_kernels import int8_lot

    grids = [_grid(m.begin, m.n * m.k, BLOCK) for m in matrices]
    rows = list(accumulate((m.n for m in matrices), initial=0))
    places = list(accumulate((count for _, count in grids), initial=0))
    columns = zip(matrices, grids, rows[:-1], pairwise(places), strict=True)
    entries = [(m.at, m.n, m.k, lead, row, *cut) for m, (lead, _), row, cut in columns]
    table = np.array(entries, np.int64)
    sums, ends = np.zeros(rows[-1], np.int64), np.zeros(places[-1], np.int64)
    least, most = np.full(rows[-1], 127, np.int8), np.full(rows[-1], -128, np.int8)
    low, high = np.full(places[-1], 127, np.int8), np.full(places[-1], -128, np.int8)
    beyond = np.zeros(len(matrices), np.int64)
    int8_lot(x, table, sums, least, most, low, high, ends, beyond)
    smallest, largest = least.astype(np.int16), most.astype(np.int16)
    found = []
    for entry, m, count in zip(entries, matrices, beyond.tolist(), strict=True):
        lead, row, first, last = entry[3:]
        r, blocks = slice(row, row + m.n), Blocks(lead, BLOCK, low[first:last], high[first:last])
        extremes = smallest[r, None], largest[r, None]
        found.append(IntegerStats(sums[r, None], *extremes, count, blocks, ends[first:last]))
    return found


def nibble_stats(
    stored: NDArray[np.int8], axis: int, begin: int = 0, groups: int = 1
) -> IntegerStats:
    """Return the statistics of int4 codes that lie two in a byte, along an axis.

    Args: stored int8 [n/2, k] (axis 0) or [n, k/2] (axis 1); begin: as for `integer_stats`;
    groups: into how many groups a row of k codes is cut, a divisor of k.
    """
    (rows, columns), flat = stored.shape, stored.reshape(-1).view(np.uint8)
    width = columns // groups  # bytes of a group
    if not width or width * groups != columns or width > _WIDEST or not jit_pays(flat.size):
        codes = unpack_int4(stored, axis)
        plain, blocks = integer_stats(codes, groups=groups), byte_blocks(flat, begin)
        return replace(plain, blocks=blocks, ends=np.zeros(0, np.int64))
    from slimcheck.scan_kernels import nibble_groups_and_blocks

    sums = np.empty((rows, 2, groups), np.int32)
    least, most = np.empty(sums.shape, np.uint8), np.empty(sums.shape, np.uint8)
    lead, count = _grid(begin, flat.size, BLOCK)
    low, high, ends = np.empty(count, np.int8), np.empty(count, np.int8), np.empty(count, np.int64)
    extremes = sums, least, most, low, high, ends
    nibble_groups_and_blocks(flat, width, lead, *extremes)
    blocks = Blocks(lead, BLOCK, low, high)
    sums -= 8 * width
    smallest, largest = least.astype(np.int16) - np.int16(8), most.astype(np.int16) - np.int16(8)
    none, shape = np.zeros(0, np.int64), (2 * rows, groups)
    if axis == 0:  # the nibbles are of two rows
        sums, smallest, largest = (x.reshape(shape) for x in (sums, smallest, largest))
    else:
        sums, smallest, largest = sums.sum(axis=1), smallest.min(axis=1), largest.max(axis=1)
    return IntegerStats(sums, smallest, largest, 0, blocks, none)


def lowest_codes(stored: NDArray[np.int8], packed: bool) -> int:
    """Return how many int4 codes are -8."""
    if packed and jit_pays(stored.size):
        from slimcheck.scan_kernels import lowest_nibbles

        return int(lowest_nibbles(stored.reshape(-1).view(np.uint8)))
    codes = unpack_int4(stored) if packed else stored
    return int(np.count_nonzero(codes == -8))


def _pieces(
    flat: NDArray[Any], begin: int, path: Path | None, unit: int
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (first element, elements): all at once, or piece by piece from the file."""
    if path is None:
        return iter([(0, flat)])
    return pieces(path, begin, flat.size, flat.dtype, unit)


@dataclass(frozen=True, slots=True)
class FloatStats:
    """Of a float tensor: flat position of the first NaN or Inf (-1: none), and blocks of words."""

    not_finite: int
    blocks: Blocks


def float_stats(
    values: NDArray[Any], tag: str, begin: int = 0, path: Path | None = None
) -> FloatStats:
    """Return the statistics of a tensor of dtype `tag` (F16, BF16 or F32); see `integer_stats`."""
    exponent = EXPONENT[tag]
    words = values.reshape(-1).view(exponent.dtype)
    step = BLOCK // words.itemsize
    lead, count = _grid(begin, words.nbytes, BLOCK)
    if lead % words.itemsize:  # a tensor that is not aligned has no whole blocks of its words
        lead, count = 0, 0
    lead //= words.itemsize
    low = np.full(count, np.iinfo(words.dtype).max, words.dtype)
    high = np.zeros(count, words.dtype)
    if jit_pays(words.size):
        from slimcheck.scan_kernels import float_words

        first = -1
        for at, piece in _pieces(words, begin, path, 1):
            found = int(float_words(piece, exponent, at, lead, step, low, high))
            first = found if first < 0 else first
    else:
        special = (words & exponent) == exponent
        first = int(np.argmax(special)) if special.any() else -1
        if count:
            view = _cut(words, lead, count, step)
            low, high = view.min(axis=1), view.max(axis=1)
    return FloatStats(first, Blocks(lead, step, low, high))


def byte_blocks(raw: NDArray[np.uint8], begin: int = 0) -> Blocks:
    """Return the blocks of bytes, taken as int8, whose elements are smaller or of another kind."""
    lead, count = _grid(begin, raw.size, BLOCK)
    x = raw.view(np.int8)
    if jit_pays(raw.size):
        from slimcheck.scan_kernels import int8_blocks

        low, high, ends = np.empty(count, np.int8), np.empty(count, np.int8), np.empty(count, int)
        int8_blocks(x, lead, 0, count, low, high, ends)
        return Blocks(lead, BLOCK, low, high)
    view = _cut(x, lead, count, BLOCK)
    return Blocks(lead, BLOCK, view.min(axis=1), view.max(axis=1))


def block_sums(raw: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return a sum modulo 2^64 of each 4 KiB from the front, and of the rest."""
    whole = raw.size // BLOCK * BLOCK
    words = raw[:whole].view("<u8").reshape(-1, BLOCK // 8).sum(axis=1, dtype=np.uint64)
    return np.append(words, raw[whole:].sum(dtype=np.uint64))


def _grid(begin: int, nbytes: int, step: int) -> tuple[int, int]:
    """Bytes before the first whole block of the file, and the number of whole blocks."""
    lead = min(-begin % step, nbytes)
    return lead, (nbytes - lead) // step


def _cut(x: NDArray[Any], lead: int, count: int, step: int) -> NDArray[Any]:
    return x[lead : lead + count * step].reshape(count, step)
