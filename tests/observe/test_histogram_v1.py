"""The V1 histogram observer: as shipped a min-max, fixed a real search."""

from __future__ import annotations

import numpy as np
import pytest

from slimspec.observe.histogram import BINS
from slimspec.observe.histogram_v1 import HistogramObserverV1, Search
from slimspec.observe.linspace import linspace


def _batch(seed: int, size: int = 4000) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def test_shipped_search_keeps_the_whole_batch_and_the_fixed_one_cuts_outliers() -> None:
    x = _batch(0)
    x[7] = 300
    shipped, fixed = HistogramObserverV1(), HistogramObserverV1(Search.FIXED)
    shipped.update(x)
    fixed.update(x)
    assert [float(end) for end in shipped.range()] == [x.min(), x.max()]
    assert float(fixed.range()[1]) < 300
    assert np.isin(np.asarray(fixed.range()), x).all()  # ends are values of the batch


def test_counts_of_two_batches_add_up() -> None:
    observer = HistogramObserverV1()
    observer.update(_batch(0))
    observer.update(_batch(1) * np.float32(3))
    # Pieces of 1/16 are exact in float32 below 2^20 values.
    assert observer.counts.sum() == 8000
    assert observer.counts.shape == (BINS,)


def test_nan_and_inf_are_left_out_but_not_everything_may_be() -> None:
    x = np.concatenate([_batch(2), np.float32([np.nan, np.inf, -np.inf])])
    dirty, clean = HistogramObserverV1(), HistogramObserverV1()
    dirty.update(x)
    clean.update(x[:-3])
    assert dirty.range() == clean.range()
    with pytest.raises(ValueError, match="finite"):
        clean.update(np.float32([np.nan, np.inf]))


def test_constant_batch_sets_the_clip_in_its_own_dtype_and_is_not_counted() -> None:
    observer = HistogramObserverV1()
    observer.update(np.full(8, 1.5, np.float16))
    assert [end.dtype for end in observer.range()] == [np.float16, np.float16]
    assert observer.counts.sum() == 0


def test_range_before_any_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="no batch"):
        HistogramObserverV1().range()


@pytest.mark.parametrize("steps", [2, 3, 100, 2049])
def test_linspace_hits_its_ends_and_is_close_to_exact(steps: int) -> None:
    low, high = np.float32(-0.3), np.float32(1.7)
    x = linspace(low, high, steps)
    assert (x[0], x[-1]) == (low, high)
    exact = np.linspace(float(low), float(high), steps)
    # The step is rounded once (2^-24 relative, times at most steps/2), then the sum once.
    assert np.abs(x - exact).max() <= 2 * 2.0**-24 * 2 + 2.0**-24 * 2
