"""The static epilogue: the worked example, both producers, and the ends of float16."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from slimspec.matmul.deq_word import parse_quant_param
from slimspec.quantize.affine import Variant
from slimspec.quantize.minmax import IntegerWeight
from slimspec.schemes import InputParams, Linear, Options, get
from slimspec.schemes.w8a8 import epilogue, to_int32

BF16 = np.dtype(ml_dtypes.bfloat16)
W = np.float32([[1, -2, 0.5, 0.25], [0.3, 0.6, -0.9, 1.2]])
B = np.float32([0.1, -0.2])
X = np.float32([[0.5, -1, 2, 3]])
RANGE = (np.float32(-1), np.float32(3))


@pytest.mark.parametrize("variant", ["v0", "v1"])
def test_worked_example(variant: str) -> None:
    """math.md 14, the numbers of the whole way."""
    w8a8 = get("W8A8")
    q = w8a8.quantize(Linear(W, B), variant=variant, activation_range=RANGE)  # type: ignore[arg-type]
    np.testing.assert_array_equal(q.need("input_scale"), np.float32([4 / 255]))
    np.testing.assert_array_equal(q.need("input_offset"), [-64])
    np.testing.assert_array_equal(q.weight, [[64, -127, 32, 16], [32, 64, -95, 127]])
    assert [hex(v) for v in q.need("deq_scale").view(np.uint32)] == ["0x39818388", "0x391b6aa3"]
    np.testing.assert_array_equal(q.need("quant_bias"), [-555, 6843])
    stored = w8a8.tensors(q, "A1", "F16")["deq_scale"]
    np.testing.assert_array_equal(stored, [964789128, 958098083])
    fp19 = parse_quant_param(stored).scale.view(np.uint32)
    assert [hex(v) for v in fp19] == ["0x39818000", "0x391b6000"]
    np.testing.assert_array_equal(
        w8a8.forward(q, X.astype(np.float16)), np.float16([[4.371, 1.151]])
    )


@pytest.mark.parametrize("dtype", [np.dtype(np.float16), BF16])
def test_product_of_scales_is_rounded_in_the_model_dtype_first(dtype: np.dtype) -> None:
    weight = IntegerWeight(np.ones((1, 2), np.int8), np.array([[0.00123]], dtype), None)  # type: ignore[arg-type]
    given = InputParams(np.array([0.0117], dtype), np.zeros(1, dtype))
    deq, _ = epilogue(weight, given, None, "v0")
    exact = float(weight.scale[0, 0]) * float(given.scale[0])
    assert deq[0] == np.array(exact, np.float32).astype(dtype).astype(np.float32)
    assert deq[0] != np.float32(exact)
    if dtype == np.float16:
        assert deq[0] < np.finfo(np.float16).smallest_normal  # a subnormal carries few bits


def test_bias_is_divided_in_float32_by_v0_and_in_the_model_dtype_by_v1() -> None:
    weight = IntegerWeight(np.zeros((1, 1), np.int8), np.array([[0.0021]], BF16), None)  # type: ignore[arg-type]
    given = InputParams(np.array([0.013], BF16), np.zeros(1, BF16))
    bias = np.array([0.777], BF16)
    deq, v0 = epilogue(weight, given, bias, "v0")
    _, v1 = epilogue(weight, given, bias, "v1")
    ratio = np.float32(bias[0]) / deq[0]
    assert v0[0] == np.rint(ratio)
    assert v1[0] == np.rint(np.array(ratio).astype(BF16).astype(np.float32))
    assert v0[0] != v1[0]


def test_row_sums_times_the_offset_are_taken_off_the_bias() -> None:
    rng = np.random.default_rng(0)
    q = rng.integers(-128, 128, (5, 33)).astype(np.int8)
    weight = IntegerWeight(q, np.ones((5, 1), np.float32), None)  # type: ignore[arg-type]
    given = InputParams(np.float32([1]), np.float32([-17]))
    _, found = epilogue(weight, given, None, "v1")
    np.testing.assert_array_equal(found, 17 * q.astype(np.int64).sum(axis=1))
    x = rng.integers(-128, 128, (3, 33))
    acc = x @ q.astype(np.int64).T
    np.testing.assert_array_equal(acc + found, (x + 17) @ q.astype(np.int64).T)


def test_overflow_to_infinity_gives_the_integer_the_files_have() -> None:
    """A float16 model whose bias / deq passes 65504 (defect D-31)."""
    weight = IntegerWeight(np.ones((1, 1), np.int8), np.float16([[1e-3]]), None)  # type: ignore[arg-type]
    given = InputParams(np.float16([1e-3]), np.float16([0]))
    _, found = epilogue(weight, given, np.float16([1]), "v1")
    assert found[0] == -(2**31)
    _, found = epilogue(weight, given, np.float16([1]), "v0")
    assert 0 < found[0] < 2**31 - 1


@pytest.mark.parametrize("variant", ["v0", "v1"])
def test_row_without_scale_gives_the_least_integer_with_or_without_bias(variant: Variant) -> None:
    """0 / 0 is NaN; the other row keeps -row sum · offset."""
    weight = IntegerWeight(np.int8([[0], [3]]), np.float32([[0], [1]]), None)  # type: ignore[arg-type]
    given = InputParams(np.float32([0.5]), np.float32([2]))
    for bias in (None, np.zeros(2, np.float32)):
        _, found = epilogue(weight, given, bias, variant)
        assert found.tolist() == [-(2**31), -6]


def test_conversion_to_int32_has_one_value_for_everything_that_does_not_fit() -> None:
    x = np.float32([0, -1, 2**31 - 128, -(2**31), 2**31, -(2**31) - 256, np.inf, -np.inf, np.nan])
    least = -(2**31)
    expected = [0, -1, 2**31 - 128, least, least, least, least, least, least]
    np.testing.assert_array_equal(to_int32(x), expected)


def test_one_weight_scale_gives_one_deq_scale() -> None:
    q = get("W8A8").quantize(Linear(W, B), variant="v0", per_tensor=True, activation_range=RANGE)
    assert q.need("weight_scale").shape == (1,)
    assert q.need("deq_scale").shape == (1,)
    assert q.need("quant_bias").shape == (2,)


def test_range_and_parameters_give_the_same_and_exactly_one_is_needed() -> None:
    w8a8 = get("W8A8")
    a = w8a8.quantize(Linear(W, B), variant="v1", activation_range=RANGE)
    params = InputParams(a.need("input_scale"), a.need("input_offset"))
    b = w8a8.quantize(Linear(W, B), variant="v1", input_params=params)
    assert a.need("quant_bias").tolist() == b.need("quant_bias").tolist()
    for both in ({}, {"activation_range": RANGE, "input_params": params}):
        with pytest.raises(ValueError, match="either activation_range or input_params"):
            w8a8.quantize(Linear(W, B), variant="v1", **both)  # type: ignore[arg-type]


def test_v0_narrows_a_float32_range_of_a_bfloat16_model() -> None:
    source = Linear(W.astype(BF16), B.astype(BF16))
    v0 = get("W8A8").quantize(source, variant="v0", activation_range=RANGE)
    v1 = get("W8A8").quantize(source, variant="v1", activation_range=RANGE)
    assert v0.need("input_scale").dtype == BF16
    assert v1.need("input_scale").dtype == np.float32


def test_weight_scale_is_recovered_where_a_profile_does_not_store_it() -> None:
    w8a8 = get("W8A8")
    q = w8a8.quantize(Linear(W, B), variant="v1", activation_range=RANGE)
    read = w8a8.from_tensors(w8a8.tensors(q, "A1", "F32"), "A1")
    assert read.weight_scale is None
    # two more roundings, of the quotient and of the product behind deq_scale: 2^-23 together
    np.testing.assert_allclose(w8a8.dequantize(read), w8a8.dequantize(q), rtol=2.0**-23)


def test_solved_integers_can_be_assembled() -> None:
    weight = IntegerWeight(np.int8([[1, 2]]), np.float32([[0.5]]), np.float32([[0]]))
    options = Options("v1", input_params=InputParams(np.float32([2]), np.float32([3])))
    q = get("W8A8").assemble(Linear(np.float32([[0.5, 1]])), weight, options)
    assert q.need("deq_scale").tolist() == [1]
    assert q.need("quant_bias").tolist() == [-9]


def test_mix_adds_the_weight_scale_and_a_prefill_path() -> None:
    mix = get("W8A8_MIX")
    q = mix.quantize(Linear(W, B), variant="v1", activation_range=RANGE)
    made = mix.tensors(q, "A1", "BF16")
    assert made["weight_scale"].dtype == np.float32
    assert made["weight_scale"].shape == (2, 1)
    assert (made["weight_offset"] == 0).all()
    dynamic = get("W8A8_DYNAMIC").quantize(Linear(W, B), variant="v1")
    expected = get("W8A8_DYNAMIC").forward(dynamic, X)
    np.testing.assert_array_equal(mix.prefill(q, X), expected)  # type: ignore[attr-defined]
