"""Folding leaves the output unchanged: proven against float64, with a derived bound."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from slimspec.smooth.fold import (
    Affine,
    fold_consumer,
    fold_norm,
    fold_producer,
    fuse_norm,
    shift_consumer,
    shift_producer,
    value_rows_scale,
)

RNG = np.random.default_rng(0)
K, N, T = 24, 10, 5


def _normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("variant", ["v0", "v1"])
def test_norm_and_its_linears_give_the_same_output(variant: str) -> None:
    x, g, b, w = _normal(T, K), _normal(K), _normal(K), _normal(N, K)
    s = np.exp(_normal(K))
    norm = fold_norm(Affine(g, b), s, variant)
    assert norm.bias is not None
    before = (x.astype(np.float64) * g + b) @ w.T.astype(np.float64)
    after = (x.astype(np.float64) * norm.weight + norm.bias) @ fold_consumer(w, s).T.astype(
        np.float64
    )
    reach = (np.abs(x.astype(np.float64) * g) + np.abs(b)) @ np.abs(w).T
    # Each folded number is rounded once (v0) or twice (v1), its partner once: 3 · 2^-24.
    assert (np.abs(after - before) <= reach * 4 * 2.0**-24).all()


@pytest.mark.parametrize("variant", ["v0", "v1"])
def test_producer_and_consumer_give_the_same_output(variant: str) -> None:
    x, w1, b1, w2 = _normal(T, K), _normal(N, K), _normal(N), _normal(4, N)
    s = np.exp(_normal(N))
    first = fold_producer(Affine(w1, b1), s, variant)
    assert first.bias is not None
    wide = x.astype(np.float64)
    before = (wide @ w1.T + b1) @ w2.T.astype(np.float64)
    after = (wide @ first.weight.T + first.bias) @ fold_consumer(w2, s).T.astype(np.float64)
    reach = (np.abs(wide) @ np.abs(w1).T + np.abs(b1)) @ np.abs(w2).T
    assert (np.abs(after - before) <= reach * 4 * 2.0**-24).all()


def test_powers_of_two_fold_without_any_rounding_in_every_dtype() -> None:
    for dtype in (np.float32, np.float16, ml_dtypes.bfloat16):
        w = _normal(N, K).astype(dtype)
        s = np.exp2(np.arange(K) % 3 - 1).astype(dtype)
        for variant in ("v0", "v1"):
            norm = fold_norm(Affine(w[0], None), s, variant)
            assert (norm.weight * s == w[0]).all()
            assert norm.bias is None
        assert (fold_consumer(w, s) / s == w).all()
        assert fold_consumer(w, s).dtype == np.dtype(dtype)


def test_variants_differ_in_the_last_bit_of_bfloat16() -> None:
    w = np.linspace(1, 2, 64).astype(ml_dtypes.bfloat16)
    s = np.full(64, 3, ml_dtypes.bfloat16)
    divided = fold_norm(Affine(w, None), s, "v0").weight
    multiplied = fold_norm(Affine(w, None), s, "v1").weight
    assert (divided != multiplied).any()
    assert np.abs(divided.astype(np.float64) - multiplied.astype(np.float64)).max() <= 2.0**-8


def test_shift_moves_into_the_bias() -> None:
    x, w1, w2, shift = _normal(T, K), _normal(N, K), _normal(4, N), _normal(N)
    s = np.exp(_normal(N))
    first = shift_producer(Affine(w1, None), shift, s)
    second = shift_consumer(Affine(w2, None), shift)
    wide = x.astype(np.float64)
    before = (wide @ w1.T) @ w2.T.astype(np.float64)
    hidden = wide @ first.weight.T + first.bias
    after = hidden @ fold_consumer(w2, s).T.astype(np.float64) + second.bias
    reach = (np.abs(wide) @ np.abs(w1).T + 2 * np.abs(shift)) @ np.abs(w2).T
    # As above; shift·Wᵀ is a float32 sum of N terms.
    assert (np.abs(after - before) <= reach * (4 + N) * 2.0**-24).all()


@pytest.mark.parametrize(
    ("rows", "kv_heads", "leading"),
    [(8, 4, 0), (24, 4, 16), (4, 2, 0), (16, 2, 12)],
)
def test_value_rows_are_found_by_size(rows: int, kv_heads: int, leading: int) -> None:
    scale = np.arange(1, 9, dtype=np.float32)  # 4 heads of 2
    o, row = value_rows_scale(scale, rows, 4)
    assert row.size == rows
    assert (row[:leading] == 1).all()
    group = 4 // kv_heads
    mean = scale.reshape(kv_heads, group, 2).mean(axis=1)
    assert (row[leading:] == mean.reshape(-1)).all()
    assert (o.reshape(kv_heads, group, 2) == mean[:, None]).all()


@pytest.mark.parametrize("rows", [3, 9, 0])
def test_rows_of_no_known_projection_are_refused(rows: int) -> None:
    with pytest.raises(ValueError, match="rows"):
        value_rows_scale(np.ones(8, np.float32), rows, 4)


def test_fused_norm_weight_is_taken_over_by_the_linear() -> None:
    w, g = _normal(N, K).astype(np.float16), _normal(K).astype(np.float16)
    expected = w.astype(np.float32) * g.astype(np.float32)
    assert (fuse_norm(w, g) == expected.astype(np.float16)).all()


def test_shift_of_a_consumer_is_the_sum_rounded_once() -> None:
    rng = np.random.default_rng(8)
    w, shift = rng.standard_normal((5, 90)).astype(np.float32), rng.standard_normal(90)
    shift = shift.astype(np.float32)
    exact = [np.float32(math.fsum(map(float, row))) for row in w.astype(np.float64) * shift]
    assert shift_consumer(Affine(w, None), shift).bias.tolist() == exact
