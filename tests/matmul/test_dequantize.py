"""Dequantization: worked numbers, exact oracle, dtypes, saturation and order of the bias."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.matmul import dequantize, kernel_scale, trans_quant_param
from slimspec.matmul.dequantize import add_float_bias, add_int32_bias, read_scale, scaled

F16, F32, BF16 = np.float16, np.float32, ml_dtypes.bfloat16
SCALE = F32([0.0123])
WORD = trans_quant_param(SCALE)


def bits(array):
    return int(np.ascontiguousarray(array).view(np.uint16).ravel()[0])


@pytest.mark.parametrize(
    ("acc", "scale", "kind", "numerics", "expected"),
    [
        (12345, SCALE, F16, "canonical", 0x58BF),
        (12345, WORD, F16, "canonical", 0x58BF),
        (12345, SCALE, BF16, "canonical", 0x4318),
        (12345, WORD, BF16, "canonical", 0x4318),
        (7, SCALE, F16, "canonical", 0x2D83),
        (7, WORD, F16, "canonical", 0x2D82),  # the truncation to FP19 shows
        (2**31 - 1, SCALE, F16, "canonical", 0x7C00),
        (2**31 - 1, SCALE, F16, "sat", 0x7BFF),
        (2**31 - 1, SCALE, BF16, "canonical", 0x4BCA),
        (2**31 - 1, SCALE, BF16, "sat", 0x4BCA),
        (-(2**31), SCALE, F16, "sat", 0xFBFF),
        (-(2**31), SCALE, F16, "k310p", 0xFC00),
    ],
)
def test_worked_numbers(acc, scale, kind, numerics, expected):
    got = dequantize(np.int32([[acc]]), scale, None, kind, numerics)
    assert got.dtype == kind
    assert bits(got) == expected


def test_worked_float32_products():
    def product(acc, scale):
        return dequantize(np.int32([acc]), scale, out_dtype=F32)[0]

    assert product(12345, SCALE) == F32(151.84349)
    assert product(12345, WORD) == F32(151.82602)
    assert product(2**31 - 1, SCALE) == F32(2.6414048e7)
    assert product(16777217, F32([1.0])) == F32(16777216)  # tie to even in int32 -> float32


def test_seven_is_the_first_accumulator_whose_fp16_shows_the_truncation():
    acc = np.arange(1, 8, dtype=np.int32)[:, None]
    differs = dequantize(acc, SCALE).view(np.uint16) != dequantize(acc, WORD).view(np.uint16)
    assert differs[:, 0].tolist() == [False] * 6 + [True]


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    st.integers(-(2**31), 2**31 - 1),
    st.floats(2.0**-30, 2.0**4, width=32) | st.floats(2.0**-149, 2.0**-120, width=32),
    st.integers(-(2**31), 2**31 - 1),
)
def test_equals_exact_arithmetic(exact, acc, scale, bias):
    total = (acc + bias + 2**31) % 2**32 - 2**31
    product = exact.float32(exact.float32(Fraction(total)) * Fraction(scale))
    args = np.int32([acc]), F32([scale]), np.int32([bias])
    assert Fraction(float(dequantize(*args, F32)[0])) == product
    assert float(dequantize(*args, F16)[0]) == exact.float16(product)
    assert float(dequantize(*args, BF16)[0]) == exact.bfloat16(product)


@settings(derandomize=True, deadline=None, max_examples=80)
@given(st.integers(-(2**31), 2**31 - 1), st.integers(0x30000000, 0x40000000))
def test_words_imply_fp19(exact, acc, scale_bits):
    whole = np.array([scale_bits], np.int64)
    truncated = np.array([scale_bits & ~0x1FFF], np.uint32).view(F32)
    assert np.array_equal(dequantize(np.int32([acc]), whole, out_dtype=F32),
                          dequantize(np.int32([acc]), truncated, out_dtype=F32))  # fmt: skip


def test_int32_bias_wraps_before_the_scale_and_float_bias_follows_it():
    acc = np.int32([[2**31 - 1]])
    assert dequantize(acc, F32([1.0]), np.int32([1]), F32)[0, 0] == -(2.0**31)
    for kind in (F32, F16, BF16):
        assert dequantize(np.int32([[3]]), F32([0.5]), np.array([0.25], kind), F32)[0, 0] == 1.75


def test_dtypes_of_every_step():
    acc, bias = np.int32([[1, 2]]), np.int32([3, 4])
    assert add_int32_bias(acc, bias).dtype == np.int32
    assert read_scale(trans_quant_param([1.0, 2.0])).dtype == F32
    y = scaled(acc, F32([1.0, 2.0]))
    assert y.dtype == F32
    assert add_float_bias(y, F16([1.0, 2.0])).dtype == F32
    assert dequantize(acc, F32([1.0, 2.0])).dtype == F16


def test_one_float_scale_becomes_a_word_unless_a_float_bias_is_there():
    acc = np.int32([[7]])
    assert bits(dequantize(acc, kernel_scale(SCALE))) == 0x2D82
    assert bits(dequantize(acc, kernel_scale(SCALE, np.int32([0])))) == 0x2D82
    assert bits(dequantize(acc, kernel_scale(SCALE, F32([0])))) == 0x2D83
    assert kernel_scale(F32([0.1, 0.2])).dtype == F32


def test_scale_may_be_scalar_row_or_column():
    acc = np.int32([[1, 2], [3, 4]])
    column = F32([[0.5], [2.0]])
    assert dequantize(acc, column, out_dtype=F32).tolist() == [[0.5, 4.0], [1.5, 8.0]]
    assert dequantize(acc, F32(2.0), out_dtype=F32).tolist() == [[2.0, 4.0], [6.0, 8.0]]
    assert dequantize(acc[None], column[:, 0], out_dtype=F32).shape == (1, 2, 2)


@pytest.mark.parametrize("kind", [F16, BF16])
def test_sixteen_bit_scales_are_widened_without_loss(kind):
    scale = F32([0.0123]).astype(kind)
    wide = dequantize(np.int32([[12345]]), scale.astype(F32))
    assert np.array_equal(dequantize(np.int32([[12345]]), scale), wide)


def test_empty_and_wrong_arguments():
    assert dequantize(np.zeros((0, 3), np.int32), F32([1, 2, 3])).shape == (0, 3)
    with pytest.raises(TypeError, match="int32"):
        dequantize(np.zeros((1, 1)), SCALE)
    with pytest.raises(TypeError, match="float32"):
        dequantize(np.int32([[1]]), np.float64([0.1]))
    with pytest.raises(ValueError, match=r"\(n, 1\)"):
        dequantize(np.int32([[1, 2]]), F32([[0.1, 0.2]]))
    with pytest.raises(TypeError, match="bias"):
        dequantize(np.int32([[1]]), SCALE, np.array([1]))
    with pytest.raises(ValueError, match="canonical"):
        dequantize(np.int32([[1]]), SCALE, numerics="exact")
