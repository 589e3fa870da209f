"""The shortest window that holds a given share of the samples: FA3 ranges of q, k and v."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, model_dtype, to_dtype
from slimspec.quantize.affine import require_finite


def recall_window(x: NDArray, ratio: float = 1.0) -> tuple[NDArray, NDArray]:
    """Return per row the ends of the shortest interval that holds int(ratio·t) of its t samples.

    v = sort(x); (lo, hi) = (v[i], v[i + c - 1]) with c = int(ratio·t) and i the first index of the
    smallest v[i + c - 1] - v[i].
    Args: x [h, t] float32/float16/bfloat16; ratio in (0, 1]. Returns: lo, hi [h, 1], dtype of x.
    Raises: ValueError for NaN or Inf, or a ratio that keeps no sample.
    Source: math.md 2.6; msmodelslim core/observer/recall_window.py:86-118.
    """
    dtype = model_dtype(x.dtype)
    require_finite(x, "samples")
    samples = x.shape[1]
    count = int(ratio * samples)
    if not 1 <= count <= samples:
        raise ValueError(f"ratio {ratio} of {samples} samples keeps {count}: expected 1 or more")
    v = np.sort(as_float32(x), axis=1, kind="stable")  # keeps the order of -0 and 0
    low, high = v[:, : samples - count + 1], v[:, count - 1 :]  # (h, windows)
    length = high.astype(np.float64) - low.astype(np.float64)
    first = np.argmin(length, axis=1)[:, None]
    return (
        to_dtype(np.take_along_axis(low, first, axis=1), dtype),
        to_dtype(np.take_along_axis(high, first, axis=1), dtype),
    )


class RecallWindowObserver:
    """Extremes of the windows of all batches, per row.

    Source: msmodelslim core/observer/recall_window.py:36-60.
    """

    def __init__(self, ratio: float = 1.0) -> None:
        self.ratio = ratio
        self._low: NDArray | None = None
        self._high: NDArray | None = None

    def update(self, x: NDArray) -> None:
        """Add one batch, x [h, t]. Raises: as `recall_window`."""
        low, high = recall_window(x, self.ratio)
        if self._low is None or self._high is None:
            self._low, self._high = low, high
        else:
            self._low = np.where(low < self._low, low, self._low)
            self._high = np.where(high > self._high, high, self._high)

    def range(self) -> tuple[NDArray, NDArray]:
        """Return (lo, hi), each [h, 1]. Raises: ValueError before the first batch."""
        if self._low is None or self._high is None:
            raise ValueError("no batch was observed: expected at least one")
        return self._low, self._high
