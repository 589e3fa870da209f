"""All tensors of a directory as columns: names beside small integer arrays.

Source: performance.md "Reading checkpoints" and DESIGN section 5 (headers are parsed once into
columns).
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .dtypes import TAGS
from .header import Header


class Tensor(NamedTuple):
    """One row of the table; `begin` and `end` are absolute offsets in `file` (-1: unusable)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    begin: int
    end: int


class TensorTable:
    """Columns over all tensors, in file order and header order.

    Attributes:
        names: tensor names; a name stored in two files has two rows.
        files: file names; `file_ids` (uint32) index into it.
        dtype_codes: uint8, index into `dtype_tags`.
        shape_ids: uint32, index into `shapes`.
        begin, end: int64, absolute offsets in the file; -1 where the header's are unusable.
        duplicates: name -> ids of the files that hold it, for names with several rows.
    """

    dtype_tags: tuple[str, ...] = TAGS

    def __init__(self, headers: Sequence[Header]) -> None:
        columns = [header.entries for header in headers]
        shapes: dict[tuple[int, ...], int] = {}
        self.files: list[str] = [header.name for header in headers]
        self.names: list[str] = [name for column in columns for name in column.names]
        self.dtype_codes: NDArray[np.uint8] = np.frombuffer(
            b"".join(column.codes for column in columns), dtype=np.uint8
        )
        self.shape_ids: NDArray[np.uint32] = np.fromiter(
            (shapes.setdefault(s, len(shapes)) for column in columns for s in column.shapes),
            dtype=np.uint32,
            count=len(self.names),
        )
        self.shapes: list[tuple[int, ...]] = list(shapes)
        self.file_ids: NDArray[np.uint32] = np.repeat(
            np.arange(len(headers), dtype=np.uint32), [len(column) for column in columns]
        )
        self.begin: NDArray[np.int64] = _concatenate([column.begins for column in columns])
        self.end: NDArray[np.int64] = _concatenate([column.ends for column in columns])
        rows = range(len(self.names) - 1, -1, -1)  # backwards, so that the first row wins
        self._rows: dict[str, int] = dict(zip(reversed(self.names), rows, strict=True))

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __iter__(self) -> Iterator[Tensor]:
        return (self.row(i) for i in range(len(self.names)))

    def index(self, name: str) -> int:
        """Return the first row of `name`.

        Raises:
            KeyError: no file holds it.
        """
        return self._rows[name]

    def find(self, name: str) -> int | None:
        """Return the first row of `name`, or None."""
        return self._rows.get(name)

    def firsts(self) -> Iterator[tuple[int, str]]:
        """Rows with their names, in order; of a name stored twice the first, which is read."""
        rows = enumerate(self.names)
        if not self.duplicates:
            return rows
        return (item for item in rows if self._rows[item[1]] == item[0])

    def absent(self, names: Iterable[str]) -> list[str]:
        """Return those of `names` that no file holds, in their order."""
        rows = self._rows  # not through `in`: there may be a million names
        return [name for name in names if name not in rows]

    def row(self, i: int) -> Tensor:
        """Return row `i` as plain Python values."""
        return Tensor(
            self.names[i], self.dtype(i), self.shape(i), self.file(i),
            int(self.begin[i]), int(self.end[i]),
        )  # fmt: skip

    def shape(self, i: int) -> tuple[int, ...]:
        """Return the shape of row `i`."""
        return self.shapes[self.shape_ids[i]]

    def dtype(self, i: int) -> str:
        """Return the dtype tag of row `i`, e.g. "BF16"."""
        return TAGS[self.dtype_codes[i]]

    def file(self, i: int) -> str:
        """Return the file name of row `i`."""
        return self.files[self.file_ids[i]]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Stored bytes per row, int64."""
        return self.end - self.begin

    @property
    def nbytes(self) -> int:
        """Stored bytes of all rows."""
        return int(self.sizes.sum())

    @cached_property
    def duplicates(self) -> dict[str, tuple[int, ...]]:
        """Names that several files hold, with the ids of these files."""
        if len(self._rows) == len(self.names):
            return {}
        again: dict[str, list[int]] = {}
        for row, name in enumerate(self.names):
            if self._rows[name] != row:
                first = int(self.file_ids[self._rows[name]])
                again.setdefault(name, [first]).append(int(self.file_ids[row]))
        return {name: tuple(files) for name, files in again.items()}

    def in_storage_order(self) -> NDArray[np.intp]:
        """Return the rows sorted by file, then by offset: each file streams once, forwards."""
        return np.lexsort((self.begin, self.file_ids))


def _concatenate(columns: Sequence["array[int]"]) -> NDArray[np.int64]:
    return np.frombuffer(b"".join(columns), dtype=np.int64)
