"""x^y against exact powers, and the fused multiply-add against fractions."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.numeric.power import fused, power

FINITE = st.floats(-(2.0**40), 2.0**40, width=32)


def _nearest(value: Fraction) -> float:
    """Round a fraction to float32, ties to even, by comparing with the neighbours."""
    guess = np.float32(value.numerator / value.denominator)
    around = [np.nextafter(guess, np.float32(d)) for d in (-np.inf, np.inf)] + [guess]
    ranked = sorted(around, key=lambda f: (abs(Fraction(float(f)) - value), int(f.view("u4")) & 1))
    return float(ranked[0])


@settings(derandomize=True, deadline=None, max_examples=300)
@given(FINITE, FINITE, FINITE)
def test_fused_rounds_the_exact_value_once(a: float, b: float, c: float) -> None:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    found = fused(np.float32([a]), np.float32([b]), np.float32([c]))[0]
    if exact == 0:
        assert found == 0
    elif 2.0**-120 < abs(exact) < 2.0**120:
        assert float(found) == _nearest(exact)


def test_fused_sees_what_double_rounding_would_lose() -> None:
    # 1 + 2^-24 is a tie in float32; the third term decides it, 2^-80 away.
    a, b = np.float32([2.0**-40]), np.float32([2.0**-40])
    tie = np.float32([1 + 2.0**-23])
    assert fused(a, b, tie)[0] == tie[0]
    half = np.float32([2.0**-12])
    assert fused(half, half, np.float32([1]))[0] == 1
    nudged = np.float32([np.float32(2.0**-12) * (1 + np.float32(2.0**-23))])
    assert fused(nudged, half, np.float32([1]))[0] == np.float32(1 + 2.0**-23)


@pytest.mark.parametrize("y", [0.05, 0.1, 0.3, 0.7, 0.9, 0.95, -0.3, -0.65, 2.5])
def test_power_is_within_one_digit_of_the_exact_one(y: float) -> None:
    x = np.exp(np.random.default_rng(0).uniform(-30, 30, 4096 + 5)).astype(np.float32)
    exact = np.power(x.astype(np.float64), np.float64(np.float32(y)))
    found = power(x, y).astype(np.float64)
    # SLEEF's bound is 1.0 of the last digit; the tail's exponent is not rounded: y·2^-24·ln x more.
    digit = np.spacing(exact.astype(np.float32)).astype(np.float64)
    assert (np.abs(found - exact) <= digit + exact * abs(y) * 2.0**-24 * 30).all()
    assert np.mean(np.abs(found - exact) <= 0.5 * digit) > 0.9


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_special_exponents_and_edges(dtype: type) -> None:
    x = np.array([0, 1, 4, np.inf, np.nan, -1], dtype)
    with np.errstate(all="ignore"):
        found = {y: power(x, y).astype(np.float64) for y in (0, 1, 0.5, -0.5, -1, 0.3, -0.3)}
    assert (found[0] == 1).all()
    np.testing.assert_array_equal(found[1], x.astype(np.float64))
    np.testing.assert_array_equal(found[0.5][:4], [0, 1, 2, np.inf])
    np.testing.assert_array_equal(found[-0.5][:4], [np.inf, 1, 0.5, 0])
    np.testing.assert_array_equal(found[-1][:4], [np.inf, 1, 0.25, 0])
    np.testing.assert_array_equal(found[0.3][[0, 1, 3]], [0, 1, np.inf])
    np.testing.assert_array_equal(found[-0.3][[0, 1, 3]], [np.inf, 1, 0])
    assert np.isnan([found[y][i] for y in (0.5, 0.3, -0.3) for i in (4, 5)]).all()
    assert power(x, 0.3).dtype == np.dtype(dtype)


def test_exponent_is_rounded_to_a_16_bit_dtype_first() -> None:
    x = np.full(64, 1000, ml_dtypes.bfloat16)
    assert (power(x, 0.9) == power(x, 0.8984375)).all()
    assert (power(x.astype(np.float32), 0.9) != power(x.astype(np.float32), 0.8984375)).all()


def test_shape_and_emptiness_are_kept() -> None:
    assert power(np.ones((2, 0, 3), np.float32), 0.7).shape == (2, 0, 3)
    assert power(np.ones((5, 13), np.float32), 0.7).shape == (5, 13)
    with pytest.raises(TypeError):
        power(np.ones(2), 0.7)
