"""Two scales: the order of the products is normative and observable."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.matmul import NORMATIVE_ORDER, dequantize_per_token
from slimspec.matmul.per_token import scale_per_token

F16, F32, BF16 = np.float16, np.float32, ml_dtypes.bfloat16
ACC = np.int32([[1437821]])
SCALE = np.array([0x3B8C6746], np.uint32).view(F32)
TOKEN = np.array([0x3D0F5166], np.uint32).view(F32)


def test_order_sensitive_vector():
    first = dequantize_per_token(ACC, SCALE, TOKEN)
    second = dequantize_per_token(ACC, SCALE, TOKEN, order="token_first")
    assert (int(first.view(np.uint16)[0, 0]), float(first[0, 0])) == (0x5ABD, 215.625)
    assert (int(second.view(np.uint16)[0, 0]), float(second[0, 0])) == (0x5ABC, 215.5)
    assert scale_per_token(ACC, SCALE, TOKEN)[0, 0] == F32(215.56252)
    assert scale_per_token(ACC, SCALE, TOKEN, "token_first")[0, 0] == F32(215.5625)


def test_the_normative_order_is_scale_first():
    assert NORMATIVE_ORDER == "scale_first"


@settings(derandomize=True, deadline=None, max_examples=80)
@given(
    st.integers(-(2**24), 2**24),
    st.floats(2.0**-14, 1.0, width=32),
    st.floats(2.0**-14, 1.0, width=32),
    st.floats(-100, 100, width=32),
)
def test_equals_exact_arithmetic(exact, acc, scale, token, bias):
    a, s, t = exact.float32(Fraction(acc)), Fraction(scale), Fraction(token)
    ways = {
        "scale_first": exact.float32(exact.float32(a * s) * t),
        "token_first": exact.float32(a * exact.float32(t * s)),
    }
    for order, y in ways.items():
        total = exact.float32(y + Fraction(bias))
        args = np.int32([[acc]]), F32([scale]), F32([token]), F32([bias])
        assert float(dequantize_per_token(*args, F32, order)[0, 0]) == total
        assert float(dequantize_per_token(*args, F16, order)[0, 0]) == exact.float16(total)
        assert float(dequantize_per_token(*args, BF16, order)[0, 0]) == exact.bfloat16(total)


def test_orders_differ_by_one_unit_at_most_in_fp16():
    rng = np.random.default_rng(3)
    acc = rng.integers(-(2**20), 2**20, (200, 200)).astype(np.int32)
    scale, token = (rng.uniform(1e-4, 1e-2, 200).astype(F32) for _ in range(2))
    one, two = (scale_per_token(acc, scale, token, o) for o in ("scale_first", "token_first"))
    assert 0.2 < (one != two).mean() < 0.5  # about a third, integer_semantics.md B.3
    halves = [y.astype(F16).view(np.int16).astype(int) for y in (one, two)]
    assert np.abs(halves[0] - halves[1]).max() <= 1


def test_int32_bias_comes_before_and_float_bias_after_the_scales():
    args = np.int32([[10]]), F32([0.5]), F32([0.5])
    assert dequantize_per_token(*args, np.int32([2]), F32)[0, 0] == 3.0
    assert dequantize_per_token(*args, F16([2]), F32)[0, 0] == 4.5


def test_shapes_dtypes_errors():
    acc = np.zeros((3, 2), np.int32)
    out = dequantize_per_token(acc, np.ones((2, 1), F32), np.ones(3, F32), out_dtype=BF16)
    assert (out.shape, out.dtype) == ((3, 2), BF16)
    assert scale_per_token(acc, np.ones(2, F32), np.ones(3, F32)).dtype == F32
    assert dequantize_per_token(acc[:0], np.ones(2, F32), np.ones(0, F32)).shape == (0, 2)
    with pytest.raises(ValueError, match="order"):
        dequantize_per_token(acc, np.ones(2, F32), np.ones(3, F32), order="any")
    with pytest.raises(TypeError, match="pertoken_scale"):
        dequantize_per_token(acc, np.ones(2, F32), np.ones(3))
