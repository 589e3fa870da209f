"""Keys and values of the tokens seen so far, by layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class KVCache:
    """Grows by the tokens of each forward pass; keys are stored after rotation."""

    def __init__(self) -> None:
        self._states: dict[int, tuple[NDArray, NDArray]] = {}

    def __len__(self) -> int:
        """Number of tokens seen."""
        return max((k.shape[1] for k, _ in self._states.values()), default=0)

    def extend(self, layer: int, k: NDArray, v: NDArray) -> tuple[NDArray, NDArray]:
        """Append k (kv, t, d) and v (kv, t, dv) of a layer; return all of its keys and values."""
        before = self._states.get(layer)
        if before is not None:
            k, v = (np.concatenate(pair, axis=1) for pair in zip(before, (k, v), strict=True))
        self._states[layer] = (k, v)
        return k, v
