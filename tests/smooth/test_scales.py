"""Smoothing scales, the alpha-beta search and the quantizers inside it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.smooth.fake_quant import fake_int8_rows, fake_int8_tensor, row_codes
from slimspec.smooth.flex import FlexLoss, alpha_curve, grid, search_alpha, search_alpha_beta
from slimspec.smooth.scales import (
    absmax,
    grouped_max_scale,
    grouped_mean,
    signed_weight_scale,
    smooth_scale,
    weight_scale,
)

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]


def _pair(seed: int = 0, k: int = 48) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((40, k)).astype(np.float32)
    x[:, 3] *= np.float32(40)  # an outlier channel
    return x, rng.standard_normal((12, k)).astype(np.float32)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 999), st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]))
def test_scale_is_the_quotient_of_powers_and_never_below_the_smallest(
    seed: int, alpha: float
) -> None:
    rng = np.random.default_rng(seed)
    a, w = (rng.uniform(0, 3, 40).astype(np.float32) for _ in range(2))
    w = np.maximum(w, np.float32(1e-5))
    s = smooth_scale(a, w, alpha)
    exact = np.maximum(a.astype(np.float64) ** alpha / w.astype(np.float64) ** (1 - alpha), 1e-5)
    # Two powers within one digit, one division: 3 · 2^-23 with room for the rounded exponents.
    assert (np.abs(s - exact) <= exact * 6 * 2.0**-23).all()
    assert (s >= np.float32(1e-5)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_weight_scale_joins_linears_by_magnitude_and_the_signed_one_forgets_it(dtype: type) -> None:
    a, b = np.array([[1, -3], [0, 0]], dtype), np.array([[-2, 1]], dtype)
    assert weight_scale([a, b]).tolist() == [2, 3]
    least = np.array(1e-5, np.float32).astype(dtype)
    assert signed_weight_scale(a).tolist() == [1, least]
    assert weight_scale([a]).dtype == np.dtype(dtype)


def test_grouped_scales_repeat_per_query_head_and_refuse_sizes_that_do_not_divide() -> None:
    scale = np.float32([1, 2, 3, 4, 5, 6, 7, 8])  # 4 heads of 2, 2 kv heads
    o, v = grouped_mean(scale, 4, 2)
    assert v.tolist() == [2, 3, 6, 7]
    assert o.tolist() == [2, 3, 2, 3, 6, 7, 6, 7]
    o, v = grouped_max_scale(scale, np.ones(8, np.float32), 1.0, 0.0, 4, 2)
    assert (v.tolist(), o.tolist()) == ([3, 4, 7, 8], [3, 4, 3, 4, 7, 8, 7, 8])
    for heads, kv_heads in ((3, 1), (4, 3), (4, 0)):
        with pytest.raises(ValueError, match="divide"):
            grouped_mean(scale, heads, kv_heads)


def test_seven_sharing_heads_are_added_one_after_the_other() -> None:
    scale = np.random.default_rng(2).uniform(0.1, 9, 28 * 64).astype(np.float32)
    _, v = grouped_mean(scale, 28, 4)
    for i, group in enumerate(scale.reshape(4, 7, 64)):
        total = group[0]
        for head in group[1:]:
            total = (total.astype(np.float64) + head).astype(np.float32)
        assert (v[64 * i : 64 * i + 64] == total / np.float32(7)).all()


def test_as_many_kv_heads_as_heads_change_nothing() -> None:
    scale = np.random.default_rng(0).uniform(1, 2, 24).astype(np.float32)
    o, v = grouped_mean(scale, 4, 4)
    assert (o == scale).all()
    assert (v == scale).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_fake_rows_are_within_half_a_step_and_zeros_have_no_value(dtype: type) -> None:
    x = np.random.default_rng(1).standard_normal((5, 30)).astype(dtype)
    q, scale = row_codes(x)
    assert np.abs(q.astype(np.float64)).max() <= 127
    error = np.abs(fake_int8_rows(x).astype(np.float64) - x.astype(np.float64))
    eps = float(ml_dtypes.finfo(dtype).eps)
    # Half a step, and the roundings of the quotient (up to 127 steps) and of the product.
    assert (error <= scale.astype(np.float64) * (0.5 + 2 * 127 * eps)).all()
    with np.errstate(invalid="ignore"):
        assert np.isnan(fake_int8_rows(np.zeros((1, 3), dtype))).all()


def test_fake_tensor_neither_clips_nor_widens_to_zero() -> None:
    x = np.float32([[10, 11], [12, 13]])
    step = 3 / 255
    assert np.abs(fake_int8_tensor(x) - x).max() <= step / 2 * (1 + 1e-5)
    assert (fake_int8_tensor(np.zeros((2, 2), np.float32)) == 0).all()


def test_grid_is_of_exact_two_decimals() -> None:
    assert grid().tolist() == [round(i * 0.05, 2) for i in range(21)]
    with pytest.raises(ValueError, match="step"):
        grid(0)


def test_search_finds_the_smallest_loss_of_its_two_lines() -> None:
    loss = FlexLoss(*_pair())
    best = search_alpha_beta(loss)
    assert search_alpha(loss).loss == alpha_curve(loss).min()
    assert best.loss <= alpha_curve(loss).min()
    assert best.loss == min(loss(best.alpha, b) for b in grid())
    assert best.loss < 0.7 * loss(0.0, 0.0)  # smoothing pays on an outlier channel


def test_of_equal_losses_the_last_one_counts_and_beta_falls_back_to_zero() -> None:
    assert search_alpha_beta(lambda alpha, beta: 1.0).alpha == 1.0  # type: ignore[arg-type]
    odd = search_alpha_beta(lambda alpha, beta: alpha if beta == 1 - alpha else 9.0)  # type: ignore[arg-type]
    assert (odd.alpha, odd.beta, odd.loss) == (0.0, 1.0, 0.0)
    never = search_alpha_beta(lambda alpha, beta: float("nan"))  # type: ignore[arg-type]
    assert (never.alpha, never.beta) == (0.0, 0.0)


def test_v0_takes_no_loss_above_its_limit() -> None:
    def loss(alpha: float, beta: float) -> float:
        return 1.25 - alpha / 2

    assert search_alpha(loss).alpha == search_alpha(loss, limit=1.0).alpha == 1.0  # type: ignore[arg-type]
    refused = search_alpha(loss, limit=0.7)  # type: ignore[arg-type]
    assert (refused.alpha, refused.loss) == (0.0, 0.7)


def test_both_activation_quantizers_have_a_loss() -> None:
    x, w = _pair()
    per_token, per_tensor = (FlexLoss(x, w, act_symmetric=s)(0.5, 0.5) for s in (True, False))
    assert 0 < per_token < 0.1
    assert 0 < per_tensor < 0.1


def test_bad_operands_are_refused() -> None:
    x, w = _pair()
    with pytest.raises(ValueError, match="one dtype"):
        FlexLoss(x, w[:, :-1])
    with pytest.raises(ValueError, match="one dtype"):
        FlexLoss(x, w.astype(np.float16))
    x[2, 5] = np.inf
    with pytest.raises(ValueError, match=r"\(2, 5\)"):
        FlexLoss(x, w)


def test_absmax_is_per_last_axis_of_any_rank() -> None:
    assert absmax(np.float32([[[1, -5]], [[-3, 2]]])).tolist() == [3, 5]
