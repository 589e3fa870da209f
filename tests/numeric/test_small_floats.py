"""FP8 E4M3, FP4 E2M1 and E8M0: every code against ml_dtypes, casts on all 16-bit floats."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from slimspec.numeric.e8m0 import e8m0_to_exponent, e8m0_to_float32, exponent_to_e8m0
from slimspec.numeric.fp4 import E2M1, float32_to_fp4, fp4_to_float32, nearest_fp4
from slimspec.numeric.fp8 import e4m3_to_float32, float32_to_e4m3

BYTES = np.arange(256, dtype=np.uint16).astype(np.uint8)
ALL16 = np.arange(65536, dtype=np.uint32).astype(np.uint16)


def probes() -> np.ndarray:
    """Every fp16 and bf16 value: they contain all E4M3 and E2M1 values and midpoints."""
    values = [ALL16.view(t).astype(np.float32) for t in (np.float16, ml_dtypes.bfloat16)]
    x = np.unique(np.concatenate(values))
    x = x[~np.isnan(x)]
    around = x[np.isfinite(x) & (np.abs(x) < 1000) & (np.abs(x) > 1e-6)]
    sides = [np.nextafter(around, np.float32(s)) for s in (np.inf, -np.inf)]
    return np.concatenate([x, *sides])


def test_every_e4m3_code_decodes_as_the_library_does() -> None:
    expected = BYTES.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    assert np.array_equal(e4m3_to_float32(BYTES).view(np.uint32), expected.view(np.uint32))


def test_e4m3_cast_equals_the_library_where_it_does_not_saturate() -> None:
    x = probes()
    with np.errstate(invalid="ignore"):  # the library warns where it makes NaN
        expected = x.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    assert np.array_equal(float32_to_e4m3(x, "nan"), expected)


def test_e4m3_saturates_past_448_and_keeps_nan() -> None:
    x = np.array([448, 464, 464.1, 1e9, np.inf, -np.inf, -480, np.nan, -np.nan], np.float32)
    codes = float32_to_e4m3(x)
    assert codes.tolist() == [0x7E, 0x7E, 0x7E, 0x7E, 0x7E, 0xFE, 0xFE, 0x7F, 0xFF]
    assert float32_to_e4m3(x, "nan").tolist()[:4] == [0x7E, 0x7E, 0x7F, 0x7F]
    probe = probes()
    inside = np.abs(probe) <= 464
    assert np.array_equal(float32_to_e4m3(probe)[inside], float32_to_e4m3(probe, "nan")[inside])


def test_e4m3_cast_undoes_decoding_for_every_code() -> None:
    assert np.array_equal(float32_to_e4m3(e4m3_to_float32(BYTES)), BYTES)


def test_an_unknown_e4m3_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="wrap"):
        float32_to_e4m3(np.zeros(1, np.float32), "wrap")  # type: ignore[arg-type]


def test_every_fp4_code_decodes_and_encodes_as_the_library_does() -> None:
    codes = BYTES[:16]
    library = codes.view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    assert np.array_equal(fp4_to_float32(codes).view(np.uint32), library.view(np.uint32))
    assert np.array_equal(float32_to_fp4(library), codes)
    assert np.array_equal(nearest_fp4(library), codes)


def test_fp4_cast_equals_the_library() -> None:
    x = probes()
    expected = x.astype(ml_dtypes.float4_e2m1fn).view(np.uint8)
    assert np.array_equal(float32_to_fp4(x), expected)


def test_producers_send_ties_to_the_lower_magnitude_and_nan_to_zero() -> None:
    middle = (E2M1[1:] + E2M1[:-1]) / np.float32(2)
    assert nearest_fp4(middle).tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert nearest_fp4(-middle).tolist() == [8, 9, 10, 11, 12, 13, 14]
    assert float32_to_fp4(middle).tolist() == [0, 2, 2, 4, 4, 6, 6]
    assert nearest_fp4(np.array([np.nan, np.inf, -0.0], np.float32)).tolist() == [0, 0, 8]


def test_bfloat16_distances_tie_where_float32_ones_do_not() -> None:
    x = np.array([5.03125], ml_dtypes.bfloat16)  # 0.96875 to 6, 1.03125 to 4
    assert nearest_fp4(x).tolist() == [7]
    near = np.nextafter(np.float32(0.25), np.float32(1)).reshape(1)
    assert nearest_fp4(near).tolist() == [1]
    assert nearest_fp4(near.astype(ml_dtypes.bfloat16)).tolist() == [0]


def test_fp4_refuses_nan_and_codes_above_15_with_their_index() -> None:
    with pytest.raises(ValueError, match=r"NaN at index \(1,\)"):
        float32_to_fp4(np.array([0, np.nan], np.float32))
    with pytest.raises(ValueError, match=r"16 at index \(0, 1\)"):
        fp4_to_float32(np.array([[3, 16]], np.uint8))


def test_every_e8m0_byte_decodes_as_the_library_does_and_encodes_back() -> None:
    expected = BYTES.view(ml_dtypes.float8_e8m0fnu).astype(np.float32)
    assert np.array_equal(e8m0_to_float32(BYTES).view(np.uint32), expected.view(np.uint32))
    assert np.array_equal(exponent_to_e8m0(e8m0_to_exponent(BYTES)), BYTES)


@pytest.mark.parametrize("wrong", [128, -128, 0.5, np.inf])
def test_an_exponent_without_a_byte_is_refused_with_its_index(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"index \(1,\)"):
        exponent_to_e8m0(np.array([0, wrong], np.float32))


def test_exponents_may_come_in_any_model_dtype() -> None:
    for dtype in (np.int32, np.float16, ml_dtypes.bfloat16, np.float32):
        assert exponent_to_e8m0(np.array([-127, 0, 127]).astype(dtype)).tolist() == [0, 127, 254]
