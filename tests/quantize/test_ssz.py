"""SSZ against its normal equations and against min-max."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.quantize.affine import dequantize
from slimspec.quantize.minmax import quantize_minmax
from slimspec.quantize.ssz import quantize_ssz

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]


def _error(w: np.ndarray, made) -> np.ndarray:
    x = dequantize(made.q, made.scale, made.offset).astype(np.float64)
    return ((w.astype(np.float64) - x) ** 2).mean(axis=1)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 999), st.integers(1, 6), st.integers(1, 70), st.sampled_from([4, 8]))
def test_no_row_is_worse_than_min_max(seed: int, n: int, k: int, bits: int) -> None:
    w = np.random.default_rng(seed).standard_t(3, (n, k)).astype(np.float32)
    start, made = quantize_minmax(w, bits=bits, variant="v1"), quantize_ssz(w, bits=bits)
    # Errors are compared in float32: k squares and their sum, (k + 2)·2^-24 relative.
    slack = 1 + (k + 2) * 2.0**-23
    assert (_error(w, made) <= _error(w, start) * slack + 1e-30).all()
    assert made.q.min() >= -(2 ** (bits - 1))
    assert made.q.max() <= 2 ** (bits - 1) - 1


def test_converged_scale_solves_the_normal_equation_of_its_codes() -> None:
    w = np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32)
    made = quantize_ssz(w, bits=4, steps=200)
    q, wide = made.q.astype(np.float64), w.astype(np.float64)
    exact = (wide * q).sum(axis=1) / (q * q).sum(axis=1)
    moved = np.abs(made.scale[:, 0] - exact) / exact
    assert (moved < 0.02).all()  # a step further changes no row's error by 1e-10


def test_one_step_is_one_least_squares_update() -> None:
    w = np.float32([[1.0, -0.25, 0.5, 0.1]])
    start = quantize_minmax(w, bits=4, variant="v1")
    q = start.q.astype(np.float64)
    once = quantize_ssz(w, bits=4, steps=1)
    expected = (w * q).sum() / (q * q).sum()
    assert abs(once.scale[0, 0] - expected) <= expected * 4 * 2.0**-24  # 3 sums and a division


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_are_independent_and_layout_does_not_matter(dtype: type) -> None:
    w = np.random.default_rng(1).standard_normal((7, 33)).astype(dtype)
    made, turned = quantize_ssz(w), quantize_ssz(np.asfortranarray(w[::-1]))
    assert (turned.q[::-1] == made.q).all()
    assert (turned.scale[::-1] == made.scale).all()
    assert made.scale.dtype == np.dtype(dtype)
    assert made.scale.shape == made.offset.shape == (7, 1)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_row_of_zeros_keeps_the_smallest_scale_and_codes_zero(dtype: type) -> None:
    made = quantize_ssz(np.zeros((2, 8), dtype))
    assert (made.q == 0).all()
    assert (made.scale.astype(np.float64) == 2.0**-23).all()


def test_row_of_zeros_in_float16_has_no_scale_as_in_the_producer() -> None:
    w = np.zeros((2, 8), np.float16)
    w[1] = 1
    made = quantize_ssz(w)
    assert np.isnan(made.scale[0, 0])
    assert (made.q[0] == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_with_name_and_index(bad: float) -> None:
    w = np.zeros((2, 3), np.float32)
    w[1, 2] = bad
    with pytest.raises(ValueError, match=r"q_proj.*\(1, 2\)"):
        quantize_ssz(w, name="q_proj")


def _float16_rounds(w: np.ndarray, rounds: int) -> np.ndarray:
    """The scales [n] of SSZ on float16 rows that stops only when every row got worse."""
    half = np.float16

    def codes(scale: np.ndarray) -> np.ndarray:
        return np.clip(np.rint(w / scale), -8, 7).astype(half)

    def error(q: np.ndarray, scale: np.ndarray) -> np.ndarray:
        lost = np.abs(w - q * scale)
        return (lost * lost).astype(np.float64).mean(axis=1).astype(half)[:, None]

    def total(x: np.ndarray) -> np.ndarray:
        return x.astype(np.float64).sum(axis=1).astype(half)[:, None]

    scale = best = np.abs(w).max(axis=1, keepdims=True) / half(7)
    q = codes(scale)
    least = error(q, scale)
    for _ in range(rounds):
        scale = total(w * q) / total(q * q)
        q = codes(scale)
        found = error(q, scale)
        if (found > least).all():
            break
        best, least = np.where(found < least, scale, best), np.minimum(found, least)
    return best


@pytest.mark.parametrize("seed", range(10, 18))
def test_float16_goes_on_while_a_row_stays_as_it_is(seed: int) -> None:
    w = np.random.default_rng(seed).standard_t(3, (3, 70)).astype(np.float16)
    made = quantize_ssz(w, bits=4, steps=20, error_dtype=np.float16)
    assert (made.scale == _float16_rounds(w, 20)).all()
