"""Static activation quantization: four forms, worked numbers, exact oracle."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.matmul import quantize_static, runtime_scale
from slimspec.matmul.quantize_static import FORMS

F16, F32, BF16 = np.float16, np.float32, ml_dtypes.bfloat16


def test_division_and_reciprocal_differ():
    x, scale = F16([-110.6875]), F32([0.875])
    assert quantize_static(x, scale, form="div")[0] == -126  # -126.5, tie to even
    assert quantize_static(x, F32(1) / scale, form="mul")[0] == -127


def test_kernel_and_golden_of_the_same_chip_differ():
    x, scale = F16([0.8867]), F16([0.0771])
    assert quantize_static(x, scale, -11.0, form="atb")[0] == 1
    assert quantize_static(x, scale, -11.0, form="atb_kernel")[0] == 0
    assert quantize_static(x, scale, -11.0, numerics="k310p")[0] == 0
    assert quantize_static(x, scale, -11.0, numerics="sat")[0] == 1


def test_worked_static_linear_activations():
    q = quantize_static(F32([0.5, -1, 2, 3]), F32([0.015686275]), F32([-64]))
    assert q.tolist() == [-32, -128, 63, 127]


def clipped(value):
    return min(max(round(value), -128), 127)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.floats(-60000, 60000, width=16), st.floats(2.0**-10, 8, width=16), st.integers(-128, 127))
def test_every_form_equals_exact_arithmetic(exact, x, scale, offset):
    args = F16([x]), F16([scale])
    ratio, r = Fraction(x) / Fraction(scale), exact.float32(1 / Fraction(scale))
    single, half = exact.float32(ratio), exact.float16(ratio)
    assert quantize_static(*args, offset)[0] == clipped(exact.float32(single + offset))
    assert quantize_static(*args, offset, form="atb")[0] == clipped(round(single) + offset)
    product = exact.float32(exact.float32(Fraction(x) * r) + offset)
    assert quantize_static(args[0], F32([r]), offset, form="mul")[0] == clipped(product)
    if not isinstance(half, float):
        shifted = exact.float16(half + offset)
        limited = min(max(shifted, Fraction(-128)), Fraction(127))
        assert quantize_static(*args, offset, form="atb_kernel")[0] == clipped(limited)


def test_forms_stay_within_one_code_of_each_other():
    x = np.random.default_rng(0).normal(size=20000).astype(F16) * F16(3)
    scale = F16(0.0771)
    codes = [quantize_static(x, scale, -11.0, form=f).astype(int) for f in ("div", "atb")]
    codes.append(quantize_static(x, scale, -11.0, form="atb_kernel").astype(int))
    assert max(np.abs(c - codes[0]).max() for c in codes) <= 1


@pytest.mark.parametrize("kind", [F16, BF16, F32])
def test_runtime_scale_is_rounded_in_the_model_dtype(kind, exact):
    r, z = runtime_scale(F32([0.0123]), F32([-5]), kind)
    assert (r.dtype, z.dtype, float(z[0])) == (kind, kind, -5.0)
    rounding = {F16: exact.float16, BF16: exact.bfloat16, F32: exact.float32}[kind]
    assert float(r[0]) == rounding(1 / rounding(Fraction(float(F32(0.0123)))))


def test_dtype_of_every_form():
    x, s = np.ones(2, F16), np.ones(1, F16)
    kinds = {name: form(x, s, 1.0, -128, 127).dtype for name, form in FORMS.items()}
    assert kinds == {"div": F32, "mul": F32, "atb": F32, "atb_kernel": F16}
    assert quantize_static(x, s).dtype == np.int8


def test_range_nan_empty_and_errors():
    x = F32([1e9, -1e9, np.inf, -np.inf, np.nan])
    assert quantize_static(x, F32([1])).tolist() == [127, -128, 127, -128, 0]
    assert quantize_static(x, F32([1]), low=-127).tolist()[1] == -127
    assert quantize_static(x[:3], F32([1]), low=-8, high=7).tolist() == [7, -8, 7]
    assert quantize_static(x, F32([1]), form="atb_kernel").tolist() == [127, -128, 127, -128, 0]
    assert quantize_static(np.zeros((0, 4), F16), F32([1])).shape == (0, 4)
    with pytest.raises(ValueError, match="form"):
        quantize_static(x, F32([1]), form="round")
