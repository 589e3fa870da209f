"""The 4 KiB blocks of a file that a tensor covers."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 4096  # bytes that file systems and downloads lose together, aligned in the file
UNSEEN, MIXED = -1, -2  # what kernels note of blocks, beside the one value that all elements have
CAN_READ = hasattr(os, "pread")  # which the kernels call
SAMPLES = 256  # elements of a weight by which it is told from others


@dataclass(frozen=True, slots=True)
class Blocks:
    """Whole blocks of the file that a tensor covers.

    Attributes:
        lead: elements of the tensor before the first block.
        step: elements in a block.
        constant: numbers of the blocks that hold one value only.
    """

    lead: int
    step: int
    constant: NDArray[np.int64]

    def element(self, block: int) -> int:
        """Flat position of the first element of a block."""
        return self.lead + block * self.step


def grid(begin: int, nbytes: int, width: int = 1) -> tuple[int, int]:
    """Elements before the first whole block, and the number of whole blocks.

    Args: begin: where the tensor begins in its file; width: bytes of an element. A tensor that is
    not aligned has no whole blocks of its elements.
    """
    lead = min(-begin % BLOCK, nbytes)
    return (0, 0) if lead % width else (lead // width, (nbytes - lead) // BLOCK)


def cut(x: NDArray[Any], lead: int, count: int) -> NDArray[Any]:
    """Return the whole blocks of x [...] as rows."""
    step = BLOCK // x.itemsize
    return x[lead : lead + count * step].reshape(count, step)


def constant_blocks(x: NDArray[Any], begin: int) -> Blocks:
    """Return the blocks of x [...], which begins at byte `begin` of its file: the plain form."""
    lead, count = grid(begin, x.nbytes, x.itemsize)
    view = cut(x, lead, count)
    constant = np.flatnonzero((view == view[:, :1]).all(axis=1))
    return Blocks(lead, BLOCK // x.itemsize, constant)


def constant_in(values: NDArray[np.int64], parts: Sequence[slice]) -> list[NDArray[np.int64]]:
    """Return by part of what kernels noted of blocks the numbers of those of one value."""
    found = np.flatnonzero(values >= 0)
    if not found.size:  # so it is mostly
        return [found] * len(parts)
    return [np.flatnonzero(values[part] >= 0) for part in parts]


def sample(x: NDArray[Any]) -> NDArray[Any]:
    """Return up to SAMPLES elements of x [...] at equal distances."""
    return x[:: max(x.size // SAMPLES, 1)][:SAMPLES].copy()


def ranges(sizes: Iterable[int]) -> list[slice]:
    """Return where parts of these sizes lie that lie one behind another."""
    return [slice(*pair) for pair in pairwise(accumulate(sizes, initial=0))]
