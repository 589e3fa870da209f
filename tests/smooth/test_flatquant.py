"""FlatQuant's quantizers."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from slimspec.smooth.flatquant import (
    flat_codes,
    flat_values,
    sigmoid,
    token_params,
    weight_params,
)

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("symmetric", [True, False])
def test_tokens_come_back_within_half_a_step(dtype: type, symmetric: bool) -> None:
    x = np.random.default_rng(0).standard_normal((6, 40)).astype(dtype)
    scale, zero = token_params(x, symmetric=symmetric)
    q = flat_codes(x, scale, zero)
    assert q.dtype == scale.dtype == np.dtype(dtype)
    assert q.astype(np.float64).min() >= -8
    assert q.astype(np.float64).max() <= 7
    error = np.abs(flat_values(q, scale, zero).astype(np.float64) - x.astype(np.float64))
    # Half a step; the zero point rounds apart from x/s (half a step more at the ends, asymmetric);
    # roundings of up to 15 steps in the dtype.
    half = 0.5 if symmetric else 1.0
    eps = float(ml_dtypes.finfo(dtype).eps)
    assert (error <= scale.astype(np.float64) * (half + 3 * 15 * eps)).all()


def test_rounding_comes_before_the_zero_point() -> None:
    x, scale, zero = np.float32([0.5]), np.float32([1]), np.float32([1])
    assert flat_codes(x, scale, zero).tolist() == [1.0]  # rint(0.5) + 1, not rint(1.5) = 2


def test_unsigned_codes_start_at_zero() -> None:
    x = np.float32([[-1, 0, 3]])
    scale, zero = token_params(x, symmetric=False, signed=False)
    q = flat_codes(x, scale, zero, signed=False)
    assert q.min() >= 0
    assert q.max() <= 15
    assert q[0, 1] == zero[0, 0]


def test_clip_ratio_shrinks_the_range() -> None:
    x = np.float32([[-1, 7]])
    assert token_params(x, clip_ratio=0.5)[0].tolist() == [[0.5]]
    assert abs(sigmoid(4.0) - 0.9820138) < 1e-7


def test_weight_rows_of_zeros_have_a_scale_and_tokens_of_zeros_have_not() -> None:
    zeros = np.zeros((2, 4), np.float32)
    scale, zero = weight_params(zeros)
    assert (scale == np.float32(1e-5) / np.float32(7)).all()
    assert (flat_codes(zeros, scale, zero) == 0).all()
    scale, zero = token_params(zeros)
    assert (scale == 0).all()
    assert np.isnan(flat_codes(zeros, scale, zero)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_weight_scale_is_float32_in_every_dtype(dtype: type) -> None:
    w = np.random.default_rng(1).standard_normal((3, 8)).astype(dtype)
    for symmetric in (True, False):
        scale, zero = weight_params(w, symmetric=symmetric)
        assert scale.dtype == zero.dtype == np.float32
        assert scale.shape == zero.shape == (3, 1)
