"""Weight-only: how many times the weight is rounded is observable."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.matmul import antiquant, matmul_float, matmul_weight_only

F16, F32, BF16 = np.float16, np.float32, ml_dtypes.bfloat16


def test_worked_fp16():
    scale = F16([0.0123])
    assert int(scale.view(np.uint16)[0]) == 0x224C
    got = antiquant(np.int8([[-77]]), scale, F16([3]))
    assert int(got.view(np.uint16)[0, 0]) == 0xBB48


def test_fp16_stepwise_and_once_differ():
    args = np.int8([[-127]]), F16([0.0123]), F16([0.3])
    assert antiquant(*args)[0, 0] == F16(-1.558)
    assert antiquant(*args, steps="stepwise")[0, 0] == F16(-1.558)
    assert antiquant(*args, steps="once")[0, 0] == F16(-1.559)


def test_bf16_stepwise_and_once_differ():
    args = np.int8([[-127]]), F32([0.0123]), F32([1.25]), BF16
    assert float(antiquant(*args, steps="stepwise")[0, 0]) == -1.5546875
    assert float(antiquant(*args)[0, 0]) == -1.546875
    assert float(antiquant(*args, steps="once")[0, 0]) == -1.546875


@settings(derandomize=True, deadline=None, max_examples=80)
@given(st.integers(-128, 127), st.floats(2.0**-10, 2.0, width=16), st.floats(-128, 128, width=16))
def test_both_ways_equal_exact_arithmetic(exact, w, scale, offset):
    for kind, f in ((F16, exact.float16), (BF16, exact.bfloat16)):
        s, o = f(Fraction(scale)), f(Fraction(offset))
        step = f(f(w + o) * s)
        once = f(exact.float32(exact.float32(w + o) * s))
        args = np.int8([[w]]), F32([scale]), F32([offset]), kind
        assert float(antiquant(*args, steps="stepwise")[0, 0]) == step
        assert float(antiquant(*args, steps="once")[0, 0]) == once


def test_groups_repeat_along_k():
    w = np.int8([[1, 1, 1, 1], [2, 2, 2, 2]])
    scale = F16([[1, 2], [3, 4]])
    assert antiquant(w, scale).tolist() == [[1, 1, 2, 2], [6, 6, 8, 8]]
    with pytest.raises(ValueError, match="k=4"):
        antiquant(w, F16([[1, 2, 3], [1, 2, 3]]))


def test_overflow_follows_the_profile():
    args = np.int8([[127]]), F16([60000])
    assert np.isposinf(antiquant(*args))[0, 0]
    assert antiquant(*args, numerics="sat")[0, 0] == F16(65504)


@pytest.mark.parametrize("kind", [F16, BF16, F32])
def test_matmul_sums_dequantized_weights_in_float32(kind):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 8)).astype(kind)
    w = rng.integers(-128, 128, (5, 8), dtype=np.int8)
    scale, bias = rng.uniform(0.01, 0.02, 5).astype(F32), rng.normal(size=5).astype(F32)
    y = matmul_weight_only(x, w, scale, bias=bias)
    assert y.dtype == kind
    exact = matmul_float(x, antiquant(w, scale, dtype=kind)) + bias
    assert np.array_equal(y, exact.astype(kind))


def test_errors_and_empty():
    assert matmul_weight_only(np.zeros((0, 2), F16), np.int8([[1, 2]]), F16([1])).shape == (0, 1)
    with pytest.raises(TypeError, match="int8"):
        antiquant(np.zeros((1, 1)), F16([1]))
    with pytest.raises(ValueError, match="steps"):
        antiquant(np.int8([[1]]), F16([1]), steps="twice")
