"""The float model that a checkpoint was made from, as the comparison needs it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec import layout
from slimspec.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from slimspec.checkpoint.errors import clip

_FLOATS = ("F16", "BF16", "F32")
_SHARD = re.compile(r"(.+)\.tp_list\.(\d{1,6})")


class FloatModel:
    """A directory of float weights, opened lazily.

    Raises:
        CheckpointError: `path` cannot be read, holds no safetensors, or quantized ones.
    """

    def __init__(self, path: str | Path) -> None:
        self.checkpoint: Checkpoint = open_checkpoint(path)
        if not self.checkpoint.table.names:
            raise CheckpointError(f"{path}: found no tensors, expected a float model")
        description = self.checkpoint.description
        labels = description.labels.items() if description else ()
        stated = {label for name, label in labels if name.endswith(".weight")}
        quantized = sorted(label for label in stated if layout.base_label(label) != "FLOAT")
        if quantized:
            found = f"weights of {clip(quantized[0], 40)}"
            raise CheckpointError(f"{path}: found {found}, expected a float model")

    @property
    def path(self) -> str:
        return str(self.checkpoint.path)

    def __contains__(self, name: str) -> bool:
        return self.tensor(name) is not None

    def tensor(self, name: str) -> NDArray[Any] | None:
        """A float tensor by its name, None if there is none."""
        table = self.checkpoint.table
        row = table.find(name)
        if row is None or table.dtype(row) not in _FLOATS:
            return None
        return self.checkpoint.tensor(name)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a float tensor by the header, None if there is none."""
        table = self.checkpoint.table
        row = table.find(name)
        return table.row(row).shape if row is not None and table.dtype(row) in _FLOATS else None

    def weight(self, module: str, count: int = 0) -> NDArray[Any] | None:
        """The weight of a linear, or the columns of its shard where `module` is X.tp_list.i."""
        found = self.tensor(f"{module}.weight")
        shard = _SHARD.fullmatch(module)
        if found is not None or shard is None:
            return found
        whole = self.tensor(f"{shard[1]}.weight")
        if whole is None or whole.ndim != 2 or int(shard[2]) >= count:
            return None
        parts: list[NDArray[Any]] = np.array_split(whole, count, axis=1)
        return parts[int(shard[2])]
