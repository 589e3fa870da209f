"""FP8 weights: scale, clip, cast, the file tensors."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from slimspec.quantize.fp8 import dequantize_fp8, fp8_scale, fp8_values, quantize_fp8

BF16 = ml_dtypes.bfloat16
E4M3 = ml_dtypes.float8_e4m3fn


def weights(dtype: type, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(16, 40)) * 2.0 ** rng.integers(-6, 6, (16, 1))).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, BF16])
def test_tensors_have_the_file_dtypes_and_follow_the_formula(dtype) -> None:  # type: ignore[no-untyped-def]
    w = weights(dtype)
    q = quantize_fp8(w)
    amax = np.abs(w.astype(np.float32)).max(axis=1, keepdims=True)
    scale = (amax / np.float32(448)).astype(dtype)
    ratio = (w.astype(np.float32) / scale.astype(np.float32)).astype(dtype).astype(np.float32)
    expected = np.clip(ratio, np.float32(-448), np.float32(448)).astype(E4M3)
    assert q.q.dtype == E4M3
    assert np.array_equal(q.scale, scale.astype(np.float32))
    assert np.array_equal(q.q.view(np.uint8) & 0x7F, expected.view(np.uint8) & 0x7F)
    assert q.scale.dtype == q.offset.dtype == np.float32
    assert not q.offset.any()


def test_the_largest_value_of_a_row_becomes_448() -> None:
    w = weights(np.float32)
    largest = np.abs(quantize_fp8(w).q.astype(np.float32)).max(axis=1)
    assert largest.tolist() == [448] * 16


def test_dequantized_values_err_by_half_a_step() -> None:
    w = weights(np.float32)
    q = quantize_fp8(w)
    back = dequantize_fp8(q.q, q.scale)
    # E4M3 keeps 4 significant bits: half a step is 2^-4 of the value, or half of 2^-9 near zero;
    # 2^-22 covers the roundings of quotient and product
    bound = np.maximum(np.abs(w) * 2.0**-4, q.scale * 2.0**-10) * (1 + 2.0**-22)
    assert np.all(np.abs(back - w) <= bound)


def test_a_row_of_zeros_has_the_smallest_scale_except_in_float16() -> None:
    assert fp8_scale(np.zeros(1, np.float32))[0] == np.float32(1e-12) / np.float32(448)
    assert not quantize_fp8(np.zeros((1, 8), np.float32)).q.astype(np.float32).any()
    half = quantize_fp8(np.zeros((1, 8), np.float16))  # 1e-12 vanishes: 0 / 0
    assert half.scale.tolist() == [[0]]
    assert np.isnan(half.q.astype(np.float32)).all()


def test_negative_zero_loses_its_sign_in_the_sum_with_the_offset() -> None:
    values = fp8_values(np.array([-0.0, 1], np.float32), np.array(1, np.float32))
    assert not np.signbit(values).any()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_with_name_and_index(wrong: float) -> None:
    w = weights(np.float32)
    w[3, 5] = wrong
    with pytest.raises(ValueError, match=r"q_proj: .* at index \(3, 5\)"):
        quantize_fp8(w, name="q_proj")


def test_float64_is_refused_and_layout_does_not_matter() -> None:
    with pytest.raises(TypeError, match="float64"):
        quantize_fp8(np.zeros((2, 2)))
    w = weights(np.float32)
    a, b = quantize_fp8(w), quantize_fp8(np.asfortranarray(w))
    assert a.q.tobytes() == b.q.tobytes()
