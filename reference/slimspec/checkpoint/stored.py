"""The bytes of a tensor in its file: read where they are few, mapped where they are many."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAP_FROM = 1 << 20  # bytes; of fewer, a map costs more than reading them


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


def _fill(stream: Any, array: NDArray[Any], begin: int) -> None:
    view = array.view(np.uint8).data
    stream.seek(begin)
    while view:
        size = stream.readinto(view)
        if not size:
            raise OSError("the file is shorter than its header says")
        view = view[size:]
