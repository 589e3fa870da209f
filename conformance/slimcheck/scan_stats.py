"""What one pass over the bytes of a tensor tells: rows, 4 KiB blocks of the file, finiteness.

Every value rule takes its numbers from here, so that the bytes are read once. Large arrays go
through compiled kernels (`scan_kernels`), small ones through the plain form: the same integers.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod
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
class Matrix:
    """Integers [n, k] in an array of bytes.

    Attributes:
        at: where they begin there; begin: where they begin in their file, which is cut in blocks.
        axis: along which two int4 codes share a byte; None: one integer in each.
        groups: into how many groups of columns a row is cut, a divisor of k.
        summed: whether sums are asked for.
    """

    at: int
    begin: int
    shape: tuple[int, int]
    axis: int | None = None
    groups: int = 1
    summed: bool = True

    @property
    def stored(self) -> tuple[int, int]:
        """Rows and columns of its bytes."""
        n, k = self.shape
        return (n // 2, k) if self.axis == 0 else (n, k // 2 if self.axis == 1 else k)

    @property
    def nbytes(self) -> int:
        return prod(self.stored)

    @property
    def whole(self) -> bool:
        """Whether it has elements, and each of its groups bytes of its own."""
        return self.nbytes > 0 and self.stored[1] % self.groups == 0


@dataclass(frozen=True, slots=True)
class IntegerStats:
    """Of the integers [n, k] of a weight, whose rows are cut into g equal groups of columns.

    Attributes:
        least, most: int8 [n, g] (127 and -128 for an empty group).
        sums: int64 [n, g]; None where nobody asked.
        beyond: number of integers past ±126; 0 for int4.
        blocks: of the stored bytes.
        ends: int64, integers past ±126 of each block; empty for int4.
    """

    least: NDArray[np.int8]
    most: NDArray[np.int8]
    sums: Integers | None
    beyond: int
    blocks: Blocks
    ends: Integers

    def over(self, columns: int) -> "Groups | None":
        """The same of so many wider groups of columns; None if the groups do not make those."""
        n, groups = self.least.shape
        if columns < 1 or groups % columns:
            return None
        if columns == groups:
            return Groups(self.least, self.most, self.sums)
        cut = n, columns, groups // columns
        sums = None if self.sums is None else self.sums.reshape(cut).sum(axis=2)
        least, most = self.least.reshape(cut).min(axis=2), self.most.reshape(cut).max(axis=2)
        return Groups(least, most, sums)


class Groups(NamedTuple):
    """Smallest and largest integers int8 [n, g] of groups of columns, and sums int64."""

    least: NDArray[np.int8]
    most: NDArray[np.int8]
    sums: Integers | None

    @property
    def peak(self) -> NDArray[np.uint8]:
        """uint8 [n, g]: largest magnitude, up to 128."""
        least, most = np.abs(self.least), np.abs(self.most)  # that of -128 is 128 without its sign
        return np.maximum(least.view(np.uint8), most.view(np.uint8))

    @property
    def span(self) -> NDArray[np.uint8]:
        """uint8 [n, g]: from the smallest to the largest, up to 255."""
        return self.most.view(np.uint8) - self.least.view(np.uint8)

    @property
    def idle(self) -> NDArray[np.bool_]:
        """bool [n, g]: which hold nothing but zeros."""
        return (self.most <= 0) & (self.least >= 0)


class _Room:
    """Room for the statistics of matrices, those of one behind those of another."""

    def __init__(self, matrices: Sequence[Matrix]) -> None:
        grids = [_grid(m.begin, m.nbytes, BLOCK) for m in matrices]
        groups = [m.shape[0] * m.groups for m in matrices]
        self._matrices = matrices
        self._leads = [lead for lead, _ in grids]
        self._groups = _ranges(groups)
        self._sums = _ranges(n if m.summed else 0 for n, m in zip(groups, matrices, strict=True))
        self._blocks = _ranges(count for _, count in grids)
        size, blocks = self._groups[-1].stop, self._blocks[-1].stop
        self.least, self.most = np.empty(size, np.int8), np.empty(size, np.int8)
        self.sums = np.empty(self._sums[-1].stop, np.int64)
        self.low, self.high = np.full(blocks, 127, np.int8), np.full(blocks, -128, np.int8)
        self.ends = np.zeros(blocks, np.int64)
        self.beyond = np.zeros(len(matrices), np.int64)

    def entry(self, number: int, at: int, rows: int, first: int = 0) -> tuple[int, ...]:
        """Say to the kernel that rows from `first` on of a matrix begin at x[at]."""
        m, groups, sums = self._matrices[number], self._groups[number], self._sums[number]
        width, done = m.stored[1], first * m.groups * (2 if m.axis == 0 else 1)
        blocks, place = self._blocks[number], first * width - self._leads[number]
        return (
            at, rows, width // m.groups, m.groups, -1 if m.axis is None else m.axis, place,
            sums.start + (done if m.summed else 0), sums.stop, groups.start + done,
            blocks.start, blocks.stop,
        )  # fmt: skip

    def fill(self, x: NDArray[np.uint8], entries: Sequence[tuple[int, ...]]) -> None:
        from slimcheck.scan_kernels import integer_lot

        found = self.sums, self.least, self.most, self.low, self.high, self.ends, self.beyond
        integer_lot(x, np.array(entries, np.int64), *found)

    def stats(self) -> list[IntegerStats]:
        """The statistics of each matrix."""
        found = []
        for number, m in enumerate(self._matrices):
            groups, sums, b = self._groups[number], self._sums[number], self._blocks[number]
            shape = m.shape[0], m.groups
            blocks = Blocks(self._leads[number], BLOCK, self.low[b], self.high[b])
            found.append(
                IntegerStats(
                    self.least[groups].reshape(shape),
                    self.most[groups].reshape(shape),
                    self.sums[sums].reshape(shape) if m.summed else None,
                    int(self.beyond[number]),
                    blocks,
                    self.ends[b] if m.axis is None else self.ends[:0],
                )
            )
        return found


def _ranges(sizes: Iterable[int]) -> list[slice]:
    return [slice(*pair) for pair in pairwise(accumulate(sizes, initial=0))]


def lot_stats(x: NDArray[np.uint8], matrices: Sequence[Matrix]) -> list[IntegerStats]:
    """Return the statistics of matrices in the bytes x, of one call."""
    if not jit_pays(x.size) or not all(m.whole for m in matrices):
        return [integer_stats(x[m.at : m.at + m.nbytes], m) for m in matrices]
    room = _Room(matrices)
    room.fill(x, [room.entry(i, m.at, m.stored[0]) for i, m in enumerate(matrices)])
    return room.stats()


def integer_stats(flat: NDArray[np.uint8], m: Matrix, path: Path | None = None) -> IntegerStats:
    """Return the statistics of a matrix, of which `flat` are the bytes.

    Args: path: the file, to read it in pieces where `flat` is a map that is too large to touch.
    """
    if not jit_pays(flat.size) or not m.whole:
        return _plain_stats(flat, m)
    room, width = _Room([m]), m.stored[1]
    for at, piece in _pieces(flat, m.begin, path, width):
        room.fill(piece, [room.entry(0, 0, piece.size // width, at // width)])
    return room.stats()[0]


def _plain_stats(flat: NDArray[np.uint8], m: Matrix) -> IntegerStats:
    (n, k), blocks = m.shape, byte_blocks(flat, m.begin)
    stored = flat.view(np.int8).reshape(m.stored)
    codes = stored if m.axis is None else unpack_int4(stored, m.axis)
    cut = codes.reshape(n, m.groups, k // m.groups)
    least, most = cut.min(axis=2, initial=127), cut.max(axis=2, initial=-128)
    sums = cut.sum(axis=2, dtype=np.int64) if m.summed else None
    if m.axis is not None:
        return IntegerStats(least, most, sums, 0, blocks, np.zeros(0, np.int64))
    far = (codes.reshape(-1) < -126) | (codes.reshape(-1) > 126)
    ends = _cut(far, blocks.lead, blocks.low.size, BLOCK).sum(axis=1, dtype=np.int64)
    return IntegerStats(least, most, sums, int(np.count_nonzero(far)), blocks, ends)


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
        from slimcheck import scan_kernels

        low, high = np.full(count, 127, np.int8), np.full(count, -128, np.int8)
        scan_kernels.byte_blocks(x, -lead, low, high)
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
