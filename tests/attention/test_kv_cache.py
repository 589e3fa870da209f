"""Int8 KV cache."""

import ml_dtypes
import numpy as np
import pytest

from slimspec.attention import dequantize_kv, quantize_kv
from slimspec.attention.diagnosis import DEQUANTIZE_KV, QUANTIZE_KV
from slimspec.matmul.diagnosis import diagnose

F16, F32, BF16 = np.float16, np.float32, ml_dtypes.bfloat16
X = F16([[1, -0.3, 0.0777, 2]])
SCALE, OFFSET = np.full(4, 0.0157, F32), np.full(4, -4, F32)


@pytest.mark.parametrize("kind", [F32, F16])
def test_worked_numbers(kind):
    q = quantize_kv(X, SCALE.astype(kind), OFFSET.astype(kind))
    assert q.tolist() == [[60, -23, 1, 123]]
    back = dequantize_kv(q, SCALE, OFFSET, F32)
    assert np.abs(back - F32([[1.0048, -0.2983, 0.0785, 1.9939]])).max() < 5e-5  # 4 printed digits


def test_dequantization_rounds_once():
    q = np.arange(-128, 128).astype(np.int8)[:, None]
    for offset in (-128, -4, 0, 127):
        for kind in (F16, BF16, F32):
            got = dequantize_kv(q, SCALE[:1].astype(kind), np.array([offset], kind), kind)
            exact = (q.astype(np.float64) - offset) * float(SCALE.astype(kind)[0])
            assert got.dtype == kind
            # 9 bits times 24 are exact in float64
            assert np.array_equal(got, exact.astype(F32).astype(kind))


def test_rules_agree_only_without_an_offset():
    q = np.arange(-128, 128).astype(np.int8)[:, None]
    rules = ("canonical", "scale_only", "plus_offset")
    zero = [dequantize_kv(q, SCALE[:1], 0.0, rule=r) for r in rules]
    assert all(np.array_equal(z, zero[0]) for z in zero)
    moved = [dequantize_kv(q, SCALE[:1], -4.0, F32, rule=r) for r in rules]
    assert np.array_equal(moved[1], q.astype(F32) * SCALE[0])
    assert np.array_equal(moved[2], (q.astype(F32) - F32(4)) * SCALE[0])


def test_mul_and_div_forms():
    # x/s = 2.5 exactly, while x·(1/s) is a little more or less
    scales = (np.arange(1, 2000) * 2.0**-12).astype(F32)
    x = (scales * F32(2.5)).astype(F32)
    assert np.all(quantize_kv(x[None], scales, form="div") == 2)
    reciprocal = (F32(1) / scales).astype(np.float64)
    product = (x.astype(np.float64) * reciprocal).astype(F32)  # exact, then rounded once
    mul = quantize_kv(x[None], scales)[0]
    assert np.array_equal(mul, np.rint(product))
    assert set(mul.tolist()) == {2, 3}


def test_range_nan_empty_errors():
    x = F32([[1e9, -1e9, np.nan, np.inf]])
    assert quantize_kv(x, SCALE).tolist() == [[127, -128, 0, 127]]
    assert quantize_kv(X[:0], SCALE).shape == (0, 4)
    with pytest.raises(ValueError, match="form"):
        quantize_kv(X, SCALE, form="shift")
    with pytest.raises(ValueError, match="rule"):
        dequantize_kv(np.int8([[1]]), SCALE[:1], rule="other")


def test_consumers_are_told_apart():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype(F16)
    q = quantize_kv(x, SCALE, OFFSET)
    args = {"q": q, "scale": SCALE, "offset": OFFSET}
    names = {
        "canonical": "canonical",
        "scale_only": "offset ignored (scale only)",
        "plus_offset": "offset added",
    }
    for rule, name in names.items():
        found = diagnose(DEQUANTIZE_KV, dequantize_kv(**args, rule=rule), **args)
        assert found.best.variant == name
        assert found.best.share == 1
    found = diagnose(QUANTIZE_KV, q, x=x, scale=SCALE, offset=OFFSET)
    assert found.best.variant == "canonical"
    half = (np.round(np.arange(-50, 50) + 0.5, 1) * 0.5).astype(F16)[None]
    scale = np.full(100, 0.5, F32)
    away = np.trunc(half / F16(0.5) + np.copysign(F16(0.5), half)).astype(np.int8)
    found = diagnose(QUANTIZE_KV, away, x=half, scale=scale)
    assert "half away from zero" in [m.variant for m in found.exact]
