"""Whole linears: worked example, MIX, profiles."""

import ml_dtypes
import numpy as np
import pytest

from slimspec.matmul import (
    MixTensors,
    linear_w8a8,
    linear_w8a8_dynamic,
    linear_w8a8_mix,
    loaded_scale,
    matmul_int8,
    parse_quant_param,
    quantize_static,
)

F16, F32, BF16 = np.float16, np.float32, ml_dtypes.bfloat16
X = F32([[0.5, -1, 2, 3]])
W = np.int8([[64, -127, 32, 16], [32, 64, -95, 127]])
SCALE, OFFSET = F32([0.015686275]), F32([-64])
BIAS = np.int32([-555, 6843])
WORDS = np.array([964789128, 958098083])
WEIGHT_SCALE = F32([0.015748031, 0.009448819])


def test_worked_static_linear():
    y = linear_w8a8(X.astype(F16), W, SCALE, OFFSET, WORDS, BIAS)
    assert y.dtype == F16
    assert y.tolist() == F16([[4.371, 1.151]]).tolist()
    single = linear_w8a8(X, W, SCALE, OFFSET, WORDS, BIAS)[0]
    assert np.abs(single - [4.35, 1.15]).max() < 0.03  # float result; int8 noise


def test_worked_accumulators():
    q = quantize_static(X, SCALE, OFFSET)
    assert q.tolist() == [[-32, -128, 63, 127]]
    acc = matmul_int8(q, W)
    assert acc.tolist() == [[18256, 928]]
    assert (acc + BIAS).tolist() == [[17701, 7771]]
    corrections = W.sum(axis=1, dtype=np.float32) * OFFSET
    assert corrections.tolist() == [960, -8192]
    assert parse_quant_param(WORDS).scale[0] == F32(0.00024700165)
    assert WORDS.astype(np.uint32).view(F32)[0] == F32(0.00024702796)


def test_worked_scales_follow_from_each_other():
    product = WEIGHT_SCALE * SCALE
    assert product.view(np.uint32).tolist() == WORDS.tolist()


def test_dynamic_linear_approaches_the_float_one():
    y = linear_w8a8_dynamic(X, W, WEIGHT_SCALE, F32([0.1, -0.2]))[0]
    assert np.abs(y - [4.35, 1.15]).max() < 0.05


def test_mix_is_dynamic_in_prefill_and_static_in_decode():
    t = MixTensors(W, SCALE, OFFSET, WORDS, BIAS, WEIGHT_SCALE, F32([0.1, -0.2]))
    static = linear_w8a8(X, W, SCALE, OFFSET, WORDS, BIAS)
    dynamic = linear_w8a8_dynamic(X, W, WEIGHT_SCALE, t.bias)
    assert np.array_equal(linear_w8a8_mix(X, t, "decode"), static)
    assert np.array_equal(linear_w8a8_mix(X, t, "prefill"), dynamic)
    assert not np.array_equal(static, dynamic)
    with pytest.raises(ValueError, match="phase"):
        linear_w8a8_mix(X, t, "train")


@pytest.mark.parametrize("numerics", ["canonical", "sat", "k310p"])
@pytest.mark.parametrize("kind", [F16, BF16])
def test_output_has_the_dtype_of_the_input_under_every_profile(numerics, kind):
    x = X.astype(kind)
    assert linear_w8a8(x, W, SCALE, OFFSET, WORDS, BIAS, numerics=numerics).dtype == kind
    assert linear_w8a8_dynamic(x, W, WEIGHT_SCALE, numerics=numerics).dtype == kind


def test_small_scales_lose_bits_when_an_engine_loads_them_as_fp16():
    tiny = F32([2.0**-20 * 1.3])
    kept = loaded_scale(tiny, F16)
    assert kept.dtype == F32
    assert abs(kept[0] / tiny[0] - 1) > 2.0**-8
    assert loaded_scale(tiny, BF16)[0] != 0
