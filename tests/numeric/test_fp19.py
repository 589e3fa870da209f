"""FP19: what the hardware keeps of a float32 scale."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.numeric import round_fp19, truncate_fp19

WORKED = [  # bits of a scale, bits that remain (integer_semantics B.1, math.md 14)
    (0x3C4985F0, 0x3C498000),
    (0xBC4985F0, 0xBC498000),
    (0x3F800000, 0x3F800000),
    (0x39818388, 0x39818000),
    (0x391B6AA3, 0x391B6000),
]


def floats(*bits: int) -> np.ndarray:
    return np.array(bits, np.uint32).view(np.float32)


@pytest.mark.parametrize(("scale", "kept"), WORKED)
def test_truncation_reproduces_the_worked_words(scale: int, kept: int) -> None:
    assert truncate_fp19(floats(scale)).view(np.uint32).tolist() == [kept]


def test_truncation_of_0_0123_is_the_documented_value() -> None:
    assert np.float32(0.012298584) == truncate_fp19(np.array([0.0123], np.float32))[0]


def test_rounding_takes_the_even_neighbour_on_a_tie() -> None:
    below, tie_even, tie_odd, above = 0x3F800FFF, 0x3F801000, 0x3F803000, 0x3F801001
    found = round_fp19(floats(below, tie_even, tie_odd, above)).view(np.uint32).tolist()
    assert found == [0x3F800000, 0x3F800000, 0x3F804000, 0x3F802000]


def test_rounding_flushes_subnormals_to_a_zero_of_the_same_sign() -> None:
    found = round_fp19(floats(1, 0x007FFFFF, 0x807FFFFF, 0x00800000)).view(np.uint32).tolist()
    assert found == [0, 0, 0x80000000, 0x00800000]


def test_rounding_overflows_to_infinity_and_keeps_nan_and_infinity() -> None:
    found = round_fp19(floats(0x7F7FFFFF, 0xFF800000, 0x7F800001))
    assert found[0] == np.inf
    assert found[1] == -np.inf
    assert np.isnan(found[2])


def test_truncation_turns_a_nan_without_high_payload_into_infinity() -> None:
    assert truncate_fp19(floats(0x7F800001))[0] == np.inf


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.floats(width=32, min_value=2.0**-126, max_value=2.0**126))
def test_rounding_is_nearest_among_eleven_significant_bits(value: float) -> None:
    exact = Fraction(value)
    unit = Fraction(2) ** (int(np.frexp(value)[1]) - 11)
    nearest = round(exact / unit) * unit  # Fraction rounds half to even
    assert Fraction(float(round_fp19(np.array([value], np.float32))[0])) == nearest
    toward_zero = exact // unit * unit
    assert Fraction(float(truncate_fp19(np.array([value], np.float32))[0])) == toward_zero


def test_shapes_and_strides_are_kept() -> None:
    x = np.linspace(0.1, 9, 30, dtype=np.float32).reshape(5, 6)
    for rule in (truncate_fp19, round_fp19):
        assert rule(np.array(0.0123, np.float32)).shape == ()
        assert rule(np.empty(0, np.float32)).shape == (0,)
        assert np.array_equal(rule(x.T[::2].copy()), rule(x)[:, ::2].T)
