"""act_method 2: the histogram observer of the Calibrator API (V0), with its exact clip search.

2048 bins over the observed range; a batch that widens the range is merged through a 128 times finer
histogram; the clip minimizes the expected squared error of 256 levels (math.md 2.2).
The counted range is truncated to integers while the bin width is not: a defect of the producer
(math.md 15, D-12) that the scales in its files carry, so it is reproduced.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, round_ceil, round_half_even
from slimspec.quantize.affine import require_finite

from .histc import histc
from .histogram_search import search_clip

BINS = 2048
UPSAMPLE = 128
MAX_DOWNSAMPLE = 1 << 16  # a merge needs 2048·downsample floats; the producer has no such limit
Range = tuple[np.float32, np.float32]


class HistogramObserver:
    """Histogram of all batches and the clip that suits it best.

    Source: math.md 2.2 (bit-exact against the producer's compiled module).
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.float32] = np.zeros(BINS, np.float32)
        self.low = np.float32(np.inf)
        self.high = np.float32(-np.inf)

    @property
    def empty(self) -> bool:
        """True before the first batch."""
        return bool(self.low > self.high)

    def update(self, x: NDArray) -> None:
        """Add one batch.

        Args: x float32/float16/bfloat16, any shape. Raises: ValueError for an empty batch, NaN or
        Inf (with its index), or a range so much wider than the first that no histogram holds both.
        """
        if not x.size:
            raise ValueError(f"activation {x.shape}: expected at least one value")
        values = (x if x.dtype == np.float32 else as_float32(x)).reshape(-1)
        low, high = values.min(), values.max()
        if not np.isfinite(low) or not np.isfinite(high):  # where NaN and Inf show
            require_finite(x, "activation")
        if self.empty or self.low == self.high:  # a constant so far carries no histogram
            self.low, self.high = low, high
            self.counts = histc(values, BINS, int(low), int(high))
            return
        self._merge(values, min(self.low, low), max(self.high, high))

    def _merge(self, values: NDArray[np.float32], low: np.float32, high: np.float32) -> None:
        fine_width = (self.high - self.low) / np.float32(BINS * UPSAMPLE)
        bin_width = fine_width * np.float32(BINS)
        ratio = float(round_ceil(np.asarray((high - low) / bin_width)))
        if not ratio <= MAX_DOWNSAMPLE:
            raise ValueError(
                f"range [{low}, {high}] is {ratio:g} times finer than the histogram of "
                f"[{self.low}, {self.high}] allows: expected at most {MAX_DOWNSAMPLE * UPSAMPLE}"
            )
        downsample = int(ratio)
        high = high + (bin_width * np.float32(downsample) - (high - low))
        start = int(round_half_even(np.asarray((self.low - low) / fine_width)))
        counts = histc(values, BINS, int(low), int(high))
        if low == self.low and high == self.high:
            self.counts = self.counts + counts
        else:
            self.counts = counts + _regrid(self.counts, downsample, start)
        self.low, self.high = low, high

    def range(self) -> tuple[NDArray, NDArray]:
        """Return the clip (min, max), 0-d float32: mn + bw·first, mn + bw·(last + 1).

        Raises: ValueError before the first batch.
        """
        if self.empty:
            raise ValueError("no batch was observed: expected at least one")
        first, last = search_clip(self.counts, self.low, self.high, np.inf)
        width = (self.high - self.low) / np.float32(BINS)
        return (
            np.asarray(self.low + width * np.float32(first)),
            np.asarray(self.low + width * np.float32(last + 1)),
        )


def _regrid(counts: NDArray[np.float32], downsample: int, start: int) -> NDArray[np.float32]:
    """Spread old counts over new, wider bins: each old bin is cut into 128 equal pieces.

    With the pieces laid out from position `start` of 2048·downsample, the new bin j takes the
    difference of the cumulative sums at (j + 1)·downsample and j·downsample, over 128. The lower
    one was stored as float32, the upper one is double.
    Args: counts [2048] float32. Returns: [2048] float32.
    """
    fine = np.zeros(BINS * downsample, np.float32)
    fine[start : start + BINS * UPSAMPLE] = np.repeat(counts, UPSAMPLE)
    upper = np.cumsum(fine, dtype=np.float64)[downsample - 1 :: downsample]
    lower = np.zeros(BINS, np.float64)
    lower[1:] = upper[:-1].astype(np.float32)
    return ((upper - lower) / UPSAMPLE).astype(np.float32)
