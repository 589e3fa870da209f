"""What one pass over a tensor of floats, or of other bytes, tells: blocks, and what is not finite.

Large tensors go through a compiled kernel as they are read, small ones through the plain form: the
same numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
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
    grid,
    ranges,
    sample,
)
from slimspec.numeric.jit import jit_enabled, jit_pays

EXPONENT: dict[str, Any] = {  # bits that are all set in NaN and Inf, and in no number
    "F8_E4M3": np.uint8(0x7F),
    "F16": np.uint16(0x7C00),
    "BF16": np.uint16(0x7F80),
    "F32": np.uint32(0x7F800000),
}
_NONE = np.uint8(0)  # bytes that hold no floats


class Words(NamedTuple):
    """A tensor of unsigned words in a file.

    Attributes:
        begin, nbytes: where it lies there.
        tag: its dtype, as in the header.
    """

    begin: int
    nbytes: int
    tag: str

    @property
    def exponent(self) -> Any:
        """What the words are, and the bits of a float that is not finite; 0 for other bytes."""
        return EXPONENT.get(self.tag, _NONE)

    @property
    def can_be_read(self) -> bool:
        """Whether the kernel can look at it as it reads the file."""
        whole = self.nbytes % self.exponent.dtype.itemsize == 0 < self.nbytes
        return whole and CAN_READ and jit_enabled()


@dataclass(frozen=True, slots=True)
class WordStats:
    """Of a tensor of words.

    Attributes:
        not_finite: flat position of the first NaN or Inf; -1: there is none.
        blocks: of the words.
        sample: some of the words, at equal distances.
    """

    not_finite: int
    blocks: Blocks
    sample: NDArray[Any]


def word_lot(handle: int, tensors: Sequence[Words]) -> list[WordStats] | None:
    """Return the statistics of tensors in an open file, which is read meanwhile.

    Args: tensors of which each can be read so. Returns: None if the file ends before.
    """
    from slimcheck.values.kernels import NEAR

    found: list[WordStats] = []
    buffer = np.empty(NEAR, np.uint8)
    for _, alike in groupby(tensors, key=lambda words: words.exponent.dtype):
        some = _look(handle, buffer, list(alike))
        if some is None:
            return None
        found += some
    return found


def word_stats(values: NDArray[Any], words: Words) -> WordStats:
    """Return the statistics of a tensor in memory."""
    exponent = words.exponent
    flat = values.reshape(-1).view(exponent.dtype)
    if CAN_READ and jit_pays(flat.size):
        found = _look(-1, flat.view(np.uint8), [words])
        if found:
            return found[0]
    special = (flat & exponent) == exponent
    first = int(np.argmax(special)) if exponent and special.any() else -1
    return WordStats(first, constant_blocks(flat, words.begin), sample(flat))


def _look(handle: int, x: NDArray[np.uint8], tensors: Sequence[Words]) -> list[WordStats] | None:
    """Args: as for the kernel; tensors of words of one size."""
    from slimcheck.values import kernels

    exponents = np.array([words.exponent for words in tensors])
    width = exponents.itemsize
    grids = [grid(words.begin, words.nbytes, width) for words in tensors]
    blocks = ranges(count for _, count in grids)
    table = [
        (words.begin if handle >= 0 else 0, words.nbytes // width, -lead, own.start, own.stop)
        for words, (lead, _), own in zip(tensors, grids, blocks, strict=True)
    ]
    values, firsts = np.full(blocks[-1].stop, UNSEEN, np.int64), np.full(len(tensors), -1, np.int64)
    samples = np.empty((len(tensors), SAMPLES), exponents.dtype)
    words_of_x = x.view(exponents.dtype)
    seen = values, firsts, samples
    done = kernels.word_lot(handle, x, words_of_x, np.array(table, np.int64), exponents, *seen)
    if done < len(tensors):
        return None
    constant = constant_in(values, blocks)
    return [
        WordStats(
            int(firsts[i]),
            Blocks(-place, BLOCK // width, constant[i]),
            samples[i, :size],
        )
        for i, (_, size, place, *_) in enumerate(table)
    ]
