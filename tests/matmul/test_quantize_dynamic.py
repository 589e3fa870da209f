"""Dynamic activation quantization: three variants."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.matmul import quantize_dynamic
from slimspec.matmul.quantize_dynamic import VARIANTS

F16, F32, BF16 = np.float16, np.float32, ml_dtypes.bfloat16
ROW = F16([[0.5, -1, 2, -2, 0.0078125, 1.9921875, 0.0236206, -0.01]])


@pytest.mark.parametrize(("variant", "seventh"), [("golden", 1), ("k910b", 1), ("k310p", 2)])
def test_worked_row(variant, seventh):
    got = quantize_dynamic(ROW, variant=variant)
    assert got.q.tolist() == [[32, -64, 127, -127, 0, 127, seventh, -1]]
    assert got.scale.view(np.uint32).tolist() == [0x3C810204]


def test_second_worked_row():
    row = F16([[1.901, -1.025]])
    assert quantize_dynamic(row).q[0, 1] == -68
    assert quantize_dynamic(row, numerics="k310p").q[0, 1] == -69


def half_away(value):
    return (1 if value >= 0 else -1) * int(abs(value) + Fraction(1, 2))


@settings(derandomize=True, deadline=None, max_examples=80)
@given(st.lists(st.floats(-100, 100, width=16), min_size=1, max_size=6), st.sampled_from([8, 4]))
def test_every_variant_equals_exact_arithmetic(exact, row, bits):
    top = 2 ** (bits - 1) - 1
    peak, c = max(abs(Fraction(v)) for v in row), exact.float32(Fraction(1, top))
    if peak < Fraction(1, 256):
        return
    scale, s = exact.float32(peak * c), exact.float32(top / peak)
    half = exact.float16(top / peak)
    expected = {
        "golden": ([round(exact.float32(Fraction(v) / scale)) for v in row], scale),
        "k910b": ([round(exact.float32(Fraction(v) * s)) for v in row], exact.float32(1 / s)),
        "k310p": ([half_away(exact.float16(Fraction(v) * half)) for v in row], scale),
    }
    for variant, (codes, stored) in expected.items():
        got = quantize_dynamic(F16([row]), bits=bits, variant=variant)
        assert got.q[0].tolist() == [min(max(v, -top - 1), top) for v in codes]
        assert Fraction(float(got.scale[0])) == stored


def test_bf16_rows_of_the_310p_round_the_float32_product_to_fp16(exact):
    row = np.array([[1.0, 0.3046875, -0.9921875]], BF16)
    s = exact.float32(Fraction(127))
    codes = [half_away(exact.float16(exact.float32(Fraction(float(v)) * s))) for v in row[0]]
    assert quantize_dynamic(row, variant="k310p").q[0].tolist() == codes


def test_variants_differ_rarely_and_by_one():
    x = np.random.default_rng(0).normal(size=(1000, 256)).astype(F16)
    golden, b, p = (quantize_dynamic(x, variant=v).q.astype(int) for v in VARIANTS)
    assert np.abs(golden - b).max() <= 1
    assert np.abs(golden - p).max() == 1
    assert 0 < (golden != b).sum() < 100  # 20 of 256000 were measured on other data
    assert 2000 < (golden != p).sum() < 5000  # 3343


@pytest.mark.parametrize("variant", VARIANTS)
def test_row_of_zeros_gets_codes_and_scale_zero(variant):
    got = quantize_dynamic(np.zeros((2, 3), F16), variant=variant)
    assert not got.q.any()
    assert not got.scale.any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_codes_reach_127_and_never_minus_128(variant):
    x = np.random.default_rng(1).normal(size=(500, 16)).astype(F16)
    q = quantize_dynamic(x, variant=variant).q
    assert np.abs(q.astype(int)).max(axis=1).min() >= 126
    assert q.min() >= -127


def test_smooth_scales_multiply_first_in_float32():
    x, smooth = F16([[1.0, 2.0]]), F32([4.0, 0.5])
    assert quantize_dynamic(x, smooth).q.tolist() == quantize_dynamic(F32([[4, 1]])).q.tolist()


def test_dtype_of_every_step():
    x, peak = ROW, F32([[2]])
    kinds = {
        n: tuple(a.dtype for a in form(x, peak, F32(127))) for n, (form, _) in VARIANTS.items()
    }
    assert kinds == {"golden": (F32, F32), "k910b": (F32, F32), "k310p": (F16, F32)}
    got = quantize_dynamic(ROW)
    assert (got.q.dtype, got.scale.dtype) == (np.int8, F32)


def test_shapes_and_errors():
    assert quantize_dynamic(np.zeros((0, 4), F16)).q.shape == (0, 4)
    empty = quantize_dynamic(np.zeros((2, 0), F16))
    assert (empty.q.shape, empty.scale.tolist()) == ((2, 0), [0, 0])
    assert quantize_dynamic(np.ones((2, 3, 4), F32)).scale.shape == (2, 3)
    with pytest.raises(ValueError, match="bits"):
        quantize_dynamic(ROW, bits=3)
    with pytest.raises(ValueError, match="variant"):
        quantize_dynamic(ROW, variant="best")
