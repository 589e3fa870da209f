"""Recall windows, per-head scales, attention outlier scores."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.observe.fa_amp import histogram, outlier_score
from slimspec.observe.per_head import PerHeadObserver, per_head_qparams
from slimspec.observe.recall_window import RecallWindowObserver, recall_window

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]


def _shortest(row: list[float], count: int) -> tuple[float, float]:
    """Try every pair of samples as the ends."""
    best = (float("inf"), 0.0, 0.0)
    for lo in sorted(set(row)):
        for hi in sorted(set(row)):
            if lo <= hi and sum(lo <= v <= hi for v in row) >= count:
                best = min(best, (hi - lo, lo, hi))
    return best[1:]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.lists(st.integers(-20, 20), min_size=1, max_size=12), st.sampled_from([0.3, 0.6, 0.99, 1.0])
)
def test_window_is_the_shortest_that_holds_the_share(values: list[int], ratio: float) -> None:
    count = int(ratio * len(values))
    x = np.array([values], np.float32)
    if not count:
        with pytest.raises(ValueError, match="keeps 0"):
            recall_window(x, ratio)
        return
    lo, hi = recall_window(x, ratio)
    assert (float(lo[0, 0]), float(hi[0, 0])) == _shortest([float(v) for v in values], count)


@pytest.mark.parametrize("dtype", DTYPES)
def test_whole_ratio_gives_the_extremes_in_the_dtype_of_the_samples(dtype: type) -> None:
    x = np.random.default_rng(0).standard_normal((3, 17)).astype(dtype)
    lo, hi = recall_window(x)
    assert lo.dtype == hi.dtype == x.dtype
    assert (lo[:, 0] == x.min(axis=1)).all()
    assert (hi[:, 0] == x.max(axis=1)).all()


@pytest.mark.parametrize("ratio", [0.0, -1.0, 1.5])
def test_ratio_outside_zero_to_one_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio"):
        recall_window(np.zeros((1, 4), np.float32), ratio)


def test_observer_joins_windows_by_their_extremes_and_needs_one() -> None:
    observer = RecallWindowObserver()
    with pytest.raises(ValueError, match="no batch"):
        observer.range()
    observer.update(np.float32([[1, 2], [5, 6]]))
    observer.update(np.float32([[0, 1], [7, 7]]))
    lo, hi = observer.range()
    assert (lo.tolist(), hi.tolist()) == ([[0], [5]], [[2], [7]])


def test_heads_get_their_own_scale_and_two_sequences_mix_heads() -> None:
    x = np.zeros((1, 2, 3, 4), np.float32)
    x[0, 0], x[0, 1] = 1.27, -2.54
    observer = PerHeadObserver()
    observer.update(x)
    scale, offset = per_head_qparams(*observer.range())
    assert scale.tolist() == [
        np.float32(1.27) / np.float32(127),
        np.float32(2.54) / np.float32(127),
    ]
    assert offset.tolist() == [0, 0]
    mixed = PerHeadObserver()
    mixed.update(np.concatenate([x, x]))  # row 0 now holds both heads of the first sequence
    assert mixed.range()[0].tolist() == [[np.float32(-2.54)]] * 2


def test_fp8_scale_of_a_head_of_zeros_is_the_smallest_one_not_zero() -> None:
    zero = np.zeros((2, 1), np.float32)
    scale, _ = per_head_qparams(zero, zero, "fp8_e4m3")
    assert (scale == np.float32(1e-12) / np.float32(448)).all()


def test_wrong_rank_and_wrong_type_are_refused() -> None:
    with pytest.raises(ValueError, match="heads"):
        PerHeadObserver().update(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="int8 or fp8"):
        per_head_qparams(np.zeros(1, np.float32), np.zeros(1, np.float32), "int4")  # type: ignore[arg-type]


def test_histogram_counts_every_value_between_its_edges() -> None:
    x = np.random.default_rng(1).standard_normal(777).astype(np.float32)
    counts, edges = histogram(x, 100)
    assert counts.sum() == 777
    assert (edges[0], edges[-1]) == (x.min(), x.max())
    assert counts[3] == ((x >= edges[3]) & (x < edges[4])).sum()


def test_lonely_outlier_lowers_the_score_and_is_counted_beyond_the_edge() -> None:
    x = np.random.default_rng(2).uniform(0, 1, 1999).astype(np.float32)
    score, share = outlier_score(np.append(x, np.float32(50)))
    assert float(score) < 0.1
    assert share == np.float32(1) / np.float32(2000)
    assert outlier_score(x)[1] == 0


def test_score_of_16_bit_values_and_of_nan_is_refused() -> None:
    with pytest.raises(TypeError, match="float32"):
        outlier_score(np.zeros(4, np.float16))
    with pytest.raises(ValueError, match="index"):
        outlier_score(np.float32([0, np.nan]))
