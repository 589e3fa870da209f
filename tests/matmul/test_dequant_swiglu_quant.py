"""Dequantize, SwiGLU, quantize."""

import numpy as np

from slimspec.matmul import (
    dequant_swiglu_quant_dynamic,
    dequant_swiglu_quant_static,
    quantize_dynamic,
    quantize_static,
    swiglu,
)
from slimspec.matmul.dequant_swiglu_quant import dequant_swiglu

F32 = np.float32
RNG = np.random.default_rng(6)
ACC = RNG.integers(-(2**16), 2**16, (5, 8)).astype(np.int32)
SCALE, TOKEN = RNG.uniform(1e-3, 1e-2, 8).astype(F32), RNG.uniform(1e-2, 1e-1, 5).astype(F32)


def floats(bias=0):
    """Second formula: numpy float32 operators, in the documented order."""
    return (ACC + np.int32(bias)).astype(F32) * SCALE * TOKEN[:, None]


def test_common_part_and_its_dtype():
    got = dequant_swiglu(ACC, SCALE, TOKEN)
    assert got.dtype == F32
    assert np.array_equal(got, swiglu(floats(), activate_left=False))


def test_int32_bias_before_and_float_bias_after_the_scales():
    ones = np.full(8, 5, np.int32)
    assert np.array_equal(dequant_swiglu(ACC, SCALE, TOKEN, ones), swiglu(floats(5), False))
    half = np.full(8, 0.5, F32)
    assert np.array_equal(dequant_swiglu(ACC, SCALE, TOKEN, half), swiglu(floats() + half, False))


def test_static_divides_and_adds_the_offset():
    q_scale, q_offset = F32([0.5, 1, 2, 3]), F32([1, -2, 3, -4])
    got = dequant_swiglu_quant_static(ACC, SCALE, TOKEN, q_scale, q_offset, activate_left=True)
    assert np.array_equal(got, quantize_static(swiglu(floats()), q_scale, q_offset))


def test_dynamic_smooths_then_scales_by_127_over_the_peak():
    smooth = F32([1, 2, 0.5, 4])
    got = dequant_swiglu_quant_dynamic(ACC, SCALE, TOKEN, smooth)
    a = swiglu(floats(), False) * smooth
    peak = np.abs(a).max(axis=1)
    assert np.array_equal(got.scale, peak / F32(127))
    assert np.array_equal(got.q, quantize_dynamic(a, variant="k910b").q)


def test_rows_of_zeros_and_no_rows():
    zero = dequant_swiglu_quant_dynamic(ACC * 0, SCALE, TOKEN)
    assert not zero.q.any()
    assert not zero.scale.any()
    assert dequant_swiglu_quant_dynamic(ACC[:0], SCALE, TOKEN[:0]).q.shape == (0, 4)
