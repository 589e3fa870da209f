"""What one pass over the bytes of a tensor tells: rows, 4 KiB blocks of the file, finiteness.

Every value rule takes its numbers from here, so that the bytes are read once. Large arrays go
through compiled kernels (`scan_kernels`), small ones through the plain form: the same integers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint.stored import pieces
from slimspec.numeric.jit import jit_pays

BLOCK = 4096  # bytes that file systems and downloads lose together, aligned in the file
EXPONENT: dict[str, Any] = {  # bits that are all set in NaN and Inf, and in no number
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
    """Of an int8 matrix [n, k].

    Attributes:
        row_sum int64 [n]; row_min, row_max int64 [n] (127 and -128 for an empty row).
        beyond: number of elements past ±126.
        blocks: of the file; None where the elements are not stored as they are.
        ends: int64, elements past ±126 of each block.
    """

    row_sum: Integers
    row_min: Integers
    row_max: Integers
    beyond: int
    blocks: Blocks
    ends: Integers


def integer_stats(
    codes: NDArray[np.int8], begin: int = 0, path: Path | None = None
) -> IntegerStats:
    """Return the statistics of int8 [n, k] that starts at byte `begin` of its file.

    Args: path: the file, to read it in pieces where `codes` are a map that is too large to touch.
    """
    (n, k), flat = codes.shape, codes.reshape(-1)
    lead, count = _grid(begin, flat.size, BLOCK)
    low, high = np.full(count, 127, np.int8), np.full(count, -128, np.int8)
    ends = np.zeros(count, np.int64)
    if jit_pays(flat.size) and k:
        from slimcheck.scan_kernels import int8_rows

        row_sum = np.zeros(n, np.int64)
        row_min, row_max = np.full(n, 127, np.int8), np.full(n, -128, np.int8)
        beyond = 0
        for at, piece in _pieces(flat, begin, path, k):
            r = slice(at // k, (at + piece.size) // k)
            rows = row_sum[r], row_min[r], row_max[r]
            beyond += int(int8_rows(piece, k, at, lead, *rows, low, high, ends))
    else:
        row_sum = codes.sum(axis=1, dtype=np.int64)
        row_min = codes.min(axis=1, initial=127)
        row_max = codes.max(axis=1, initial=-128)
        far = (flat < -126) | (flat > 126)
        beyond = int(np.count_nonzero(far))
        if count:
            view = _cut(flat, lead, count, BLOCK)
            low, high = view.min(axis=1), view.max(axis=1)
            ends = _cut(far, lead, count, BLOCK).sum(axis=1, dtype=np.int64)
    wide_min, wide_max = row_min.astype(np.int64), row_max.astype(np.int64)
    return IntegerStats(row_sum, wide_min, wide_max, beyond, Blocks(lead, BLOCK, low, high), ends)


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
    """Return the blocks of bytes whose elements are smaller or of another kind."""
    lead, count = _grid(begin, raw.size, BLOCK)
    view = _cut(raw, lead, count, BLOCK)
    return Blocks(lead, BLOCK, view.min(axis=1), view.max(axis=1))


def _grid(begin: int, nbytes: int, step: int) -> tuple[int, int]:
    """Bytes before the first whole block of the file, and the number of whole blocks."""
    lead = min(-begin % step, nbytes)
    return lead, (nbytes - lead) // step


def _cut(x: NDArray[Any], lead: int, count: int, step: int) -> NDArray[Any]:
    return x[lead : lead + count * step].reshape(count, step)
