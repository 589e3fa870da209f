"""W8A8S, W8A8SC, W16A16S, W16A16SC: tensor sets, narrow dtypes, the same numbers in both forms."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec import layout, schemes
from slimspec.checkpoint.dtypes import tag_of
from slimspec.quantize.minmax import IntegerWeight
from slimspec.schemes import Linear, QuantizedLinear
from slimspec.schemes.records import InputParams, Options
from slimspec.schemes.w8a8sc import W8A8SC, narrow_offset, narrow_scale
from slimspec.schemes.w16a16sc import W16A16SC, outdim
from slimspec.sparse.lowbit import LowBitOptions, w8a8s_weight

F16 = np.dtype(np.float16)
COMPRESSED = W8A8SC()
COMPRESSED_FLOAT = W16A16SC()


def sparse_int8(n: int, k: int, bias: bool = True) -> QuantizedLinear:
    """A W8A8S linear as a sparse solver gives it: outliers past 7, its scale beside."""
    rng = np.random.default_rng(n * 1000 + k)
    q = np.clip(np.rint(rng.standard_normal((n, k)) * 5), -128, 127).astype(np.int8)
    weight = IntegerWeight(q, np.full((n, 1), 0.01, F16), np.zeros((n, 1), F16))
    given_bias = rng.standard_normal(n).astype(F16) if bias else None
    linear = Linear(rng.standard_normal((n, k)).astype(F16), given_bias, "x.up_proj")
    params = InputParams(np.array([0.125], F16), np.array([-7], F16))
    return schemes.get("W8A8S").assemble(linear, weight, Options("v0", input_params=params))


def sparse_float(n: int, k: int) -> QuantizedLinear:
    rng = np.random.default_rng(n * 1000 + k)
    w = rng.standard_normal((n, k)).astype(F16)
    w[rng.random((n, k)) < 0.4] = 0
    linear = Linear(w, rng.standard_normal(n).astype(F16), "x.up_proj")
    return schemes.get("W16A16S").quantize(linear, variant="v1")


def test_sparse_integers_are_kept_and_no_weight_scale_is_stored() -> None:
    q = sparse_int8(8, 64)
    assert q.weight_scale is None
    assert np.abs(q.weight).max() > 7
    made = schemes.get("W8A8S").tensors(q, "A0", "F16")
    assert set(made) == {
        "weight", "input_scale", "input_offset", "quant_bias", "deq_scale", "bias",
    }  # fmt: skip
    assert made["deq_scale"].dtype == np.int64
    # deq_scale = input_scale · weight_scale rounded to float16: math.md 4.1
    expected = np.full(8, np.float16(0.125) * np.float16(0.01)).astype(np.float32)
    np.testing.assert_array_equal(q.need("deq_scale"), expected)


def test_plain_form_uses_the_grid_of_four_bits() -> None:
    w = np.random.default_rng(0).standard_normal((6, 32)).astype(F16)
    lo, hi = np.array(-1, F16), np.array(1, F16)
    q = schemes.get("W8A8S").quantize(Linear(w), variant="v0", activation_range=(lo, hi))
    assert np.abs(q.weight).max(axis=1).tolist() == [7] * 6


@pytest.mark.parametrize("bias", [True, False])
def test_compressed_tensor_set_is_the_one_of_the_layout(bias: bool) -> None:
    q = COMPRESSED.from_sparse(sparse_int8(20, 40, bias))
    made = COMPRESSED.tensors(q, "SC", "F16")
    rules = layout.rules("W8A8SC", "SC")
    required = {s for s, rule in rules.items() if rule.presence == "required"}
    assert set(made) == required | ({"bias"} if bias else set())
    for suffix, array in made.items():
        assert tag_of(array.dtype) in rules[suffix].resolve_dtypes("F16"), suffix
    assert layout.bind(rules, {s: a.shape for s, a in made.items()}).ok
    assert made["info"].tolist() == [8, 8, 40, 20, 1]
    assert made["input_scale"].dtype == F16
    assert made["input_offset"].dtype == np.int8


def test_compressed_float_tensor_set_is_the_one_of_the_layout() -> None:
    made = COMPRESSED_FLOAT.tensors(COMPRESSED_FLOAT.from_sparse(sparse_float(20, 40)), "SC", "F16")
    assert set(made) == {"weight", "index", "info", "bias"}
    assert made["info"].tolist() == [8, 8, 80, 20, 1]  # k in bytes
    assert outdim("x.weight", 20) == {"x.weight.outdim": 20}


@settings(derandomize=True, deadline=None, max_examples=30)
@given(n=st.integers(1, 40), k=st.integers(1, 70))
def test_compressed_linear_reads_back_and_computes_the_same(n: int, k: int) -> None:
    x = np.random.default_rng(n).standard_normal((3, k)).astype(np.float32)
    for source, target in ((sparse_int8(n, k), COMPRESSED), (sparse_float(n, k), COMPRESSED_FLOAT)):
        dense = schemes.get(source.label)
        read = target.from_tensors(
            target.tensors(target.from_sparse(source), "SC", "F16"), "SC", source.name
        )
        assert read.label == target.label
        assert read.weight.dtype == source.weight.dtype
        np.testing.assert_array_equal(read.weight, source.weight)
        assert target.forward(read, x).tobytes() == dense.forward(source, x).tobytes()
        assert target.dequantize(read).tobytes() == dense.dequantize(source).tobytes()


def test_broken_stream_is_named_with_the_linear_and_its_tile() -> None:
    made = COMPRESSED.tensors(COMPRESSED.from_sparse(sparse_int8(16, 32)), "SC", "F16")
    made["index"] = np.zeros_like(made["index"])
    with pytest.raises(ValueError, match=r"x\.up_proj\.weight: tile 0, bit 0: data-length"):
        COMPRESSED.from_tensors(made, "SC", "x.up_proj")


@pytest.mark.parametrize("suffix", ["weight", "index", "info", "deq_scale", "input_scale"])
def test_missing_tensor_is_named(suffix: str) -> None:
    made = COMPRESSED.tensors(COMPRESSED.from_sparse(sparse_int8(16, 32)), "SC", "F16")
    del made[suffix]
    with pytest.raises(ValueError, match=f"x: W8A8SC needs {suffix} in profile SC"):
        COMPRESSED.from_tensors(made, "SC", "x")


def test_only_float16_weights_are_compressed_as_floats() -> None:
    bf16 = np.zeros((4, 8), ml_dtypes.bfloat16)
    q = schemes.get("W16A16S").quantize(Linear(bf16, name="x"), variant="v1")
    with pytest.raises(ValueError, match=r"x\.weight: found bfloat16, expected float16"):
        COMPRESSED_FLOAT.from_sparse(q)


@pytest.mark.parametrize("value", range(-128, 128))
def test_every_int8_offset_is_exact(value: int) -> None:
    for dtype in (np.float16, np.float32, ml_dtypes.bfloat16):
        assert narrow_offset(np.array([value], dtype)).tolist() == [value]
    assert narrow_offset(np.array([value], np.int8)).tolist() == [value]


@pytest.mark.parametrize("value", [128, -129, 0.5, np.nan, np.inf, -np.inf, 1e30])
def test_offset_that_is_no_int8_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="expected an integer in"):
        narrow_offset(np.array([value], np.float32))


def test_scale_is_rounded_once_to_nearest_even() -> None:
    half = np.float32(1 + 2.0**-11)  # between 1 and the next float16: even is 1
    assert narrow_scale(np.array([half])).tolist() == [1.0]
    assert narrow_scale(np.array([np.nextafter(half, np.float32(2))])).tolist() == [1 + 2.0**-10]


@pytest.mark.parametrize("value", [1e-9, 1e6, np.nan, np.inf, 0])
def test_scale_outside_float16_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="expected a scale that float16 can hold"):
        narrow_scale(np.array([value], np.float32))


def test_low_bit_weights_are_those_of_the_solver_and_have_outliers() -> None:
    rng = np.random.default_rng(3)
    w = rng.standard_normal((16, 64)).astype(F16)
    w[:, 0] *= 9
    lo, hi = np.array(-1, F16), np.array(1, F16)
    q = schemes.get("W8A8S").quantize(
        Linear(w, name="x"), variant="v0", activation_range=(lo, hi), method="lowbit"
    )
    solved = w8a8s_weight(w, LowBitOptions(use_sigma=True))
    np.testing.assert_array_equal(q.weight, solved.q)
    assert np.abs(q.weight).max() > 7
    with pytest.raises(ValueError, match="method 'gptq': expected minmax or lowbit"):
        schemes.get("W8A8S").quantize(
            Linear(w, name="x"), variant="v0", activation_range=(lo, hi), method="gptq"
        )
