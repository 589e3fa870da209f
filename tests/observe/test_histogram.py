"""The V0 histogram observer: counting, merging, searching; kernels against plain definitions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.numeric.reduction import cascade_sum
from slimspec.observe import histogram_search, kernels
from slimspec.observe.histc import histc, positions
from slimspec.observe.histogram import BINS, HistogramObserver
from slimspec.observe.histogram_error import floor_division, l2_error, next_candidate
from slimspec.observe.histogram_search import search_clip

PROPERTY = settings(derandomize=True, deadline=None, max_examples=30)


def _draw(seed: int, size: int, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_t(3, size) * scale).astype(np.float32)


@PROPERTY
@given(st.integers(0, 999), st.integers(1, 400), st.sampled_from([16, 100, 2048]))
def test_counts_are_of_all_values_in_range_and_of_no_other(seed: int, size: int, bins: int) -> None:
    x = _draw(seed, size)
    lo, hi = np.float32(-1.5), np.float32(2)
    counts = histc(x, bins, lo, hi)
    assert counts.sum() == ((x >= lo) & (x <= hi)).sum()
    assert counts.shape == (bins,)
    assert counts.dtype == np.float32


@PROPERTY
@given(st.integers(-64, 64), st.sampled_from([16, 32, 128]))
def test_dyadic_values_land_in_the_bin_that_exact_arithmetic_gives(value: int, bins: int) -> None:
    x = np.array([value / 32], np.float32)
    expected = min(int((Fraction(value, 32) + 2) * bins / 4), bins - 1)
    assert histc(x, bins, -2.0, 2.0).argmax() == expected


def test_empty_range_means_the_data_and_equal_values_get_one_unit_either_side() -> None:
    assert histc(np.array([0, 1, 2], np.float32), 2, 5.0, 5.0).tolist() == [1, 2]
    assert histc(np.full(3, 7, np.float32), 4, 0.0, 0.0).tolist() == [0, 0, 3, 0]


def test_counting_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        histc(np.zeros(0, np.float32), 4, 0.0, 1.0)


@pytest.mark.parametrize("size", [1, 2047, 2048, 5000])
def test_compiled_count_equals_the_plain_one(size: int) -> None:
    x = np.concatenate([_draw(size, size, 3), np.float32([np.nan, np.inf, -np.inf, 2, -2])])
    lo, hi = np.float32(-2), np.float32(2)
    inside = x[(x >= lo) & (x <= hi)]
    plain = np.bincount(positions(inside, BINS, lo, hi).astype(np.int64), minlength=BINS)
    assert (kernels.count(x, BINS, lo, hi) == plain).all()


@PROPERTY
@given(
    st.floats(-1e3, 1e3, width=32),
    st.floats(np.float32(1e-3), 1e3, width=32),
)
def test_floor_division_of_representable_quotients_is_exact(x: float, y: float) -> None:
    exact = Fraction(x) / Fraction(y)
    found = int(floor_division(np.array([x], np.float32), np.float32(y))[0])
    # Beyond 2^23 a float32 quotient has no fraction left to floor.
    assert abs(found - (exact.numerator // exact.denominator)) <= abs(exact) * 2**-22


@PROPERTY
@given(st.integers(0, 999), st.integers(0, 2000), st.integers(1, 2047), st.sampled_from([0, 40]))
def test_compiled_error_equals_the_plain_one(seed: int, first: int, span: int, tiny: int) -> None:
    counts = np.random.default_rng(seed).integers(0, 50, BINS).astype(np.float32)
    last = min(first + span, BINS - 1)
    low, high = np.float32(-1.25 * 2.0**-tiny), np.float32(3.5 * 2.0**-tiny)
    plain = l2_error(counts, low, high, first, last)
    assert kernels.l2_error(counts, low, high, first, last) == plain


def test_error_of_a_range_that_has_no_width_is_zero_in_both_forms() -> None:
    counts = np.ones(BINS, np.float32)
    one = np.float32(1)
    assert l2_error(counts, one, one, 0, 5) == kernels.l2_error(counts, one, one, 0, 5) == 0.0


def test_compiled_sum_is_the_cascade() -> None:
    x = _draw(0, BINS)
    assert kernels.cascade(x) == cascade_sum(x)


@settings(derandomize=True, deadline=None, max_examples=6)
@given(st.integers(0, 99), st.booleans())
def test_search_gives_the_same_clip_with_and_without_kernels(seed: int, swapped: bool) -> None:
    counts = histc(_draw(seed, 3000), BINS, -4.0, 4.0)
    low, high = np.float32(-4), np.float32(4)
    routines = histogram_search._routines
    found = search_clip(counts, low, high, np.inf, swapped)
    try:
        histogram_search._routines = lambda: (l2_error, next_candidate)
        assert search_clip(counts, low, high, np.inf, swapped) == found
    finally:
        histogram_search._routines = routines


def test_search_cuts_a_far_outlier_and_keeps_a_flat_histogram_nearly_whole() -> None:
    counts = np.zeros(BINS, np.float32)
    counts[:64], counts[-1] = 1000, 1
    first, last = search_clip(counts, np.float32(0), np.float32(100), np.inf)
    assert (first, last < BINS - 1) == (0, True)
    first, last = search_clip(np.ones(BINS, np.float32), np.float32(0), np.float32(1), np.inf)
    assert last - first > 0.9 * BINS


def test_observer_clip_stays_within_the_observed_range() -> None:
    observer = HistogramObserver()
    batches = [_draw(seed, 500, 1 + seed) for seed in range(4)]
    for batch in batches:
        observer.update(batch)
    low, high = observer.range()
    # A merge widens the range to whole multiples of the old bins: by less than one old range.
    assert low >= min(b.min() for b in batches)
    assert high <= max(b.max() for b in batches) + np.ptp(batches[0])
    assert low.dtype == high.dtype == np.float32


def test_merge_keeps_the_number_of_values_inside_the_integer_range() -> None:
    observer = HistogramObserver()
    observer.update(np.float32([-2, -1, 0, 1, 2]))
    observer.update(np.float32([-4, 4]))
    # float32 rounding of the shares: 5 values cut into pieces of 1/128, summed in double.
    assert abs(float(observer.counts.sum()) - 7) < 1e-3


def test_constant_batches_replace_each_other_until_values_differ() -> None:
    observer = HistogramObserver()
    for value in (-1.5, 2.25):
        observer.update(np.full((2, 3), value, np.float32))
    assert [float(end) for end in observer.range()] == [2.25, 2.25]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_value_that_is_not_finite_is_refused_with_its_index(bad: float) -> None:
    x = np.zeros((2, 3), np.float32)
    x[1, 2] = bad
    with pytest.raises(ValueError, match=r"\(1, 2\)"):
        HistogramObserver().update(x)


def test_empty_batch_missing_batch_and_absurd_widening_are_refused() -> None:
    with pytest.raises(ValueError, match="no batch"):
        HistogramObserver().range()
    with pytest.raises(ValueError, match="at least one value"):
        HistogramObserver().update(np.zeros((0, 4), np.float32))
    observer = HistogramObserver()
    observer.update(np.float32([0, 1e-6]))
    with pytest.raises(ValueError, match="expected at most"):
        observer.update(np.float32([0, 1e6]))


def test_layout_of_the_batch_does_not_matter() -> None:
    x = _draw(3, 600).reshape(20, 30)
    straight, turned = HistogramObserver(), HistogramObserver()
    straight.update(x)
    turned.update(np.asfortranarray(x)[::-1])
    assert straight.range() == turned.range()


@pytest.mark.parametrize("size", [2, 1 << 14])
def test_a_range_too_wide_to_count_in_float32_is_refused(size: int) -> None:
    x = np.full(size, 1e38, np.float32)
    x[0] = -1e38
    with pytest.raises(ValueError, match=r"-1e\+38 to 1e\+38: no 2048 bins"):
        histc(x, BINS, x.min(), x.max())
    assert histc(x, 1, x.min(), x.max()).tolist() == [size]


@pytest.mark.parametrize("x", [[-3e38, 3e38], [3e38, 3e38], [2.0**25] * 3])
def test_batches_that_torch_cannot_count_are_refused(x: list[float]) -> None:
    with pytest.raises(ValueError, match="no 2048 bins"):
        HistogramObserver().update(np.float32(x))
