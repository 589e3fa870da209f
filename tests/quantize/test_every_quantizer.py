"""What holds for every weight quantizer: zeros, extremes, small scales, row order, bad values."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.quantize.affine import dequantize_rows, quantize
from slimspec.quantize.autoround import apply_asymmetric, apply_symmetric
from slimspec.quantize.fp8 import quantize_fp8
from slimspec.quantize.gptq import quantize_gptq
from slimspec.quantize.hqq import quantize_hqq
from slimspec.quantize.minmax import IntegerWeight, quantize_minmax
from slimspec.quantize.mse import quantize_mse
from slimspec.quantize.mxfp4 import quantize_mxfp4, quantize_mxfp4_dualscale
from slimspec.quantize.mxfp8 import quantize_mxfp8
from slimspec.quantize.nf4 import quantize_nf4
from slimspec.quantize.ssz import quantize_ssz
from slimspec.quantize.weight_lowbit import quantize_lowbit_groups, quantize_two_level

K, G = 64, 32
F32 = np.float32
quick = settings(derandomize=True, deadline=None, max_examples=12)
Quantizer = Callable[..., IntegerWeight]


def gptq(w: np.ndarray, **options: object) -> IntegerWeight:
    x = np.random.default_rng(1).standard_normal((96, w.shape[1])).astype(F32)
    return quantize_gptq(w, [x], bits=4, symmetric=True, variant="v1", **options)


def minmax(**options: object) -> Quantizer:
    return partial(quantize_minmax, **options)


INTEGERS: dict[str, Quantizer] = {
    "min-max int8 v0": minmax(bits=8, symmetric=True, variant="v0"),
    "min-max int8 v1": minmax(bits=8, symmetric=True, variant="v1"),
    "min-max int4 asymmetric v0": minmax(bits=4, symmetric=False, variant="v0"),
    "min-max int4 asymmetric v1": minmax(bits=4, symmetric=False, variant="v1"),
    "min-max int4 groups": minmax(
        bits=4, symmetric=True, variant="v1", granularity="group", group_size=G
    ),
    "min-max tensor": minmax(bits=8, symmetric=True, variant="v1", granularity="tensor"),
    "low-bit groups": partial(quantize_lowbit_groups, bits=4, group_size=G),
    "MSE": partial(quantize_mse, bits=4),
    "SSZ": partial(quantize_ssz, bits=4),
    "HQQ": partial(quantize_hqq, bits=4),
    "GPTQ": gptq,
}
OTHERS: dict[str, Callable[..., object]] = {
    "two levels": partial(quantize_two_level, group_size=G),
    "AutoRound": apply_symmetric,
    "AutoRound asymmetric": apply_asymmetric,
    "FP8": quantize_fp8,
    "MXFP8": quantize_mxfp8,
    "MXFP8 by error": partial(quantize_mxfp8, method="mse_round"),
    "MXFP4": quantize_mxfp4,
    "MXFP4 ceil_x": partial(quantize_mxfp4, method="ceil_x"),
    "MXFP4 four over six": partial(quantize_mxfp4, method="fouroversix"),
    "MXFP4 two scales": partial(quantize_mxfp4_dualscale, dual_block=K),
    "NF4": quantize_nf4,
}
ALL = {**INTEGERS, **OTHERS}
WHOLE = {"min-max tensor", "HQQ"}  # rows meet in one scale, or in one error that ends the search


def weight(seed: int, n: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, K)) * np.exp(rng.standard_normal((n, 1)))).astype(F32)


def values(made: IntegerWeight) -> np.ndarray:
    return dequantize_rows(made.q, made.scale, made.offset)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ALL)
def test_what_is_not_finite_is_refused_by_tensor_and_index(kind: str, bad: float) -> None:
    w = weight(0)
    w[2, 5] = bad
    with pytest.raises(ValueError, match=rf"q_proj: {bad} at index \(2, 5\)"):
        ALL[kind](w, name="q_proj")


@pytest.mark.parametrize("kind", INTEGERS)
@given(seed=st.integers(0, 9999))
@quick
def test_zero_maps_to_zero(kind: str, seed: int) -> None:
    w = weight(seed)
    w[:, ::5] = 0
    found = values(INTEGERS[kind](w))
    if kind == "GPTQ":  # a column carries the error of the ones before it
        assert not values(gptq(np.zeros_like(w))).any()
    else:
        assert not found[:, ::5].any()


@pytest.mark.parametrize("kind", INTEGERS)
@given(seed=st.integers(0, 9999))
@quick
def test_the_grid_maps_to_itself(kind: str, seed: int) -> None:
    made = INTEGERS[kind](weight(seed))
    groups = made.scale.shape[-1]
    view = values(made).reshape(-1, groups, K // groups)  # (n, groups, g)
    shape = (-1, groups, 1)
    bits = 8 if "int8" in kind or kind == "min-max tensor" else 4
    again = quantize(view, made.scale.reshape(shape), made.offset.reshape(shape), bits=bits)
    assert np.array_equal(again.reshape(made.q.shape), made.q)


@pytest.mark.parametrize("kind", sorted(INTEGERS.keys() - WHOLE))
@given(seed=st.integers(0, 9999))
@quick
def test_order_of_rows_does_not_matter(kind: str, seed: int) -> None:
    w = weight(seed)
    order = np.random.default_rng(seed).permutation(w.shape[0])
    made, turned = INTEGERS[kind](w), INTEGERS[kind](w[order])
    for part in ("q", "scale", "offset"):
        assert getattr(made, part)[order].tobytes() == getattr(turned, part).tobytes(), part


@pytest.mark.parametrize("kind", INTEGERS)
def test_rows_of_zeros_give_zeros(kind: str) -> None:
    w = weight(3)
    w[[0, 4]] = 0
    made = INTEGERS[kind](w)
    assert not values(made)[[0, 4]].any()
    assert np.isfinite(values(made)).all()


@pytest.mark.parametrize("kind", ["min-max int8 v0", "min-max int8 v1", "min-max tensor"])
def test_largest_floats_become_the_largest_codes(kind: str) -> None:
    w = np.zeros((2, K), F32)
    w[:, 0], w[:, 1] = np.finfo(F32).max, -np.finfo(F32).max
    made = INTEGERS[kind](w)
    assert made.q[:, :2].tolist() == [[127, -127]] * 2
    assert np.isfinite(made.scale).all()


@pytest.mark.parametrize("kind", INTEGERS)
def test_subnormal_weights_stay_finite(kind: str) -> None:
    made = INTEGERS[kind](np.full((3, K), 2.0**-140, F32))
    assert np.isfinite(made.scale).all()
    assert np.isfinite(values(made)).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 3), (3, 33)])
@pytest.mark.parametrize("kind", sorted(k for k in INTEGERS if "groups" not in k))
def test_odd_sizes_have_one_code_per_weight(kind: str, shape: tuple[int, int]) -> None:
    w = np.random.default_rng(4).standard_normal(shape).astype(F32)
    made = INTEGERS[kind](w)
    assert made.q.shape == shape
    assert made.q.dtype == np.int8
