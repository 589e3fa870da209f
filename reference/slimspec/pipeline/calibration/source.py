"""The weights of a float model as calibration leaves them: loaded, smoothed, with new biases.

Smoothing keeps scale vectors, not weights: a tensor is folded each time it is read, so that memory
stays that of one layer and the writer sees the same bits as the calibration run.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.checkpoint import Checkpoint
from slimspec.model import Weights
from slimspec.numeric import model_dtype, to_dtype
from slimspec.numeric.arithmetic import MODEL_DTYPES
from slimspec.quantize.affine import Variant
from slimspec.smooth.fold import Affine, fold_consumer, fold_norm, fold_producer

Where = Literal["vector", "rows", "columns"]


@dataclass(frozen=True)
class Fold:
    """A scale folded into one tensor.

    Attributes:
        where: "vector" divides a norm's weight or a bias [k], "rows" divides the rows of a weight
            [n, k], "columns" multiplies its columns.
        scale: [k], [n] or [k].
        variant: whose division.
    """

    where: Where
    scale: NDArray
    variant: Variant

    def __call__(self, x: NDArray) -> NDArray:
        """The folded tensor, dtype and shape of x."""
        if self.where == "columns":
            return fold_consumer(x, self.scale)
        fold = fold_norm if self.where == "vector" else fold_producer
        return fold(Affine(x, None), self.scale, self.variant).weight


def spooled(array: NDArray) -> NDArray:
    """Return the same array from a file without a name, so that it takes no memory for long."""
    with tempfile.TemporaryFile() as file:
        file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        file.flush()
        stored = np.memmap(file, np.uint8, "r")  # the mapping outlives the open file
    return np.asarray(stored).view(array.dtype).reshape(array.shape)


class FoldedWeights(Weights):
    """Weights that are cast as a model is loaded, and then folded.

    Attributes:
        dtype: of the loaded model; None leaves every tensor as it is stored.
        folds: what to do with a tensor, in order, by name.
    """

    def __init__(self, checkpoint: Checkpoint, dtype: DTypeLike | None = None) -> None:
        super().__init__(checkpoint)
        self.dtype = None if dtype is None else model_dtype(dtype)
        self.folds: dict[str, list[Callable[[NDArray], NDArray]]] = defaultdict(list)

    def stored(self, name: str) -> NDArray:
        """The tensor after load and folds. Raises: CheckpointError: no file holds it."""
        found = super().stored(name)
        added = name in self.replaced
        if self.dtype is not None and not added and found.dtype in MODEL_DTYPES:
            found = to_dtype(found, self.dtype)
        for fold in self.folds.get(name, ()):
            found = fold(found)
        return found

    def add(self, name: str, array: NDArray) -> None:
        """Put a tensor in the place of the stored one and of its folds."""
        self.folds.pop(name, None)
        self.replaced[name] = np.ascontiguousarray(array)

    def spool(self, name: str, array: NDArray) -> None:
        """Put a tensor in the place of the stored one, on disk rather than in memory."""
        self.add(name, spooled(array))

    def added(self) -> Iterator[tuple[str, NDArray]]:
        """Tensors that the checkpoint does not have."""
        for name, array in self.replaced.items():
            if name not in self.checkpoint.table:
                yield name, array
