"""HQQ: what one round does, when it stops, and what it improves."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from slimspec.quantize.affine import dequantize, without_lowest
from slimspec.quantize.hqq import HqqOptions, optimize_hqq, quantize_hqq, quantize_hqq_groups
from slimspec.quantize.minmax import quantize_minmax
from slimspec.quantize.weight_lowbit import quantize_lowbit_groups


def _weight(n: int = 8, k: int = 64) -> np.ndarray:
    return np.random.default_rng(0).standard_t(3, (n, k)).astype(np.float32)


def test_mean_error_falls_against_the_start() -> None:
    w = _weight()
    start = quantize_minmax(w, bits=4, variant="v0")
    made = quantize_hqq(w, bits=4)
    before = np.abs(w - dequantize(start.q, start.scale, start.offset)).mean()
    after = np.abs(
        w - dequantize(made.q, *(np.float32(v) for v in (made.scale, made.offset)))
    ).mean()
    assert after < before


def test_one_round_is_the_least_squares_scale_of_the_shrunken_target() -> None:
    w = _weight(1, 16)
    start = quantize_minmax(w, bits=4, variant="v0")
    scale, _ = optimize_hqq(w, start.scale, start.offset, bits=4, options=HqqOptions(rounds=1))
    q, s = start.q.astype(np.float64), float(start.scale[0, 0])
    e = w - q * s
    with np.errstate(divide="ignore"):
        shrunk = np.sign(e) * np.maximum(np.abs(e) - np.abs(e) ** (0.7 - 1) / 10, 0)
    expected = (q * (w - shrunk)).sum() / (q * q).sum()
    # Kept only if the error fell; then it is one float16 rounding away (2^-11).
    kept = float(scale[0, 0])
    assert min(abs(kept - expected) / expected, abs(kept - s) / s) <= 2.0**-11


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_results_are_float16_per_row_or_per_tensor(dtype: type) -> None:
    w = _weight().astype(dtype)
    start = quantize_minmax(w, bits=4, variant="v0")
    scale, offset = optimize_hqq(w, start.scale, start.offset, bits=4)
    assert (scale.dtype, scale.shape, offset.shape) == (np.float16, (8, 1), (8, 1))
    whole = quantize_minmax(w, bits=4, variant="v0", granularity="tensor")
    scale, offset = optimize_hqq(
        w,
        whole.scale,
        whole.offset,
        bits=4,
        per_tensor=True,
        options=HqqOptions(scale=True, zero=True),
    )
    assert scale.shape == offset.shape == (1,)


def test_zero_points_are_integers_and_scales_untouched_when_only_they_are_solved() -> None:
    w = _weight() + np.float32(1)
    start = quantize_minmax(w, bits=8, symmetric=False, variant="v0")
    scale, offset = optimize_hqq(
        w, start.scale, start.offset, bits=8, options=HqqOptions(scale=False, zero=True)
    )
    assert (scale == start.scale.astype(np.float16)).all()
    assert (offset == np.rint(offset)).all()


@pytest.mark.parametrize("symmetric", [False, True])
def test_row_of_zeros_ends_the_search_before_its_first_round(symmetric: bool) -> None:
    """Its scale becomes 0 or 0 / 0, its integers NaN, and so the mean error."""
    w = _weight()
    for spoiled in (False, True):
        w[3] = 0 if spoiled else w[3]
        start = quantize_minmax(w, bits=4, symmetric=symmetric, variant="v0")
        scale, _ = optimize_hqq(w, start.scale, start.offset, bits=4)
        kept = (scale == start.scale.astype(np.float16)).all()
        assert kept == (spoiled or not symmetric)  # a zero point is not solved for


def test_scale_per_tensor_is_the_trace_of_products_over_the_sum_of_squares() -> None:
    w = _weight(5, 20)
    start = quantize_minmax(w, bits=4, variant="v0", granularity="tensor")
    options = HqqOptions(rounds=1, beta=1e-30)  # shrinks every error to 0: the target is w
    scale, _ = optimize_hqq(w, start.scale, start.offset, bits=4, per_tensor=True, options=options)
    q = start.q.astype(np.float64)
    assert scale[0] == np.float16((q * w).sum() / (q * q).sum())


def test_nan_is_refused_with_its_index() -> None:
    w = _weight()
    w[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"\(1, 2\)"):
        optimize_hqq(w, np.ones((8, 1), np.float32), np.zeros((8, 1), np.float32), bits=4)


def test_files_of_v0_lack_the_lowest_symmetric_integer_that_a_run_uses() -> None:
    made = quantize_hqq(_weight(), bits=4)
    saved = without_lowest(made.q, 4)
    lowest = made.q == -8
    assert lowest.any()
    assert (saved[lowest] == -7).all()
    assert np.array_equal(saved[~lowest], made.q[~lowest])


@pytest.mark.parametrize("symmetric", [True, False])
def test_groups_of_columns_are_solved_one_after_the_other(symmetric: bool) -> None:
    """Other columns do not matter, and there are 10 rounds at most."""
    w = _weight(8, 64)
    made = quantize_hqq_groups(w, bits=4, group_size=32, symmetric=symmetric)
    for j in range(2):
        columns = slice(32 * j, 32 * j + 32)
        alone = quantize_hqq_groups(w[:, columns], bits=4, group_size=32, symmetric=symmetric)
        assert np.array_equal(made.q[:, columns], alone.q)
        assert np.array_equal(made.scale[:, j], alone.scale[:, 0])
    first = w[:, :32]
    start = quantize_lowbit_groups(first, bits=4, group_size=32, symmetric=symmetric)
    ten = optimize_hqq(first, start.scale, start.offset, bits=4, options=HqqOptions(rounds=10))
    assert np.array_equal(made.scale[:, :1], ten[0])
    assert made.scale.dtype == made.offset.dtype == np.float16


def test_group_size_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="group size 7"):
        quantize_hqq_groups(_weight(), bits=4, group_size=7)
