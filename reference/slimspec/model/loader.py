"""Weights of a model, one layer at a time: named tensors of a checkpoint, checked when asked for.

Tensors are views of the mapped files; what is kept beyond one call lives in a `Layer` scope and
goes with it, so that memory is one layer plus activations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint import Checkpoint, CheckpointError
from slimspec.numeric.arithmetic import MODEL_DTYPES

from .numerics import Numerics


class Weights:
    """Tensors by name: those of a checkpoint, or what has been put in their place.

    Attributes:
        checkpoint: where tensors are read.
        replaced: tensors that go before those of the files (smoothing writes them).
    """

    def __init__(
        self, checkpoint: Checkpoint, replaced: Mapping[str, NDArray] | None = None
    ) -> None:
        for shard in checkpoint.shards:
            for defect in shard.defects:
                raise CheckpointError(f"{checkpoint.path}: {defect.message}")
        self.checkpoint = checkpoint
        self.replaced: dict[str, NDArray] = dict(replaced or {})

    def __contains__(self, name: object) -> bool:
        return name in self.replaced or name in self.checkpoint.table

    def names(self) -> Iterator[str]:
        """Names of all tensors, in file order, then those that only replacements have."""
        yield from self.checkpoint.table.names
        yield from (name for name in self.replaced if name not in self.checkpoint.table)

    def stored(self, name: str) -> NDArray:
        """The tensor as stored. Raises: CheckpointError: no file holds it."""
        found = self.replaced.get(name)
        return self.checkpoint.tensor(name) if found is None else found

    def float(self, name: str, shape: tuple[int, ...]) -> NDArray:
        """The tensor, which must be float of that shape; -1 stands for any size.

        Raises:
            CheckpointError: missing, another dtype or another shape; the tensor is named.
        """
        array = self.stored(name)
        self.check(name, array, shape)
        return array

    def rows(self, name: str) -> int:
        """The first size of the tensor, from the header. Raises: CheckpointError: missing, 0-d."""
        array = self.stored(name)
        if not array.ndim:
            self.check(name, array, (-1, -1))
        return int(array.shape[0])

    def check(self, name: str, array: NDArray, shape: tuple[int, ...]) -> None:
        """Refuse a tensor that is not float of that shape; as `float`."""
        where = f"{self.checkpoint.path}: tensor {name!r}"
        if array.dtype not in MODEL_DTYPES:
            raise CheckpointError(
                f"{where}: found {array.dtype}, expected float16, bfloat16 or float32"
            )
        fits = array.ndim == len(shape) and all(
            wanted in (-1, size) for wanted, size in zip(shape, array.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if size < 0 else str(size) for size in shape)
            raise CheckpointError(f"{where}: found shape {list(array.shape)}, expected [{wanted}]")


class FloatLinear:
    """The linear of a float model: y = T(x·wᵀ + b), each weight prepared once per layer.

    Attributes:
        limit: bytes of float32 weights that are kept; others are widened at each call.
    """

    def __init__(self, numerics: Numerics, limit: int = 2 << 30) -> None:
        self._numerics = numerics
        self.limit = limit
        self._kept: dict[str, tuple[NDArray, NDArray[np.float32]]] = {}

    def __call__(self, name: str, x: NDArray, w: NDArray, b: NDArray | None) -> NDArray:
        """Return T(x·wᵀ + b). Args: x (t, k), w (n, k), b (n,) or None. Returns: (t, n)."""
        if x.dtype != self._numerics.dtype:  # behind a float32 module in a 16-bit model
            x = self._numerics.round(x)
        return self._numerics.product(x, self._prepared(name, w), b)

    def _prepared(self, name: str, w: NDArray) -> NDArray[np.float32]:
        kept = self._kept.get(name)
        if kept is not None and kept[0] is w:
            return kept[1]
        wide = self._numerics.prepared(w)
        if wide.nbytes + sum(v.nbytes for _, v in self._kept.values()) <= self.limit:
            self._kept[name] = (w, wide)
        return wide
