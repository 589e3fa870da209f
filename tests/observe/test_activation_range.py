"""act_method, use_sigma, sigma_factor and the sensitivity that method 3 decides by."""

from __future__ import annotations

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from slimspec.observe import activation_range, choose_method, range_parm, token_range
from slimspec.observe.histogram import HistogramObserver
from slimspec.observe.sigma import clip_to_sigma, sigma_bound

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]


def _batches(dtype: type = np.float32) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((2, 6, 32)).astype(dtype) for _ in range(3)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_method_1_averages_the_extremes_of_the_batches(dtype: type) -> None:
    low, high = activation_range(_batches(dtype), act_method=1)
    assert low.dtype == high.dtype == np.dtype(dtype)
    exact = np.mean([float(x.min()) for x in _batches(dtype)])
    # Three float32 additions, a division and one rounding to the dtype.
    assert abs(float(low) - exact) <= abs(exact) * (
        4 * 2.0**-24 + float(ml_dtypes.finfo(dtype).eps)
    )


def test_method_2_is_the_histogram_observer() -> None:
    observer = HistogramObserver()
    for x in _batches():
        observer.update(x)
    assert activation_range(_batches(), act_method=2) == observer.range()


def test_method_3_takes_the_histogram_up_to_50_standard_deviations() -> None:
    # One value of channel 0 is P: that shift moves the channel's other 3 values to -P, so the
    # deviation is about P·sqrt(3/4k) and range_parm sqrt(4k/3): 74 for 4096 channels, 26 for 512.
    def with_outlier(channels: int) -> list[np.ndarray]:
        x = np.random.default_rng(0).standard_normal((4, channels)).astype(np.float32)
        x[0, 0] = 1000
        return [x]

    assert 70 < range_parm(with_outlier(4096)) < 78
    assert choose_method(with_outlier(4096), 3) == 1
    assert 24 < range_parm(with_outlier(512)) < 28
    assert choose_method(with_outlier(512), 3) == 2
    assert activation_range(with_outlier(4096), act_method=3)[1] == 1000


def test_range_parm_is_the_peak_over_the_largest_shifted_deviation() -> None:
    x = np.float32([[1, 10], [3, 20]])
    shifted = np.float64([[1 - 4, 10 - 30], [3 - 4, 20 - 30]])
    assert range_parm([x]) == np.float32(20) / np.float32(shifted.std(ddof=1))


def test_range_parm_looks_at_five_batches_only() -> None:
    batches = [np.float32([[1, 2], [3, 4]])] * 5
    assert range_parm([*batches, np.float32([[1e6, 0], [0, 0]])]) == range_parm(batches)


def test_sigma_clips_outliers_symmetrically() -> None:
    x = np.append(np.random.default_rng(1).standard_normal(999), 40).astype(np.float32)
    low, high = activation_range([x], act_method=1, use_sigma=True, sigma_factor=3.0)
    bound = 3 * np.abs(x.astype(np.float64)).std(ddof=1)
    # The bound is float32: two roundings of 2^-24.
    assert abs(float(high) - bound) <= bound * 2.0**-22
    assert float(low) >= -bound * (1 + 2.0**-22)


@pytest.mark.parametrize("dtype", DTYPES)
def test_clip_to_sigma_keeps_dtype_and_small_values(dtype: type) -> None:
    x = np.random.default_rng(2).uniform(-1, 1, (4, 50)).astype(dtype)
    assert (clip_to_sigma(x, 4.0) == x.reshape(-1)).sum() > 150
    assert clip_to_sigma(x).dtype == x.dtype


@pytest.mark.parametrize("factor", [2.9, 4.1, np.nan])
def test_sigma_factor_outside_3_to_4_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="sigma_factor"):
        activation_range(_batches(), use_sigma=True, sigma_factor=factor)


def test_sigma_of_one_value_is_refused() -> None:
    with pytest.raises(ValueError, match="2 or more"):
        sigma_bound(np.float32([[1]]))


@pytest.mark.parametrize("method", [0, 4, -1])
def test_unknown_method_is_refused(method: int) -> None:
    with pytest.raises(ValueError, match="act_method"):
        activation_range(_batches(), act_method=method)


@pytest.mark.parametrize("method", [1, 2, 3])
def test_no_batch_is_refused(method: int) -> None:
    with pytest.raises(ValueError, match="batch"):
        activation_range([], act_method=method)


def test_token_range_is_per_last_axis() -> None:
    low, high = token_range(np.float32([[1, -2], [3, 4]]))
    assert (low.tolist(), high.tolist()) == ([[-2], [3]], [[1], [4]])


def test_importing_observers_does_not_import_numba() -> None:
    code = "import sys, slimspec.observe; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
