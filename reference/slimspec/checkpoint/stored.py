"""The bytes of a tensor in its file: read where they are few, mapped where they are many."""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAP_FROM = 1 << 20  # bytes; of fewer, a map costs more than reading them
_PIECE = 1 << 20  # bytes that are read at once: they stay in the cache of one processor


def stored_bytes(path: str | Path, begin: int, size: int) -> NDArray[np.uint8]:
    """Return `size` bytes of a file from `begin` on, read-only; a map goes with its last view.

    Raises:
        OSError, ValueError: they cannot be read.
    """
    if not size:
        return np.empty(0, np.uint8)
    with open(path, "rb", buffering=0) as stream:
        if size < MAP_FROM:
            found = np.empty(size, np.uint8)
            _fill(stream, found, begin)
            found.flags.writeable = False
            return found
        lead = begin % mmap.ALLOCATIONGRANULARITY
        pages = mmap.mmap(
            stream.fileno(), lead + size, access=mmap.ACCESS_READ, offset=begin - lead
        )
        return np.frombuffer(pages, np.uint8, size, lead)


def pieces(
    path: str | Path, begin: int, size: int, dtype: Any, unit: int
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (first element, elements) of an array of `size` elements in a file, piece by piece.

    Pages of a map are memory of the process, pieces are not: they are multiples of `unit` elements
    and share one buffer.

    Raises:
        OSError: they cannot be read.
    """
    width = np.dtype(dtype).itemsize
    step = max(_PIECE // width // unit, 1) * unit
    buffer = np.empty(min(step, size), dtype)
    with open(path, "rb", buffering=0) as stream:
        for at in range(0, size, step):
            piece = buffer[: min(step, size - at)]
            _fill(stream, piece, begin + at * width)
            yield at, piece


def _fill(stream: Any, array: NDArray[Any], begin: int) -> None:
    view = array.view(np.uint8).data
    stream.seek(begin)
    while view:
        size = stream.readinto(view)
        if not size:
            raise OSError("the file is shorter than its header says")
        view = view[size:]
