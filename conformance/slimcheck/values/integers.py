"""What one pass over the integers of a weight tells: rows, groups of columns, blocks of the file.

Every value rule takes its numbers from here and from `words`, so that the bytes are read once.
Large weights go through compiled kernels (`kernels`) as they are read, small ones through the
plain form: the same integers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slimcheck.values.blocks import (
    BLOCK,
    CAN_READ,
    SAMPLES,
    UNSEEN,
    Blocks,
    constant_blocks,
    constant_in,
    cut,
    grid,
    ranges,
    sample,
)
from slimcheck.values.forms import Form
from slimspec.numeric.jit import jit_enabled, jit_pays
from slimspec.pack import unpack_int4

Integers = NDArray[np.int64]

_LONGEST = 1 << 24  # bytes of a row that is read into memory at once


class Matrix(NamedTuple):
    """Integers [n, k] in a file.

    Attributes:
        begin: where they begin there; blocks are those of the file.
        form: how they lie in its bytes, and of which parts of a row something is asked.
    """

    begin: int
    form: Form


def can_be_read(form: Form) -> bool:
    """Whether kernels can count such integers as they read the file."""
    return form.whole and form.stored[1] <= _LONGEST and CAN_READ and jit_enabled()


@dataclass(frozen=True, slots=True)
class IntegerStats:
    """Of the integers [n, k] of a weight, whose rows are cut into g equal groups of columns.

    Attributes:
        least, most: int8 [n, g] (127 and -128 for an empty group).
        sums: int32 or int64 [n, c], of c equal groups; None where nobody asked.
        beyond: number of integers past ±126; 0 for int4.
        blocks: of the stored bytes.
        ends: int64, integers past ±126 of each block; empty for int4.
        sample: uint8, stored bytes at equal distances.
    """

    least: NDArray[np.int8]
    most: NDArray[np.int8]
    sums: NDArray[Any] | None
    beyond: int
    blocks: Blocks
    ends: Integers
    sample: NDArray[np.uint8]

    def over(self, columns: int) -> "Groups | None":
        """The extremes of so many wider groups; None if the groups do not make those."""
        groups = self.least.shape[1]
        if columns < 1 or groups % columns:
            return None
        if columns == groups:
            return Groups(self.least, self.most)
        least, most = (_by_place(x, columns) for x in (self.least, self.most))
        return Groups(least.min(axis=0), most.max(axis=0))


def _by_place(x: NDArray[np.int8], columns: int) -> NDArray[np.int8]:
    """[n, g] as [g / columns, n, columns]: NumPy reduces long lines in vectors, short ones not."""
    n, groups = x.shape
    return np.ascontiguousarray(x.reshape(n, columns, groups // columns).transpose(2, 0, 1))


class Groups(NamedTuple):
    """Smallest and largest integers int8 [n, g] of groups of columns."""

    least: NDArray[np.int8]
    most: NDArray[np.int8]

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
        grids = [grid(begin, form.nbytes) for begin, form in matrices]
        self._matrices = matrices
        self._leads = [lead for lead, _ in grids]
        self._groups = ranges(form.shape[0] * form.groups for _, form in matrices)
        self._sums = ranges(form.shape[0] * form.chunks for _, form in matrices)
        self._blocks = ranges(count for _, count in grids)
        size, blocks = self._groups[-1].stop, self._blocks[-1].stop
        self.least, self.most = np.empty(size, np.int8), np.empty(size, np.int8)
        self.sums = np.empty(self._sums[-1].stop, np.int32)
        self.values = np.full(blocks, UNSEEN, np.int64)
        self.ends = np.zeros(blocks, np.int64)
        self.beyond = np.zeros(len(matrices), np.int64)
        self.samples = np.zeros((len(matrices), SAMPLES), np.uint8)

    def fill(self, handle: int, x: NDArray[np.uint8]) -> bool:
        """Count; False if the file cannot be read. Args: as for `integer_lot`."""
        from slimcheck.values.kernels import integer_lot

        columns = zip(
            self._matrices, self._leads, self._sums, self._groups, self._blocks, strict=True
        )
        table = [
            (
                begin if handle >= 0 else 0, *form.stored, -1 if form.axis is None else form.axis,
                -lead, form.groups, form.chunks, groups.start, sums.start,
                blocks.start, blocks.stop,
            )
            for (begin, form), lead, sums, groups, blocks in columns
        ]  # fmt: skip
        of_groups, of_blocks = (self.sums, self.least, self.most), (self.values, self.ends)
        found = *of_groups, *of_blocks, self.beyond, self.samples
        return integer_lot(handle, x, np.array(table, np.int64), *found) == len(table)

    def stats(self) -> list[IntegerStats]:
        """The statistics of each matrix."""
        found = []
        constant, beyond = constant_in(self.values, self._blocks), self.beyond.tolist()
        for number, (_, form) in enumerate(self._matrices):
            groups, sums, n = self._groups[number], self._sums[number], form.shape[0]
            found.append(
                IntegerStats(
                    self.least[groups].reshape(n, form.groups),
                    self.most[groups].reshape(n, form.groups),
                    self.sums[sums].reshape(n, form.chunks) if form.chunks else None,
                    beyond[number],
                    Blocks(self._leads[number], BLOCK, constant[number]),
                    self.ends[self._blocks[number]] if form.axis is None else self.ends[:0],
                    self.samples[number, : form.nbytes],
                )
            )
        return found


def lot_stats(handle: int, matrices: Sequence[Matrix]) -> list[IntegerStats] | None:
    """Return the statistics of matrices in an open file, which is read as they are counted.

    Args: matrices of which each can be read so. Returns: None if the file ends before.
    """
    from slimcheck.values.kernels import NEAR

    room = _Room(matrices)
    buffer = np.empty(max(NEAR, *(form.stored[1] for _, form in matrices)), np.uint8)
    return room.stats() if room.fill(handle, buffer) else None


def integer_stats(flat: NDArray[np.uint8], m: Matrix) -> IntegerStats:
    """Return the statistics of a matrix, of which `flat` are the bytes.

    Raises:
        ValueError: there are more bytes than the matrix has, or fewer.
    """
    if flat.size != m.form.nbytes:  # a kernel would read past them
        raise ValueError(f"{flat.size} bytes, where {m.form.stored} are stored")
    if not CAN_READ or not jit_pays(flat.size) or not m.form.whole:
        return _plain_stats(flat, m)
    room = _Room([m])
    room.fill(-1, flat)
    return room.stats()[0]


def _plain_stats(flat: NDArray[np.uint8], m: Matrix) -> IntegerStats:
    form, blocks, some = m.form, constant_blocks(flat, m.begin), sample(flat)
    n, k = form.shape
    stored = flat.view(np.int8).reshape(form.stored)
    codes = stored if form.axis is None else unpack_int4(stored, form.axis)
    groups = codes.reshape(n, form.groups, k // form.groups)
    least, most, sums = groups.min(axis=2, initial=127), groups.max(axis=2, initial=-128), None
    if form.chunks:
        sums = codes.reshape(n, form.chunks, k // form.chunks).sum(axis=2, dtype=np.int64)
    if form.axis is not None:
        return IntegerStats(least, most, sums, 0, blocks, np.zeros(0, np.int64), some)
    far = (codes.reshape(-1) < -126) | (codes.reshape(-1) > 126)
    ends = cut(far, *grid(m.begin, flat.size)).sum(axis=1, dtype=np.int64)
    return IntegerStats(least, most, sums, int(np.count_nonzero(far)), blocks, ends, some)


def lowest_codes(stored: NDArray[np.int8], packed: bool) -> int:
    """Return how many int4 codes are -8."""
    if packed and jit_pays(stored.size):
        from slimcheck.values.kernels import lowest_nibbles

        return int(lowest_nibbles(stored.reshape(-1).view(np.uint8)))
    codes = unpack_int4(stored) if packed else stored
    return int(np.count_nonzero(codes == -8))
