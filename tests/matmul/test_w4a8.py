"""W4A8: the split, the fp16 accumulator, the stored bias."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.matmul import matmul_w4a8, split_int8
from slimspec.matmul.w4a8 import grouped_sum_fp16

F16, F32, BF16 = np.float16, np.float32, ml_dtypes.bfloat16
X = np.int8([[-128, -37, -1, 0, 5, 37, 100, 127]])
W = np.int8([[-8, 7, 2, -5, 1, 0, 6, -2], [3, -1, 2, 4, 1, -3, -8, 5]])  # (n, k)
SCALE = F32([[0.5, 0.125], [0.25, 2.0]])  # (n, k/g)
BIAS = F32([-11, -64])
TOKEN = F32([0.0371])


def test_worked_split():
    halves = split_int8(X)
    assert halves.hi.tolist() == [[-8, -3, -1, 0, 0, 2, 6, 7]]
    assert halves.lo.tolist() == [[-8, 3, 7, -8, -3, -3, -4, 7]]


def test_split_is_exact_for_every_code():
    x = np.arange(-128, 128).astype(np.int8)
    hi, lo = (a.astype(int) for a in split_int8(x))
    assert np.array_equal(16 * hi + lo + 8, x)
    assert (hi.min(), hi.max(), lo.min(), lo.max()) == (-8, 7, -8, 7)


def test_worked_matmul():
    halves = split_int8(X)
    assert grouped_sum_fp16(halves.hi, W, SCALE).tolist() == [[23.25, -43.75]]
    assert grouped_sum_fp16(halves.lo, W, SCALE).tolist() == [[64.375, 134.75]]
    one = np.ones(1, F32)
    assert matmul_w4a8(X, W, SCALE, BIAS, one, out_dtype=F32).tolist() == [[425.375, -629.25]]
    assert matmul_w4a8(X, W, SCALE, BIAS, TOKEN).tolist() == F16([[15.78, -23.34]]).tolist()
    low = matmul_w4a8(X, W, SCALE, BIAS, TOKEN, out_dtype=BF16)
    assert low.astype(F32).tolist() == [[15.8125, -23.375]]


def test_stored_bias_is_eight_times_the_weights():
    assert (8 * (W * np.repeat(SCALE, 4, axis=1)).sum(axis=1)).tolist() == BIAS.tolist()


def test_scales_come_as_words_without_truncation():
    whole = SCALE + F32(2.0**-14)
    words = whole.view(np.uint32).astype(np.int64)
    assert words[0, 0] & 0x1FFF
    args = X, W, whole, BIAS, TOKEN
    assert np.array_equal(matmul_w4a8(*args), matmul_w4a8(X, W, words, BIAS, TOKEN))
    assert SCALE.view(np.uint32).ravel().tolist() == [
        0x3F000000,
        0x3E000000,
        0x3E800000,
        0x40000000,
    ]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([(1, 1), (2, 3), (3, 2)]))
def test_equals_exact_steps(exact, seed, sizes):
    groups, g = sizes
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, (1, groups * g), dtype=np.int8)
    w = rng.integers(-8, 8, (1, groups * g), dtype=np.int8)
    scale = rng.uniform(1e-3, 1, (1, groups)).astype(F32)
    bias, token = rng.normal(size=1).astype(F32), rng.uniform(1e-3, 1, 1).astype(F32)

    def register(part):
        total = Fraction(0)
        for j in range(groups):
            acc = sum(int(part(int(x[0, i]))) * int(w[0, i]) for i in range(j * g, (j + 1) * g))
            step = exact.float16(exact.float32(acc * Fraction(float(scale[0, j]))))
            total = exact.float16(total + step)
        return total

    high, low = register(lambda v: v // 16), register(lambda v: v % 16 - 8)
    f = exact.float32
    y = f(f(f(16 * high + low) + Fraction(float(bias[0]))) * Fraction(float(token[0])))
    got = matmul_w4a8(x, w, scale, bias, token, out_dtype=F32)
    assert Fraction(float(got[0, 0])) == y


def test_bias_columns_are_summed_and_offset_is_added():
    wide = F32([[-10, -1], [-60, -4]])
    args = X, W, SCALE
    assert np.array_equal(matmul_w4a8(*args, wide, TOKEN), matmul_w4a8(*args, BIAS, TOKEN))
    offset = F32([[1, 0], [0, 1]])
    shifted = matmul_w4a8(*args, BIAS, np.ones(1, F32), offset, out_dtype=F32)
    sums = X[0, :4].astype(int).sum(), X[0, 4:].astype(int).sum()
    assert shifted.tolist() == [[425.375 + sums[0], -629.25 + sums[1]]]


def test_fp16_accumulator_overflows_by_the_profile():
    x, w = np.full((1, 64), 127, np.int8), np.full((1, 64), 7, np.int8)
    args = x, w, F32([[40.0]]), F32([0]), F32([1])
    assert np.isposinf(matmul_w4a8(*args, out_dtype=F32)[0, 0])
    assert np.isfinite(matmul_w4a8(*args, out_dtype=F32, numerics="sat")[0, 0])


def test_dtypes_and_errors():
    halves = split_int8(X)
    assert (halves.hi.dtype, halves.lo.dtype) == (np.int8, np.int8)
    assert grouped_sum_fp16(X, W, SCALE).dtype == F16
    assert matmul_w4a8(X[:0], W, SCALE, BIAS, TOKEN[:0]).shape == (0, 2)
    with pytest.raises(ValueError, match=r"-8\.\.7"):
        matmul_w4a8(X, W * np.int8(2), SCALE, BIAS, TOKEN)
    with pytest.raises(ValueError, match="groups"):
        matmul_w4a8(X, W, np.ones((2, 3), F32), BIAS, TOKEN)
