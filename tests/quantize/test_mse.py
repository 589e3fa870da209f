"""The MSE grid against min-max and against its own candidates."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from slimspec.quantize.minmax import quantize_minmax
from slimspec.quantize.mse import quantize_mse, squared_error


def _weight() -> np.ndarray:
    return np.random.default_rng(0).standard_t(3, (6, 80)).astype(np.float32)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_no_row_is_worse_than_min_max_and_heavy_tails_gain_at_4_bits(
    bits: int, symmetric: bool
) -> None:
    w = _weight()
    start = quantize_minmax(w, bits=bits, symmetric=symmetric, variant="v1")
    made = quantize_mse(w, bits=bits, symmetric=symmetric)
    before = squared_error(w, start.scale, start.offset, bits)
    after = squared_error(w, made.scale, made.offset, bits)
    assert (after <= before).all()
    if bits == 4:
        assert after.mean() < (0.8 if symmetric else 0.98) * before.mean()


def test_each_row_has_the_best_scale_of_the_grid() -> None:
    w = _weight()
    made = quantize_mse(w, bits=4, points=20)
    errors = []
    for i in range(16):
        share = np.float32(1 - i / 20)
        scale = np.abs(w).max(axis=1, keepdims=True) * share / np.float32(7)
        errors.append(squared_error(w, scale, np.zeros_like(scale), 4))
    best = np.min(errors, axis=0)
    # The grid scales ends before dividing by 7: one rounding apart from the line above.
    assert (squared_error(w, made.scale, made.offset, 4) <= best * (1 + 2.0**-18)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_one_point_is_min_max_in_any_dtype(dtype: type) -> None:
    w = _weight().astype(dtype)
    made, start = quantize_mse(w, points=1), quantize_minmax(w, variant="v1")
    assert (made.q == start.q).all()
    assert (made.scale == start.scale).all()


@pytest.mark.parametrize(("points", "smallest"), [(0, 0.2), (10, 1.0), (10, -0.1)])
def test_grid_without_points_is_refused(points: int, smallest: float) -> None:
    with pytest.raises(ValueError, match="grid"):
        quantize_mse(_weight(), points=points, smallest=smallest)
