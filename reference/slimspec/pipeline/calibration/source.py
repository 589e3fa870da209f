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
from slimspec.checkpoint.dtypes import numpy_dtype
from slimspec.model import Weights
from slimspec.numeric import model_dtype, to_dtype
from slimspec.numeric.arithmetic import MODEL_DTYPES
from slimspec.quantize.affine import Variant
from slimspec.smooth.fold import Affine, fold_consumer, fold_norm, fold_producer

Where = Literal["vector", "rows", "columns"]
BUFFERS = (".inv_freq",)  # endings of tensors that are no parameters: a load does not cast them


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


def loaded_dtype(
    checkpoint: Checkpoint, variant: Variant, asked: DTypeLike | None = None
) -> DTypeLike | None:
    """Return the dtype that a tool casts every parameter to as it loads a model; None for none.

    The one-click service ("v1") loads in the dtype of config.json, so that a single float32 tensor
    of a bfloat16 model is rounded. Source: msmodelslim model/common/transformers.py:85-95,
    model/deepseek_v3/model_adapter.py:100-132; measured on recorded directories.

    Args: asked: by the user, which goes before.
    """
    if asked is not None or variant == "v0" or checkpoint.model_dtype is None:
        return asked
    return numpy_dtype(checkpoint.model_dtype)


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
        uncast: names of tensors that keep their stored dtype.
        untied: the head was tied to the table of embeddings and is a tensor of its own now.
    """

    def __init__(self, checkpoint: Checkpoint, dtype: DTypeLike | None = None) -> None:
        super().__init__(checkpoint)
        self.dtype = None if dtype is None else model_dtype(dtype)
        self.folds: dict[str, list[Callable[[NDArray], NDArray]]] = defaultdict(list)
        self.uncast: set[str] = set()
        self.untied = False

    def stored(self, name: str) -> NDArray:
        """The tensor after load and folds. Raises: CheckpointError: no file holds it."""
        found = super().stored(name)
        if self.dtype is not None and self._is_cast(name) and found.dtype in MODEL_DTYPES:
            found = to_dtype(found, self.dtype)
        for fold in self.folds.get(name, ()):
            found = fold(found)
        return found

    def _is_cast(self, name: str) -> bool:
        return not (name in self.replaced or name in self.uncast or name.endswith(BUFFERS))

    def add(self, name: str, array: NDArray) -> None:
        """Put a tensor in the place of the stored one and of its folds."""
        self.folds.pop(name, None)
        self.replaced[name] = np.ascontiguousarray(array)

    def spool(self, name: str, array: NDArray) -> None:
        """Put a tensor in the place of the stored one, on disk rather than in memory."""
        self.add(name, spooled(array))

    def untie(self, head: str, table: str) -> None:
        """Give a head tied to the table of embeddings a tensor of its own, with folds of its own.

        Args: names of the tensors.
        """
        self.spool(head, self.stored(table))
        self.untied = True

    def added(self) -> Iterator[tuple[str, NDArray]]:
        """Tensors that the checkpoint does not have."""
        for name, array in self.replaced.items():
            if name not in self.checkpoint.table:
                yield name, array
