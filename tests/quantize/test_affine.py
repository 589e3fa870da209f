"""Affine parameters and codes: properties, edges, and a second formula in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slimspec.quantize.affine import (
    EPS,
    code_range,
    codes,
    dequantize,
    dequantize_rows,
    group_view,
    qparams,
    quantize,
)

BF16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = [np.dtype(np.float32), np.dtype(np.float16), BF16]
VARIANTS = ["v0", "v1"]
quick = settings(derandomize=True, deadline=None, max_examples=60)

values = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=1, min_side=1, max_side=24),
    elements=st.floats(-1000, 1000, width=32),
)


def params(x: np.ndarray, **options: object) -> tuple[np.ndarray, np.ndarray]:
    lo, hi = np.atleast_1d(x.min()), np.atleast_1d(x.max())
    return qparams(lo, hi, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
@quick
@given(x=values)
def test_error_stays_within_half_a_step(
    x: np.ndarray, bits: int, symmetric: bool, variant: str
) -> None:
    scale, offset = params(x, bits=bits, symmetric=symmetric, variant=variant)
    q = quantize(x, scale, offset, bits=bits)
    back = dequantize(q, scale, offset)
    step = Fraction(float(scale[0]))
    for value, found, code in zip(x, back, q, strict=True):
        # Half a step; x/s, + z, (q - z)·s each round once: 2^-24 of values below 2^bits steps.
        # The scale itself may be low by 2^-23, so that an end of the range clips that much early.
        bound = step / 2 + step * 2**bits * Fraction(5, 2**24)
        assert abs(Fraction(float(found)) - Fraction(float(value))) <= bound, (value, found, code)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", VARIANTS)
@quick
@given(x=values, symmetric=st.booleans())
def test_zero_maps_to_the_offset_and_back_to_zero(
    x: np.ndarray, symmetric: bool, dtype: np.dtype, variant: str
) -> None:
    x = x.astype(dtype)
    scale, offset = params(x, symmetric=symmetric, variant=variant)
    zero = np.zeros(1, dtype)
    q = quantize(zero, scale, offset)
    assert q[0] == offset[0]
    assert dequantize(q, scale, offset)[0] == 0


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float16)])
@quick
@given(x=values, symmetric=st.booleans(), bits=st.sampled_from([4, 8]))
def test_quantizing_the_result_again_changes_nothing(
    x: np.ndarray, symmetric: bool, bits: int, dtype: np.dtype
) -> None:
    x = (x / 8).astype(dtype)  # a scale that float16 holds with all its digits
    x[np.abs(x) < 0.5] = 0.5
    scale, offset = params(x, bits=bits, symmetric=symmetric, variant="v0")
    q = quantize(x, scale, offset, bits=bits)
    again = quantize(dequantize(q, scale, offset), scale, offset, bits=bits)
    np.testing.assert_array_equal(again, q)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_range_of_zeros_gets_eps_and_the_offset_of_zero(dtype: np.dtype, variant: str) -> None:
    zero = np.zeros(3, dtype)
    scale, offset = qparams(zero, zero, symmetric=True, variant=variant)
    assert scale.dtype == offset.dtype == dtype
    assert (scale.astype(np.float32) == EPS).all()
    assert (offset == 0).all()
    scale, offset = qparams(zero, zero, symmetric=False, variant=variant)
    assert (scale.astype(np.float32) == EPS).all()
    assert (offset == -128).all()
    assert (quantize(zero, scale, offset) == -128).all()


def test_range_is_widened_to_contain_zero() -> None:
    scale, offset = qparams(
        np.float32([3]), np.float32([510]), symmetric=False, variant="v0", signed=False
    )
    assert scale[0] == 2
    assert offset[0] == 0
    scale, offset = qparams(np.float32([-510]), np.float32([-3]), symmetric=False, variant="v0")
    assert scale[0] == 2
    assert offset[0] == 127


def test_the_two_producers_differ_in_the_last_bit() -> None:
    lo, hi = np.float32([-1.7]), np.float32([2.9])
    v0, _ = qparams(lo, hi, symmetric=False, variant="v0")
    v1, _ = qparams(lo, hi, symmetric=False, variant="v1")
    assert v0.view(np.uint32)[0] == 0x3C93C6FB
    assert v1.view(np.uint32)[0] == 0x3C93C6FA


def test_max_bound_replaces_the_steps_and_clips() -> None:
    scale, offset = qparams(
        np.float32([-238]), np.float32([100]), symmetric=True, variant="v1", max_bound=119
    )
    assert scale[0] == 2
    x = np.float32([-238, 300, 5])
    np.testing.assert_array_equal(quantize(x, scale, offset, max_bound=119), [-119, 119, 2])


def test_ties_go_to_even_and_both_ends_clip() -> None:
    one, zero = np.float32([1]), np.float32([0])
    x = np.float32([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 127.5, 1e30, -1e30])
    found = quantize(x, one, zero)
    np.testing.assert_array_equal(found, [-2, -2, 0, 0, 2, 2, 127, 127, -128])
    assert found.dtype == np.int8


def test_bfloat16_rounds_after_the_division_and_can_reach_minus_128() -> None:
    x = np.array([-2.828125], BF16)
    scale, offset = params(x, symmetric=True, variant="v1")
    assert float(scale[0]) == 0.022216796875
    assert quantize(x, scale, offset)[0] == -128
    assert quantize(-x, scale, offset)[0] == 127  # 128 is clipped
    wide = x.astype(np.float32)
    assert quantize(wide, scale.astype(np.float32), offset.astype(np.float32))[0] == -127


def test_float16_scale_may_be_subnormal() -> None:
    x = np.array([1e-3, -5e-4], np.float16)
    scale, offset = params(x, symmetric=True, variant="v0")
    assert 0 < scale[0] < np.finfo(np.float16).smallest_normal
    q = quantize(x, scale, offset)
    back = dequantize(q, scale, offset).astype(np.float32)
    assert np.abs(back - x.astype(np.float32)).max() <= float(scale[0]) / 2


def test_small_negative_codes_keep_their_sign_before_narrowing() -> None:
    found = codes(np.float32([-0.25, 0.25]), np.float32([1]), np.float32([0]))
    np.testing.assert_array_equal(np.signbit(found), [True, False])


def test_different_dtypes_meet_in_float32() -> None:
    x = np.array([-2.828125], BF16)
    scale = np.float32([2.828125 / 127])
    assert quantize(x, scale, np.float32([0]))[0] == -127


def test_scale_zero_gives_code_zero_to_zeros() -> None:
    x = np.float32([0, 5, -5])
    np.testing.assert_array_equal(quantize(x, np.float32([0]), np.float32([0])), [0, 127, -128])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity_are_refused_with_name_and_index(bad: float, dtype: np.dtype) -> None:
    x = np.zeros((2, 3), dtype)
    x[1, 2] = bad
    one, zero = np.ones(1, dtype), np.zeros(1, dtype)
    with pytest.raises(ValueError, match=r"down_proj\.weight: .* at index \(1, 2\)"):
        quantize(x, one, zero, name="down_proj.weight")
    with pytest.raises(ValueError, match=r"range minimum: .* at index \(0,\)"):
        qparams(x[1, 2:], one, symmetric=True, variant="v0")


@pytest.mark.parametrize("dtype", [np.float64, np.int8])
def test_other_dtypes_are_refused(dtype: type) -> None:
    x = np.ones(1, dtype)
    with pytest.raises(TypeError, match=r"expected float32, float16 or bfloat16"):
        qparams(x, x, symmetric=True, variant="v0")
    with pytest.raises(TypeError, match=r"expected float32, float16 or bfloat16"):
        quantize(x, np.float32([1]), np.float32([0]))


@pytest.mark.parametrize("bits", [1, 9])
def test_widths_outside_2_to_8_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=f"bits {bits}"):
        code_range(bits)


def cast_before_clip(x: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """What a widely copied example does: narrow to int8, then clip to [0, 255]."""
    return np.clip(np.round(x / scale + offset).astype(np.int32).astype(np.int8), 0, 255)


def test_clipping_comes_before_narrowing() -> None:
    """Codes 128..255 of an unsigned quantizer wrap to negative int8 and are then clipped to 0."""
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    scale, offset = params(x, symmetric=False, variant="v0", signed=False)
    right = quantize(x, scale, offset, signed=False)
    assert right.dtype == np.uint8
    assert (right.min(), right.max()) == (0, 255)
    wrong = cast_before_clip(x, scale, offset)
    np.testing.assert_array_equal(wrong, np.where(right > 127, 0, right))
    wrong_error = np.abs(dequantize(wrong, scale, offset) - x).mean()
    right_error = np.abs(dequantize(right, scale, offset) - x).mean()
    assert wrong_error > 50 * right_error


def test_unsigned_and_signed_codes_mean_the_same() -> None:
    x = np.random.default_rng(1).standard_normal(200).astype(np.float32)
    signed = params(x, symmetric=False, variant="v0")
    unsigned = params(x, symmetric=False, variant="v0", signed=False)
    a = quantize(x, *signed).astype(np.int32)
    b = quantize(x, *unsigned, signed=False).astype(np.int32)
    np.testing.assert_array_equal(a + 128, b)


def test_group_view_cuts_rows_and_refuses_a_remainder() -> None:
    x = np.arange(12, dtype=np.float32).reshape(2, 6)
    view = group_view(x, 3)
    assert view.shape == (2, 2, 3)
    assert np.shares_memory(view, x)
    np.testing.assert_array_equal(view[1, 1], [9, 10, 11])
    assert group_view(x, 0).shape == (2, 1, 6)
    with pytest.raises(ValueError, match="group size 4 does not divide the 6 columns"):
        group_view(x, 4)


@pytest.mark.parametrize("shape", [(1,), (2, 1), (2, 3)])
def test_dequantize_rows_takes_every_granularity(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    q = rng.integers(-128, 128, (2, 6)).astype(np.int8)
    scale = rng.random(shape).astype(np.float32)
    offset = np.round(rng.random(shape) * 9).astype(np.float32)
    groups = scale.shape[-1]
    expected = np.empty((2, 6), np.float32)
    for i in range(2):
        for j in range(6):
            at = (0,) if shape == (1,) else (i, j // (6 // groups))
            expected[i, j] = (np.float32(q[i, j]) - offset[at]) * scale[at]
    np.testing.assert_array_equal(dequantize_rows(q, scale, offset), expected)
