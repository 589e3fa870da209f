"""The histogram observer of `msmodelslim quant` (V1): torch's observer with its own search loop.

As shipped, the search compares the distances the wrong way and swaps the two ends, so its first
candidate nearly always loses and the clip is the whole range: min-max in practice (math.md 2.5 and
15, D-2). `FIXED` is the same observer with the comparison of torch.
"""

from __future__ import annotations

from enum import Enum

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, to_dtype
from slimspec.numeric.reduction import cascade_sum

from .histc import histc
from .histogram import BINS, Range
from .histogram_error import l2_error
from .histogram_search import search_clip
from .linspace import linspace

UPSAMPLE = 16


class Search(Enum):
    """Which comparison the clip search makes."""

    AS_SHIPPED = "v1_as_shipped"
    FIXED = "torch_fixed"


class HistogramObserverV1:
    """Histogram over all batches; the clip is refined to values of the latest batch.

    NaN and Inf are left out. A constant batch sets the clip and is not counted.
    Source: Ascend/msmodelslim msmodelslim/core/observer/histogram.py:257-345, 585-660;
    torch.ao.quantization.observer.HistogramObserver.
    """

    def __init__(self, search: Search = Search.AS_SHIPPED) -> None:
        self.search = search
        self.counts: NDArray[np.float32] = np.zeros(BINS, np.float32)
        self.low = np.float32(np.inf)
        self.high = np.float32(-np.inf)
        self._clip: tuple[NDArray, NDArray] | None = None

    def update(self, x: NDArray) -> None:
        """Add one batch and search the clip again.

        Args: x float32/float16/bfloat16, any shape (counted in float32).
        Raises: ValueError if no finite value is left.
        """
        values = as_float32(x).reshape(-1)
        values = values[np.isfinite(values)]
        if not values.size:
            raise ValueError(f"activation {x.shape}: expected at least one finite value")
        low, high = values.min(), values.max()
        if low == high:
            value = to_dtype(low, x.dtype)
            self._clip = (value, value)
            return
        self._count(values, low, high)
        first, last = self._search()
        kept = values[(values >= first) & (values <= last)]
        clip = (kept.min(), kept.max()) if kept.size else (first, last)
        dtype = np.float16 if x.dtype == np.float16 else np.float32
        self._clip = (to_dtype(clip[0], dtype), to_dtype(clip[1], dtype))

    def range(self) -> tuple[NDArray, NDArray]:
        """Return the clip (min, max) of the last batch, 0-d, in float32.

        A float16 batch gives float16, a constant one its own dtype.
        Raises: ValueError before the first batch.
        """
        if self._clip is None:
            raise ValueError("no batch was observed: expected at least one")
        return self._clip

    def _count(self, values: NDArray[np.float32], low: np.float32, high: np.float32) -> None:
        if self.low > self.high:  # first batch
            self.counts = histc(values, BINS, low, high)
        else:
            low, high = min(self.low, low), max(self.high, high)
            old = self.counts
            if low != self.low or high != self.high:
                old = _regrid(old, (self.low, self.high), (low, high))
            self.counts = histc(values, BINS, low, high) + old
        self.low, self.high = low, high

    def _search(self) -> Range:
        """Return the clip in values, before it is refined."""
        if cascade_sum(self.counts) == np.float32(0):
            return self.low, self.high
        swapped = self.search is Search.AS_SHIPPED
        whole = l2_error(self.counts, self.low, self.high, 0, BINS - 1)
        first, last = search_clip(self.counts, self.low, self.high, whole, swapped)
        width = self.high / np.float32(BINS) - self.low / np.float32(BINS)
        stop = np.float32(last + 1)
        return (
            np.float32(self.low + width * np.float32(first)),
            np.float32(stop * (self.low / stop + width)),
        )


def _regrid(counts: NDArray[np.float32], old: Range, new: Range) -> NDArray[np.float32]:
    """Move counts to wider bins: each bin in 16 pieces, each piece to the bin of its midpoint.

    Args: counts [2048] float32 over the range `old`; new: the wider range. Returns: [2048] float32.
    """
    pieces = np.repeat(counts, UPSAMPLE) / np.float32(UPSAMPLE)
    width = (old[1] - old[0]) / np.float32(BINS * UPSAMPLE)
    middle = linspace(old[0], old[1], BINS * UPSAMPLE + 1)[:-1] + np.float32(0.5) * width
    bins = np.searchsorted(linspace(new[0], new[1], BINS + 1), middle, side="right") - 1
    moved = np.zeros(BINS, np.float32)
    np.add.at(moved, np.clip(bins, 0, BINS - 1), pieces)  # float32, one after the other
    return moved
