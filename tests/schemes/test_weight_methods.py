"""Weights by a method other than min-max: whose arithmetic, and what is refused."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from slimspec import schemes
from slimspec.quantize.ssz import quantize_ssz
from slimspec.schemes import Linear

ONE_SCALE_PER_ROW = ("W8A16", "W8A8_DYNAMIC", "W4A8_DYNAMIC", "W4A4_DYNAMIC")


def linear(dtype: np.dtype | type = np.float32, rows: int = 16) -> Linear:
    w = np.random.default_rng(7).standard_normal((rows, 48))
    return Linear(w.astype(dtype), None, "model.layers.0.mlp.up_proj")


@pytest.mark.parametrize("label", ONE_SCALE_PER_ROW)
def test_ssz_gives_its_integers_and_a_smaller_error_than_minmax(label: str) -> None:
    scheme, x = schemes.get(label), linear()
    found = scheme.quantize(x, variant="v1", method="ssz")
    expected = quantize_ssz(x.weight, bits=scheme.bits)
    assert np.array_equal(found.weight, expected.q)
    plain = scheme.quantize(x, variant="v1")
    errors = [
        float(((scheme.dequantize(q) - x.weight) ** 2).sum(dtype=np.float64))
        for q in (found, plain)
    ]
    assert errors[0] < errors[1]


def test_static_ssz_decides_by_errors_in_the_dtype_of_the_weight() -> None:
    x = linear(ml_dtypes.bfloat16, rows=256)
    ends = tuple(np.array([end], x.weight.dtype) for end in (-3, 5))
    found = schemes.get("W8A8").quantize(x, variant="v1", method="ssz", activation_range=ends)
    narrow = quantize_ssz(x.weight, error_dtype=ml_dtypes.bfloat16)
    wide = quantize_ssz(x.weight, error_dtype=np.float32)
    assert np.array_equal(found.weight, narrow.q)
    assert not np.array_equal(narrow.q, wide.q)


@pytest.mark.parametrize("label", ["W8A8_DYNAMIC", "W4A8_DYNAMIC"])
def test_dynamic_ssz_decides_by_errors_in_the_dtype_of_what_passes(label: str) -> None:
    scheme, x = schemes.get(label), linear(ml_dtypes.bfloat16, rows=256)
    narrow, wide = (
        quantize_ssz(x.weight, bits=scheme.bits, error_dtype=dtype)
        for dtype in (ml_dtypes.bfloat16, np.float32)
    )
    assert not np.array_equal(narrow.q, wide.q)
    for given, expected in ((None, wide), (np.float32, wide), (ml_dtypes.bfloat16, narrow)):
        found = scheme.quantize(x, variant="v1", method="ssz", error_dtype=given)
        assert np.array_equal(found.weight, expected.q)
    with pytest.raises(ValueError, match="does not take error_dtype"):
        schemes.get("W8A8_MXFP8").quantize(x, variant="v1", error_dtype=np.float32)


@pytest.mark.parametrize(
    ("label", "options"),
    [
        ("W8A16", {"variant": "v0"}),
        ("W8A16", {"variant": "v1", "group_size": 16}),
        ("W8A16", {"variant": "v1", "symmetric": False}),
        ("W8A8_DYNAMIC", {"variant": "v1", "per_tensor": True}),
    ],
)
def test_ssz_is_refused_for_what_no_producer_has(label: str, options: dict) -> None:
    with pytest.raises(ValueError, match="ssz makes symmetric scales per row"):
        schemes.get(label).quantize(linear(), method="ssz", **options)


def test_two_levels_are_refused_with_another_method() -> None:
    with pytest.raises(ValueError, match="two levels are made by minmax, not ssz"):
        schemes.get("W4A8_DYNAMIC").quantize(linear(), variant="v0", group_size=16, method="ssz")


def test_unknown_method_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="method 'fouroversix', expected one of minmax, ssz"):
        schemes.get("W8A16").quantize(linear(), variant="v1", method="fouroversix")
