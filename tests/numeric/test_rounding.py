"""Named rounding rules against exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.numeric import rounding as r

DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
TIES = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])


def half_even(x: Fraction) -> int:
    return round(x)


def half_away(x: Fraction) -> int:
    return int(math.copysign(1, x)) * math.floor(abs(x) + Fraction(1, 2))


EXACT = {
    r.round_half_even: half_even,
    r.round_half_away: half_away,
    r.round_floor: math.floor,
    r.round_ceil: math.ceil,
    r.round_trunc: math.trunc,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (r.round_half_even, [-2, -2, 0, 0, 2, 2]),
        (r.round_half_away, [-3, -2, -1, 1, 2, 3]),
        (r.round_half_away_by_floor, [-3, -2, -1, 1, 2, 3]),
        (r.round_floor, [-3, -2, -1, 0, 1, 2]),
        (r.round_ceil, [-2, -1, 0, 1, 2, 3]),
        (r.round_trunc, [-2, -1, 0, 0, 1, 2]),
    ],
)
def test_ties_go_where_the_name_says_in_every_dtype(rule, expected, dtype) -> None:  # type: ignore[no-untyped-def]
    rounded = rule(TIES.astype(dtype))
    assert rounded.dtype == dtype
    assert rounded.astype(float).tolist() == expected


@pytest.mark.parametrize("rule", EXACT)
def test_every_fp16_value_is_rounded_exactly(rule) -> None:  # type: ignore[no-untyped-def]
    x = np.arange(65536, dtype=np.uint32).astype(np.uint16).view(np.float16)
    x = x[np.isfinite(x) & (np.abs(x) < 1024)]  # from 1024 on all are integers
    expected = [EXACT[rule](Fraction(float(v))) for v in x]
    assert rule(x).astype(int).tolist() == expected
    assert rule(x.astype(np.float32)).astype(int).tolist() == expected


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_every_rule_is_exact_on_float32(value: float) -> None:
    x = np.array([value], np.float32)
    for rule, exact in EXACT.items():
        assert int(rule(x)[0]) == exact(Fraction(value))


@pytest.mark.parametrize("rule", [*EXACT, r.round_half_away_by_floor])
def test_infinity_and_nan_stay_and_0d_and_strided_arrays_work(rule) -> None:  # type: ignore[no-untyped-def]
    special = rule(np.array([np.inf, -np.inf, np.nan], np.float32))
    assert special[0] == np.inf
    assert special[1] == -np.inf
    assert np.isnan(special[2])
    assert rule(np.array(2.5, np.float32)).shape == ()
    assert rule(np.empty((0, 3), np.float32)).shape == (0, 3)
    x = np.linspace(-3, 3, 24, dtype=np.float32).reshape(4, 6)
    assert np.array_equal(rule(x.T[::2]), rule(np.ascontiguousarray(x.T[::2])))


def test_just_below_a_half_only_the_producers_form_rounds_up() -> None:
    x = np.nextafter(np.array([0.5, -0.5], np.float32), np.float32(0))
    assert r.round_half_away(x).tolist() == [0, 0]
    assert r.round_half_away_by_floor(x).tolist() == [1, -1]


@pytest.mark.parametrize("rule", [*EXACT, r.round_half_away_by_floor])
def test_integers_are_refused_instead_of_promoted(rule) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TypeError, match="int8"):
        rule(np.zeros(2, np.int8))


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.integers(0, 2**31 - 1), st.integers(1, 30))
def test_the_integer_shift_divides_half_even(value: int, drop: int) -> None:
    found = r.shift_right_half_even(np.array([value], np.uint32), drop)
    assert found.dtype == np.uint32
    assert int(found[0]) == half_even(Fraction(value, 2**drop))
