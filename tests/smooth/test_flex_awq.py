"""flex_awq_ssz: its loss against plain float64, and which alpha wins."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from slimspec.quantize.ssz import quantize_ssz
from slimspec.smooth.flex_awq import FlexAwqLoss, search_flex_awq

RNG = np.random.default_rng(11)
X = RNG.standard_normal((24, 32)).astype(np.float32)
X[:, 5] *= 40
W = RNG.standard_normal((16, 32)).astype(np.float32)


def plain(x: np.ndarray, w: np.ndarray, alpha: float, bits: int) -> float:
    """The loss in float64, but for the integers of the weights."""
    x, w = x.astype(np.float64), w.astype(np.float64)
    golden = x @ w.T
    s = np.abs(x).max(axis=0) ** alpha
    step = np.abs(x / s).max(axis=0) / 127  # of each column
    made = quantize_ssz((w * s).astype(np.float32), bits=bits)
    error = np.rint(x / s / step) * step @ (made.q * made.scale.astype(np.float64)).T - golden
    return float(np.sqrt((error**2).mean()) / np.sqrt((golden**2).mean()))


@pytest.mark.parametrize("alpha", [0.0, 0.35, 1.0])
@pytest.mark.parametrize("bits", [4, 8])
def test_loss_is_that_of_the_formula(alpha: float, bits: int) -> None:
    # a code of x may fall to the other side of a half: one step in one of 768 values
    found = FlexAwqLoss(X, W, bits=bits)(alpha)
    assert found == pytest.approx(plain(X, W, alpha, bits), rel=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_outlier_channel_is_scaled_down(dtype: type) -> None:
    loss = FlexAwqLoss(X.astype(dtype), W.astype(dtype))
    alpha = search_flex_awq(loss, 0.25)
    assert 0 < alpha < 1
    assert loss(alpha) < loss(0.0)


def test_last_of_equal_losses_wins_and_no_number_never() -> None:
    values = {0.0: 2.0, 0.25: 1.0, 0.5: 1.0, 0.75: float("nan"), 1.0: 3.0}
    assert search_flex_awq(values.__getitem__, 0.25) == 0.5  # type: ignore[arg-type]
    assert search_flex_awq(lambda alpha: float("nan"), 0.25) == 0.0  # type: ignore[arg-type]


def test_column_of_zeros_has_no_loss_but_at_zero() -> None:
    x = X.copy()
    x[:, 3] = 0
    loss = FlexAwqLoss(x, W)
    assert np.isfinite(loss(0.0))
    assert np.isnan(loss(0.5))
