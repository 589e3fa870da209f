"""Requantization to int8: the 9-bit intermediate is observable."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.matmul import requantize, trans_quant_param

F32 = np.float32


@pytest.mark.parametrize(
    ("acc", "expected"), [(100, 3), (30000, 127), (-30000, -128), (-4066, -128)]
)
def test_worked_numbers(acc, expected):
    got = requantize(np.int32([acc]), F32([0.0625]), -3)
    assert got.dtype == np.int8
    assert got[0] == expected


def test_the_intermediate_saturates_at_9_bits_before_the_offset():
    big = np.int32([1000, -1000])
    assert requantize(big, F32([1.0]), -200).tolist() == [55, -128]  # 255 - 200
    assert requantize(big, F32([1.0]), 200).tolist() == [127, -56]  # -256 + 200


def test_offset_of_the_word_is_used():
    word = trans_quant_param([0.0625], [-3])
    acc = np.int32([[100], [30000], [-4066]])
    assert requantize(acc, word).tolist() == [[3], [127], [-128]]
    assert requantize(acc, word, 0)[0, 0] == 6


@settings(derandomize=True, deadline=None, max_examples=80)
@given(
    st.integers(-(2**31), 2**31 - 1),
    st.floats(2.0**-24, 4.0, width=32),
    st.floats(-300, 300, width=32),
)
def test_equals_exact_arithmetic(exact, acc, scale, offset):
    y = exact.float32(exact.float32(Fraction(acc)) * Fraction(scale))
    nine = min(max(round(y), -256), 255) + min(max(round(Fraction(offset)), -256), 255)
    assert requantize(np.int32([acc]), F32([scale]), offset)[0] == min(max(nine, -128), 127)


def test_bias_wraps_and_empty_is_empty():
    assert requantize(np.int32([2**31 - 1]), F32([1.0]), 0, np.int32([2]))[0] == -128
    assert requantize(np.zeros((0, 2), np.int32), F32([1, 1])).shape == (0, 2)
