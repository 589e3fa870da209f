"""Ranges over batches: three ways to join them, each against a plain formula."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from slimspec.observe.minmax import (
    batch_extrema,
    float64_mean_of_extrema,
    mean_of_extrema,
    running_extrema,
)

DTYPES = [np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
WAYS = [mean_of_extrema, running_extrema, float64_mean_of_extrema]


def batches(dtype: np.dtype, count: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.standard_normal((1, 3 + i, 7)).astype(dtype) for i in range(count)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", WAYS)
def test_one_batch_gives_its_own_extrema(way, dtype: np.dtype) -> None:  # type: ignore[no-untyped-def]
    (x,) = batches(dtype, 1)
    lo, hi = way([x])
    assert lo.dtype == hi.dtype == dtype
    assert lo.shape == hi.shape == ()
    assert lo == x.min()
    assert hi == x.max()


@pytest.mark.parametrize("dtype", DTYPES)
def test_running_extrema_are_those_of_all_values(dtype: np.dtype) -> None:
    xs = batches(dtype)
    lo, hi = running_extrema(xs)
    everything = np.concatenate([x.ravel() for x in xs])
    assert lo == everything.min()
    assert hi == everything.max()


@pytest.mark.parametrize("dtype", DTYPES)
def test_mean_adds_in_order_in_float32_and_rounds_once(dtype: np.dtype) -> None:
    xs = batches(dtype)
    lo, hi = mean_of_extrema(xs)
    for found, each in ((lo, [x.min() for x in xs]), (hi, [x.max() for x in xs])):
        total = np.float32(0)
        for value in each:
            total = np.float32(total + np.float32(value))
        assert found == np.float32(total / np.float32(len(xs))).astype(dtype)


def test_float64_mean_differs_where_float32_sums_round() -> None:
    xs = [np.float32([0, v]) for v in (1e8, 1, 1, 1, -1e8 + 0)]
    xs[-1] = np.float32([0, 4])
    _, narrow = mean_of_extrema(xs)
    _, wide = float64_mean_of_extrema(xs)
    assert wide == np.float32((1e8 + 1 + 1 + 1 + 4) / 5)
    assert narrow != wide


def test_order_of_batches_does_not_move_running_extrema() -> None:
    xs = batches(DTYPES[0])
    assert running_extrema(xs) == running_extrema(xs[::-1])


def test_extrema_are_kept_per_batch() -> None:
    xs = batches(DTYPES[0])
    lo, hi = batch_extrema(xs)
    np.testing.assert_array_equal(lo, [x.min() for x in xs])
    np.testing.assert_array_equal(hi, [x.max() for x in xs])


@pytest.mark.parametrize("way", WAYS)
def test_no_batch_and_an_empty_batch_are_refused(way) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="no calibration batch"):
        way([])
    with pytest.raises(ValueError, match="a calibration batch is empty"):
        way([np.zeros((1, 0), np.float32)])
