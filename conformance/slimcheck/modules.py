"""What a value rule sees: one module, its tensor bytes read on demand, each once.

Modules come in the order in which their weights lie in the files, so that reading them all is one
sequential pass; what a module has read is dropped with it, so memory holds one module.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcheck.context import Context, ModuleClass, join
from slimspec import layout


class Module:
    """One module at value level.

    Attributes:
        name: prefix of its tensors.
        cls: its header-level class (label, dtypes, shapes).
    """

    def __init__(self, context: Context, cls: ModuleClass, name: str) -> None:
        self._context = context
        self.cls = cls
        self.name = name
        self._arrays: dict[str, NDArray[Any]] = {}

    def __contains__(self, suffix: str) -> bool:
        return suffix in self.cls.tensors

    @property
    def label(self) -> str | None:
        return self.cls.label

    @property
    def base_label(self) -> str | None:
        return layout.base_label(self.cls.label) if self.cls.label else None

    def tensor(self, suffix: str) -> str:
        """Full name of one of its tensors."""
        return join(self.name, suffix)

    def file(self, suffix: str) -> str:
        return self._context.file_of(self.tensor(suffix))

    def array(self, suffix: str) -> NDArray[Any]:
        """The tensor as a read-only array (shape and dtype as in the header).

        Raises:
            slimspec.checkpoint.CheckpointError: the bytes cannot be read.
            KeyError: the module has no such tensor.
        """
        if suffix not in self._arrays:
            if suffix not in self.cls.tensors:
                raise KeyError(suffix)
            self._arrays[suffix] = self._context.checkpoint.tensor(self.tensor(suffix))
        return self._arrays[suffix]

    @cached_property
    def row_sum(self) -> NDArray[np.int64]:
        """int64 [rows]: sum of each row of the stored int8 weight."""
        return self.array("weight").sum(axis=1, dtype=np.int64)

    @cached_property
    def row_max(self) -> NDArray[np.int64]:
        """int64 [rows]: largest stored integer of each row (0 for an empty row)."""
        return self.array("weight").max(axis=1, initial=-128).astype(np.int64)

    @cached_property
    def row_min(self) -> NDArray[np.int64]:
        """int64 [rows]: smallest stored integer of each row."""
        return self.array("weight").min(axis=1, initial=127).astype(np.int64)


def modules(context: Context) -> Iterator[Module]:
    """Every module of the directory, in file order of its first tensor."""
    table = context.checkpoint.table
    placed: list[tuple[int, int, str, ModuleClass]] = []
    for cls in context.classes:
        lead = "weight" if "weight" in cls.tensors else next(iter(cls.tensors))
        for member in cls.members:
            row = table.index(join(member, lead))
            placed.append((int(table.file_ids[row]), int(table.begin[row]), member, cls))
    placed.sort(key=lambda item: item[:3])
    for _, _, member, cls in placed:
        yield Module(context, cls, member)
