"""Saturating casts: every bound, the wide clip, the NaN policy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import slimspec.numeric as s

CASTS = [
    (s.saturate_int4, -8, 7, np.int8),
    (s.saturate_uint4, 0, 15, np.uint8),
    (s.saturate_int8, -128, 127, np.int8),
    (s.saturate_uint8, 0, 255, np.uint8),
    (s.saturate_int9, -256, 255, np.int16),
    (s.saturate_int16, -32768, 32767, np.int16),
    (s.saturate_int32, -(2**31), 2**31 - 1, np.int32),
]


@pytest.mark.parametrize(("cast", "low", "high", "dtype"), CASTS)
@pytest.mark.parametrize("source", [np.int64, np.float64, np.float32])
def test_values_are_clipped_to_both_bounds(cast, low, high, dtype, source) -> None:  # type: ignore[no-untyped-def]
    x = np.array([low * 2 - 1, low - 1, low, 0, high, high + 1, high * 3], source)
    expected = [min(max(int(v), low), high) for v in x]
    found = cast(x)
    assert found.dtype == dtype
    assert found.tolist() == expected


def test_every_int16_code_is_clipped() -> None:
    x = np.arange(-(2**15), 2**15, dtype=np.int32).astype(np.int16)
    for cast, low, high, dtype in CASTS:
        assert np.array_equal(cast(x), np.clip(x.astype(int), low, high).astype(dtype))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_infinity_is_clipped(dtype) -> None:  # type: ignore[no-untyped-def]
    x = np.array([np.inf, -np.inf, 3], dtype)
    for cast, low, high, _ in CASTS:
        assert cast(x).tolist() == [high, low, 3]


def test_float32_is_clipped_to_int32_without_rounding_the_bound() -> None:
    x = np.array([2147483648.0, 2147483520.0, -2147483648.0, -2147483904.0], np.float32)
    assert s.saturate_int32(x).tolist() == [2147483647, 2147483520, -2147483648, -2147483648]


def test_clip_comes_before_the_narrow_cast() -> None:
    # a cast to int8 first would turn 255 into -1 and then clip it to 0
    assert s.saturate_uint8(np.array([255.0, 256.0, -1.0], np.float32)).tolist() == [255, 255, 0]


def test_unsigned_64_bit_values_do_not_wrap() -> None:
    assert s.saturate_int8(np.array([2**64 - 1, 2**63, 5], np.uint64)).tolist() == [127, 127, 5]


def test_nan_is_refused_with_its_index_or_replaced_as_named() -> None:
    x = np.array([[1.0, 2.0], [np.nan, 3.0]], np.float32)
    with pytest.raises(ValueError, match=r"NaN at index \(1, 0\)"):
        s.saturate_int8(x)
    assert s.saturate_int8(x, nan=0).tolist() == [[1, 2], [0, 3]]


def test_a_fraction_is_refused_because_rounding_must_be_named() -> None:
    with pytest.raises(ValueError, match=r"0.5 at index \(1,\)"):
        s.saturate_int8(np.array([1, 0.5], np.float32))


def test_empty_0d_and_strided_arrays_keep_their_shape() -> None:
    assert s.saturate_int8(np.empty((0, 4), np.float32)).shape == (0, 4)
    assert s.saturate_int8(np.array(300.0, np.float32)) == 127
    x = np.arange(-300, 300, dtype=np.float32).reshape(20, 30)
    assert np.array_equal(s.saturate_int8(x.T[::3]), s.saturate_int8(x.T[::3].copy()))


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(TypeError, match="complex"):
        s.saturate_int8(np.zeros(1, np.complex64))
