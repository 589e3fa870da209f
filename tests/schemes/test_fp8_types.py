"""WFP8AFP8_DYNAMIC: E4M3 weights per row, judged by ml_dtypes and exact sums."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec import layout, schemes
from slimspec.schemes import Linear

SCHEME = schemes.get("WFP8AFP8_DYNAMIC")
DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]


def weights(seed: int, n: int, k: int, dtype=np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, k), np.float32).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensor_set_and_dtypes(dtype) -> None:
    q = SCHEME.quantize(Linear(weights(1, 4, 40, dtype), np.ones(4, dtype)), variant="v1")
    written = SCHEME.tensors(q, "A1", "F32")
    assert {s: (t.dtype, t.shape) for s, t in written.items()} == {
        "weight": (ml_dtypes.float8_e4m3fn, (4, 40)),
        "weight_scale": (np.float32, (4, 1)),
        "weight_offset": (np.float32, (4, 1)),
        "bias": (np.float32, (4,)),
    }
    assert not written["weight_offset"].any()


@given(seed=st.integers(0, 10**6), n=st.integers(1, 5), k=st.integers(1, 70))
@settings(derandomize=True, deadline=None, max_examples=40)
def test_error_is_at_most_a_sixteenth_or_half_the_least_step(seed, n, k) -> None:
    """Normal values keep 3 bits (half a step: 2^-4 of the value), subnormal ones half of 2^-9.

    The quotient and the product are each rounded to float32: 1e-6 covers both.
    """
    w = weights(seed, n, k)
    q = SCHEME.quantize(Linear(w), variant="v1")
    bound = np.maximum(np.abs(w) * 2.0**-4, q.weight_scale * 2.0**-10) * (1 + 1e-6)
    assert (np.abs(SCHEME.dequantize(q) - w) <= bound).all()


def test_largest_value_of_a_row_is_code_448() -> None:
    w = weights(2, 6, 33)
    q = SCHEME.quantize(Linear(w), variant="v1")
    at = np.abs(w).argmax(axis=1)[:, None]
    top = np.take_along_axis(q.weight.astype(np.float32), at, axis=1)
    assert (np.abs(top) == 448).all()


def test_zero_row_keeps_a_positive_scale_in_float32() -> None:
    w = weights(2, 3, 16)
    w[1] = 0
    q = SCHEME.quantize(Linear(w), variant="v1")
    assert (q.weight_scale > 0).all()
    assert not SCHEME.dequantize(q)[1].any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_keeps_the_dtype_and_tokens_of_zeros(dtype) -> None:
    bias = np.arange(5).astype(dtype)
    q = SCHEME.quantize(Linear(weights(3, 5, 32, dtype), bias), variant="v1")
    x = weights(4, 3, 32, dtype)
    x[1] = 0
    y = SCHEME.forward(q, x)
    assert y.dtype == dtype
    assert (y[1] == bias).all()


def test_forward_is_the_exact_sum_with_two_scales() -> None:
    q = SCHEME.quantize(Linear(weights(5, 3, 64)), variant="v1")
    x = weights(6, 2, 64)
    amax = np.abs(x).max(axis=1, keepdims=True)
    token = amax / np.float32(448)
    x8 = np.clip(x / token, -448, 448).astype(ml_dtypes.float8_e4m3fn)
    y = SCHEME.forward(q, x)
    for i in range(2):
        for j in range(3):
            pairs = zip(x8[i].astype(float), q.weight[j].astype(float), strict=True)
            exact = sum(Fraction(a) * Fraction(b) for a, b in pairs)
            acc = np.float32(float(exact))  # |exact| < 2^24 · 2^-18 steps: float64 holds it
            assert y[i, j] == acc * q.weight_scale[j, 0] * token[i, 0]


def test_other_profiles_do_not_write_it() -> None:
    q = SCHEME.quantize(Linear(weights(1, 2, 16)), variant="v1")
    with pytest.raises(layout.LayoutError, match="not written by MF"):
        SCHEME.tensors(q, "MF", "F32")


@pytest.mark.parametrize("options", [{"group_size": 16}, {"per_tensor": True}, {"method": "x"}])
def test_options_of_other_types_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="does not take"):
        SCHEME.quantize(Linear(weights(1, 2, 32)), variant="v1", **options)
