"""Elementwise steps against their formulas, and the norms."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from slimspec.model import Numerics
from slimspec.model.norm import layer_norm, rms_norm
from slimspec.model.numerics import erf
from slimspec.numeric import to_dtype

BF16 = np.dtype(ml_dtypes.bfloat16)
X = np.linspace(-9, 9, 1001).astype(np.float32)


def nearest(values: list[float]) -> np.ndarray:
    return np.array(values).astype(np.float32)


def test_erf_is_the_nearest_float32_or_its_neighbour() -> None:
    exact = nearest([math.erf(float(v)) for v in X])
    assert (np.abs(erf(X) - exact) <= np.spacing(np.abs(exact))).all()
    assert np.array_equal(erf(np.array([-np.inf, -0.0, np.inf], np.float32)), [-1, 0, 1])
    assert np.isnan(erf(np.array([np.nan], np.float32)))[0]


def test_silu_and_gelu_round_once() -> None:
    """A few float32 operations, then one rounding to bfloat16, which hides them but at ties."""
    for dtype, ulps in ((np.float32, 4), (BF16, 1)):
        n = Numerics(dtype)
        silu = to_dtype(nearest([float(v) / (1 + math.exp(-v)) for v in X]), dtype)
        step = np.abs(
            np.spacing(silu.astype(np.float32)) if dtype == np.float32 else silu * 2.0**-7
        )
        error = np.abs(n.silu(X).astype(np.float64) - silu.astype(np.float64))
        assert (error <= ulps * step.astype(np.float64)).all()
        assert n.silu(X).dtype == n.gelu(X).dtype == dtype
    # gelu cancels for negative x: its error is that of 1 + erf, 2^-24, times |x|/2
    gelu = np.array([float(v) / 2 * (1 + math.erf(float(v) / math.sqrt(2))) for v in X])
    assert (np.abs(Numerics().gelu(X) - gelu) <= np.abs(X) * 2.0**-22).all()


def test_softmax_rows_add_up_to_one_and_masked_places_are_zero() -> None:
    scores = np.random.default_rng(2).standard_normal((4, 9)).astype(np.float32)
    scores[:, 5:] = np.finfo(np.float32).min
    p = Numerics().softmax(scores)
    assert np.allclose(p.sum(axis=1), 1, rtol=0, atol=9 * 2.0**-24)
    assert not p[:, 5:].any()
    assert Numerics(BF16).softmax(to_dtype(scores, BF16)).dtype == BF16


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(TypeError, match="float64"):
        Numerics(np.float64)


def test_the_bias_is_added_before_the_rounding() -> None:
    one, half = np.ones((1, 1), BF16), np.full(1, 2.0**-8, BF16)
    n = Numerics(BF16)
    third = to_dtype(np.full((1, 1), 1 + 2.0**-7, np.float32), BF16)
    # 1.0078125·1.0078125 = 1.01568603515625: rounded before the bias it would lose 2^-14
    y = n.product(third, n.prepared(third), half)
    assert y[0, 0] == to_dtype(np.float32([1.01568603515625 + 2.0**-8]), BF16)[0]
    assert n.product(one, n.prepared(one))[0, 0] == 1


def test_rms_norm_gives_unit_mean_square() -> None:
    x = np.random.default_rng(3).standard_normal((4, 64)).astype(np.float32)
    y = rms_norm(x, np.ones(64, np.float32), 0.0)
    assert np.allclose((y.astype(float) ** 2).mean(axis=1), 1, rtol=2.0**-20)
    assert np.array_equal(rms_norm(x, np.full(64, 2, np.float32), 0.0), 2 * y)


def test_rms_norm_rounds_before_the_weight() -> None:
    x = to_dtype(np.float32([[1, 3]]), BF16)
    weight = to_dtype(np.float32([3, 3]), BF16)
    inner = to_dtype(np.float32([[1, 3]]) * (np.float32(1) / np.sqrt(np.float32(5))), BF16)
    expected = to_dtype(inner.astype(np.float32) * np.float32(3), BF16)
    assert np.array_equal(rms_norm(x, weight, 0.0), expected)


def test_layer_norm_gives_zero_mean_and_unit_variance() -> None:
    x = 5 + np.random.default_rng(4).standard_normal((4, 64)).astype(np.float32)
    y = layer_norm(x, np.ones(64, np.float32), np.zeros(64, np.float32), 0.0).astype(float)
    assert np.abs(y.mean(axis=1)).max() <= 2.0**-18  # the mean is rounded to 5·2^-24
    assert np.allclose(y.var(axis=1), 1, rtol=2.0**-18)


def test_a_row_of_zeros_stays_zero() -> None:
    assert not rms_norm(np.zeros((1, 8), np.float32), np.ones(8, np.float32), 1e-6).any()
