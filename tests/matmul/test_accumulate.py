"""The accumulator: truth, narrowing, flag."""

import numpy as np
import pytest

from slimspec.matmul import accumulate, matmul_exact, narrow

MAX = 2**31 - 1


def test_truth_exceeds_int32_and_is_flagged():
    k = 131072  # 131072·2^14 = 2^31
    x, w = np.full((1, k), -128, np.int8), np.full((2, k), -128, np.int8)
    w[1, 0] = 0
    assert matmul_exact(x, w).tolist() == [[2**31, 2**31 - 2**14]]
    acc = accumulate(x, w)
    assert acc.value.tolist() == [[-(2**31), 2**31 - 2**14]]
    assert acc.overflow.tolist() == [[True, False]]
    assert accumulate(x, w, overflow="saturate").value.tolist() == [[MAX, 2**31 - 2**14]]


def test_131071_products_can_not_overflow():
    k = 131071
    acc = accumulate(np.full((1, k), -128, np.int8), np.full((1, k), -128, np.int8))
    assert acc.value[0, 0] == k * 2**14
    assert not acc.overflow.any()


def test_bias_takes_part_in_the_overflow():
    x = w = np.ones((1, 1), np.int8)
    acc = accumulate(x, w, np.array([MAX], np.int32))
    assert (acc.value[0, 0], acc.overflow[0, 0]) == (-(2**31), True)


def test_dtypes_of_every_step():
    x = w = np.ones((1, 1), np.int8)
    assert matmul_exact(x, w).dtype == np.int64
    acc = accumulate(x, w)
    assert (acc.value.dtype, acc.overflow.dtype) == (np.int32, np.bool_)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_empty_sums_are_zero(shape):
    x = np.zeros(shape, np.int8)
    acc = accumulate(x, x)
    assert acc.value.shape == (shape[0], shape[0])
    assert not acc.value.any()


def test_unknown_overflow_rule_is_refused():
    with pytest.raises(ValueError, match="wrap"):
        narrow(np.zeros(1, np.int64), "clip")
