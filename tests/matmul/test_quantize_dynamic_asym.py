"""Asymmetric dynamic quantization."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.matmul import quantize_dynamic_asym

F16, F32 = np.float16, np.float32


def test_worked_row():
    got = quantize_dynamic_asym(F16([[-1, 0, 0.5, 3]]))
    assert got.q.tolist() == [[-128, -64, -32, 127]]
    assert (got.scale[0], got.offset[0]) == (F32(0.015686275), F32(-64.249985))


@settings(derandomize=True, deadline=None, max_examples=80)
@given(st.lists(st.floats(-100, 100, width=16), min_size=2, max_size=6), st.sampled_from([8, 4]))
def test_both_variants_equal_exact_arithmetic(exact, row, bits):
    steps, top = 2**bits - 1, 2 ** (bits - 1) - 1
    values = [Fraction(v) for v in row]
    span = exact.float32(max(values) - min(values))
    if span < Fraction(1, 1000):
        return
    f = exact.float32
    golden = f(span * f(Fraction(1, steps)))
    kernel = max(f(span / steps), f(Fraction(1e-12)))
    inverse = f(1 / kernel)
    for variant, scale in (("golden", golden), ("k910b", kernel)):
        offset = f(top - f(max(values) / scale))
        ratios = [f(v / scale) if variant == "golden" else f(v * inverse) for v in values]
        codes = [min(max(round(f(r + offset)), -top - 1), top) for r in ratios]
        got = quantize_dynamic_asym(F16([row]), bits, variant)
        assert got.q[0].tolist() == codes
        assert Fraction(float(got.scale[0])) == scale
        assert Fraction(float(got.offset[0])) == offset


def test_constant_row():
    assert quantize_dynamic_asym(F16([[2, 2]])).q.tolist() == [[0, 0]]
    kernel = quantize_dynamic_asym(F16([[2, 2]]), variant="k910b")
    assert kernel.scale[0] == F32(1e-12)


def test_dtypes_and_errors():
    got = quantize_dynamic_asym(F16([[1, 2]]))
    assert (got.q.dtype, got.scale.dtype, got.offset.dtype) == (np.int8, F32, F32)
    assert quantize_dynamic_asym(np.zeros((0, 3), F16)).q.shape == (0, 3)
    with pytest.raises(ValueError, match="variant"):
        quantize_dynamic_asym(F16([[1, 2]]), variant="k310p")
