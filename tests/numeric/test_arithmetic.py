"""Arithmetic in the model dtype: one float32 operation, one rounding."""

from __future__ import annotations

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.numeric import arithmetic as a

BF16 = ml_dtypes.bfloat16
DTYPES = [np.float32, np.float16, BF16]
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def values(dtype: type, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=count) * 2.0 ** rng.integers(-8, 8, count)).astype(dtype)


@each_dtype
@pytest.mark.parametrize("size", [1000, 70_000])  # plain and compiled casts
def test_operations_equal_float32_operations_rounded_by_the_library(dtype, size) -> None:  # type: ignore[no-untyped-def]
    x, y = values(dtype, size, 1), values(dtype, size, 2)
    wide_x, wide_y = x.astype(np.float32), y.astype(np.float32)
    with np.errstate(over="ignore"):
        expected = {
            a.add: (wide_x + wide_y).astype(dtype),
            a.sub: (wide_x - wide_y).astype(dtype),
            a.mul: (wide_x * wide_y).astype(dtype),
            a.div: (wide_x / wide_y).astype(dtype),
        }
    for op, result in expected.items():
        found = op(x, y, dtype)
        assert found.dtype == dtype
        assert found.tobytes() == result.tobytes()


@pytest.mark.parametrize("dtype", [np.float16, BF16])
def test_sums_and_products_round_once_from_the_exact_result(dtype) -> None:  # type: ignore[no-untyped-def]
    # products of 11-bit significands fit 24 bits, so float32 is exact and only the cast rounds
    x, y = values(dtype, 500, 3), values(dtype, 500, 4)
    for u, v, found in zip(x, y, a.mul(x, y, dtype), strict=True):
        exact = Fraction(float(u)) * Fraction(float(v))
        assert np.array(float(exact)).astype(dtype) == found


def test_the_worked_bfloat16_quotient_reaches_minus_128() -> None:
    x, scale = np.array(-2.828125, BF16), np.array(0.022216796875, BF16)
    assert a.div(x, scale, BF16) == -127.5
    assert a.div(np.array(2.828125, BF16), 127, BF16) == scale


def test_a_python_number_is_rounded_first_in_sums_only() -> None:
    # 2^-20-sized sums in bfloat16: float32 9.6e-7 would give 9.909e-07
    small = np.array([2.47732e-07], BF16)
    moved = a.add(a.div(small, 7.25, BF16), 9.6e-7, BF16)
    assert float(moved[0]) == pytest.approx(9.98378e-07, rel=1e-5)
    assert a.mul(np.array([3.0], BF16), 1 / 3, BF16) == np.array(1.0, BF16)


@each_dtype
def test_results_overflow_to_infinity_without_a_warning(dtype) -> None:  # type: ignore[no-untyped-def]
    big = np.array([np.finfo(np.float16).max if dtype == np.float16 else 3e38], dtype)
    assert np.isposinf(a.mul(big, big, dtype).astype(np.float32)).all()
    assert np.isnan(a.div(big * dtype(0), 0, dtype).astype(np.float32)).all()


@pytest.mark.parametrize("wrong", [np.zeros(2), np.zeros(2, np.int32), np.zeros(2, np.uint64)])
def test_operands_that_float32_cannot_hold_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(TypeError, match=str(wrong.dtype)):
        a.add(wrong, wrong, np.float32)
    with pytest.raises(TypeError):
        a.to_dtype(np.zeros(2, np.float32), np.float64)


def test_narrow_integers_widen_exactly() -> None:
    q = np.arange(-128, 128, dtype=np.int16).astype(np.int8)
    assert np.array_equal(a.as_float32(q), q.astype(np.float32))


@each_dtype
def test_small_and_large_arrays_are_rounded_alike(dtype) -> None:  # type: ignore[no-untyped-def]
    x = np.random.default_rng(5).integers(0, 2**32, 80_000, dtype=np.uint32).view(np.float32)
    parts = [a.to_dtype(part, dtype) for part in np.array_split(x, 10)]
    whole = a.to_dtype(x, dtype)
    assert whole.tobytes() == np.concatenate(parts).tobytes()
    widened = np.concatenate([a.as_float32(part) for part in parts])
    assert a.as_float32(whole).tobytes() == widened.tobytes()


def test_exp2_is_exact_for_every_exponent_of_float32() -> None:
    e = np.arange(-149, 128)
    expected = [math.ldexp(1.0, int(k)) for k in e]
    assert a.exp2(e.astype(np.float32), np.float32).tolist() == expected
    special = a.exp2(np.array([-150, 128, -np.inf, np.nan], np.float32), np.float32)
    assert special[:3].tolist() == [0, np.inf, 0]
    assert np.isnan(special[3])
    assert a.exp2(np.array([-24, -25, 15, 16], np.float16), np.float16).tolist() == [
        2.0**-24,
        0,
        2.0**15,
        np.inf,
    ]
    with pytest.raises(ValueError, match="integral"):
        a.exp2(np.array([0.5], np.float32), np.float32)


def test_log2_is_exact_on_powers_of_two_and_infinite_at_zero() -> None:
    e = np.arange(-149, 128)
    x = np.ldexp(np.float32(1), e)
    assert a.log2(x, np.float32).tolist() == e.tolist()
    assert a.log2(np.zeros(1, np.float32), np.float32)[0] == -np.inf


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.floats(width=32, min_value=2.0**-149, allow_infinity=False))
def test_log2_is_the_nearest_float32(value: float) -> None:
    # math.log2 errs by at most 1e-15 relatively; a float32 step is 6e-8, so the nearest is certain
    # unless the logarithm lies that close to a midpoint, where both neighbours are allowed
    found = float(a.log2(np.array([value], np.float32), np.float32)[0])
    exact = math.log2(value)
    step = abs(float(np.spacing(np.float32(exact))))
    assert abs(found - exact) <= step / 2 * (1 + 1e-6)


def test_log2_just_below_a_power_is_rounded_up_to_the_power() -> None:
    below = np.nextafter(np.float32(256), np.float32(0)).reshape(1)
    assert a.log2(below, np.float32)[0] == 8
    assert a.log2(np.array([127.5], BF16), BF16)[0] == 7
