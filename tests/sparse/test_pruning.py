"""Magnitude pruning, W8A8S quantizers and their masks."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.observe.sigma import magnitude_std
from slimspec.quantize.hqq import HqqOptions, optimize_hqq
from slimspec.sparse.cosparse import quantize_cosparse
from slimspec.sparse.lowbit import LowBitOptions, quantize_lowbit, w8a8s_weight
from slimspec.sparse.lowbit_groups import (
    quantize_groups,
    quantize_groups_hqq,
    quantize_two_levels,
)
from slimspec.sparse.minimize import minimize_bounded, minimize_powell
from slimspec.sparse.outliers import fraction_mask, sigma_mask
from slimspec.sparse.power import best_exponent, quantize_power
from slimspec.sparse.split import quantize_split
from slimspec.sparse.straight_through import round_straight_through, symmetric_codes
from slimspec.sparse.topk import prune_smallest

F32 = np.float32
DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]
seeds = st.integers(0, 2**32 - 1)


def weight(seed: int, n: int = 6, k: int = 200) -> np.ndarray:
    rng = np.random.default_rng(seed)
    w = rng.normal(0, 1, (n, k)).astype(F32)
    w[:, : k // 50] *= F32(8)
    return w


@pytest.mark.parametrize("dtype", DTYPES)
def test_pruning_zeroes_the_smallest_and_leaves_the_rest_alone(dtype: Any) -> None:
    w = weight(1).astype(dtype)
    before = w.copy()
    pruned = prune_smallest(w, 0.3)
    assert np.array_equal(w, before)
    assert not np.shares_memory(pruned, w)
    assert pruned.dtype == dtype
    zero = pruned == 0
    assert zero.sum() == int(w.size * 0.3)
    assert np.array_equal(pruned[~zero], w[~zero])
    assert np.abs(w[zero]).max() <= np.abs(w[~zero]).min()


def test_pruning_takes_any_strides() -> None:
    w = weight(2)
    for view in (w.T, w[::2, ::3], w[::-1]):
        assert np.array_equal(prune_smallest(view, 0.5), prune_smallest(view.copy(), 0.5))


def test_pruning_takes_the_first_of_equal_weights() -> None:
    assert prune_smallest(np.array([1, -1, 1, 2], F32), 0.5).tolist() == [0, 0, 1, 2]


def test_seed_default_prunes_no_weight_of_a_small_matrix() -> None:
    w = np.arange(1, 84, dtype=F32)
    assert np.array_equal(prune_smallest(w), w)  # int(83 · 0.012) = 0
    assert (prune_smallest(np.arange(1, 85, dtype=F32)) == 0).sum() == 1


@pytest.mark.parametrize("sparsity", [0.0, 1.0])
def test_pruning_nothing_or_all(sparsity: float) -> None:
    assert (prune_smallest(weight(3), sparsity) == 0).mean() == sparsity


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, float("nan")])
def test_pruning_refuses_a_sparsity_outside_0_to_1(sparsity: float) -> None:
    with pytest.raises(ValueError, match="expected 0 to 1"):
        prune_smallest(weight(4), sparsity)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    "routine", [prune_smallest, quantize_lowbit, w8a8s_weight, quantize_cosparse, quantize_power]
)
def test_non_finite_weights_are_refused(routine: Any, bad: float) -> None:
    w = weight(5)
    w[2, 3] = bad
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        routine(w)


@given(st.lists(st.floats(-200, 200, width=16), min_size=1, max_size=20))
@settings(derandomize=True, deadline=None, max_examples=100)
def test_straight_through_rounding_is_half_even_without_minus_zero(values: list[float]) -> None:
    for dtype in DTYPES:
        x = np.array(values, F32).astype(dtype)
        rounded = round_straight_through(x)
        assert rounded.dtype == dtype
        assert np.array_equal(rounded.astype(F32), np.rint(x.astype(F32)))
        assert not np.signbit(rounded[rounded == 0].astype(F32)).any()


def test_codes_of_a_zero_scale_are_zero() -> None:
    codes = symmetric_codes(np.array([0, 1, -1], F32), np.zeros(1, F32), 7)
    assert codes.dtype == np.int8
    assert codes.tolist() == [0, 0, 0]


def test_sigma_is_taken_of_magnitudes_and_compared_strictly() -> None:
    w = np.array([[-1, 1, -1, 1, -1, 3]], F32)
    # |w| has mean 4/3 and squared deviations 5/9 + 25/9: variance 30/9 / 5 = 2/3.
    assert magnitude_std(w) == np.sqrt(F32(2 / 3))
    mask, bound = sigma_mask(w, 3.0)
    assert mask.tolist() == [[False, False, False, False, False, True]]
    assert bound.shape == (1, 1)
    assert bound == F32(3) * np.sqrt(F32(2 / 3))


def test_zero_rows_have_no_sigma_outliers() -> None:
    assert not sigma_mask(np.zeros((2, 8), F32), 3.0)[0].any()


def test_fraction_leaves_the_threshold_itself_inside() -> None:
    w = np.arange(1, 101, dtype=F32).reshape(1, 100)
    mask, bound = fraction_mask(-w, 0.05, per_row=True)
    assert bound.tolist() == [[96.0]]
    assert mask.sum() == 4
    assert fraction_mask(np.ones((1, 100), F32), 0.05, per_row=True)[0].sum() == 0


def test_fraction_of_the_whole_matrix_ranks_all_weights() -> None:
    w = np.arange(200, dtype=F32).reshape(2, 100)
    mask, bound = fraction_mask(w, 0.05, per_row=False)
    assert bound.tolist() == [190.0]
    assert mask.sum(axis=1).tolist() == [0, 9]


@pytest.mark.parametrize("per_row", [True, False])
def test_fraction_of_less_than_one_weight_is_refused(per_row: bool) -> None:
    with pytest.raises(ValueError, match="is 0, expected >= 1"):
        fraction_mask(np.ones((1, 50), F32), 0.01, per_row=per_row)


def scalar_lowbit(row: np.ndarray, sigma: float) -> tuple[list[int], F32]:
    """Return the integers and the scale of one row, one weight at a time."""
    size = np.abs(row)
    std = np.sqrt(F32(np.var(size.astype(float), ddof=1)))
    amax = max(v for v in size if not v / std > F32(sigma))
    scale = amax / F32(7)
    far = ((amax * F32(127)) / F32(7)) / F32(127)
    codes = []
    for v in row:
        outlier = abs(v) / std > F32(sigma)
        code = round(float(v / (far if outlier else scale)))
        bound = 127 if outlier else 7
        codes.append(max(-bound, min(bound, code)))
    return codes, scale


@given(seeds)
@settings(derandomize=True, deadline=None, max_examples=20)
def test_lowbit_is_the_scalar_formula(seed: int) -> None:
    w = weight(seed, 3, 60)
    made = quantize_lowbit(w, LowBitOptions(use_sigma=True))
    for row, codes, scale in zip(w, made.q, made.scale, strict=True):
        assert (codes.tolist(), scale[0]) == scalar_lowbit(row, 3.0)


@given(seeds, st.sampled_from(DTYPES))
@settings(derandomize=True, deadline=None, max_examples=30)
def test_bulk_stays_within_seven_and_half_a_step(seed: int, dtype: Any) -> None:
    w = weight(seed).astype(dtype)
    made = quantize_lowbit(w, LowBitOptions(fraction=0.05))
    wide = w.astype(F32)
    bulk = ~fraction_mask(wide, 0.05, per_row=True)[0]
    assert made.q.dtype == np.int8
    assert made.approximate.dtype == F32
    assert np.abs(made.q[bulk]).max() <= 7
    assert np.abs(made.q.astype(int)).max() > 7
    # half a step, and one rounding of the product
    error = np.abs(made.approximate - wide)[bulk]
    limit = np.broadcast_to(made.scale / 2 * F32(1 + 2**-20), w.shape)[bulk]
    assert (error <= limit).all()


def test_stored_weight_is_the_one_grid_of_the_bulk() -> None:
    w = weight(7)
    stored = w8a8s_weight(w, LowBitOptions(use_sigma=True))
    scale = quantize_lowbit(w, LowBitOptions(use_sigma=True)).scale
    assert np.array_equal(stored.scale, scale)
    assert np.array_equal(stored.q, np.clip(np.rint(w / scale), -128, 127).astype(np.int8))
    assert not stored.offset.any()


def test_without_outliers_the_largest_weight_is_seven() -> None:
    made = quantize_lowbit(weight(8), LowBitOptions(open_outlier=False))
    assert np.abs(made.q).max(axis=1).tolist() == [7] * 6
    one = quantize_lowbit(weight(8), LowBitOptions(open_outlier=False, per_channel=False))
    assert one.scale.shape == ()
    assert np.abs(one.q).max() == 7


def test_zero_row_has_scale_zero_and_zeros() -> None:
    w = weight(9)
    w[1] = 0
    for made in (quantize_lowbit(w), quantize_cosparse(w, per_channel=True)):
        assert made.scale[1] == 0
        assert not made.q[1].any()


@pytest.mark.parametrize("name", ["sigma_factor", "fraction"])
@pytest.mark.parametrize("value", [0.0, 0.009, 2.9, 4.1])
def test_options_outside_their_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected"):
        LowBitOptions(**{name: value})


def test_cosparse_scales_the_matrix_by_its_threshold() -> None:
    w = weight(10)
    made = quantize_cosparse(w, 0.02)
    threshold = np.sort(np.abs(w).reshape(-1))[::-1][int(0.02 * w.size) - 1]
    assert made.scale.tolist() == [threshold / F32(7)]
    assert (np.abs(made.q.astype(int)) > 7).sum() <= int(0.02 * w.size) - 1
    rows = quantize_cosparse(w, 0.02, per_channel=True)
    assert rows.scale.shape == (6, 1)


def test_outliers_keep_the_grid_of_the_bulk() -> None:
    w = np.array([[0.7, -7.0, 70.0, 200.0, 1000.0]], F32)
    made = quantize_split(w, np.abs(w) > 7, np.array([[7.0]], F32))
    assert made.scale == F32(1)
    assert made.q.tolist() == [[1, -7, 70, 127, 127]]


@given(seeds, st.sampled_from(DTYPES), st.booleans())
@settings(derandomize=True, deadline=None, max_examples=20)
def test_two_levels_keep_the_protective_range(seed: int, dtype: Any, symmetric: bool) -> None:
    w = weight(seed, 4, 64).astype(dtype)
    made = quantize_two_levels(w, 32, symmetric=symmetric)
    assert made.approximate.dtype == F32
    assert (made.second >= 1).all()
    assert np.array_equal(made.second, np.rint(made.second))
    q = made.q.reshape(-1, 32) - made.offset
    assert np.abs(made.second * q).max() <= (119 if symmetric else 136)


def test_spread_that_passes_float16_is_infinite_and_nothing_is_an_outlier() -> None:
    w = np.float16([[60000, -60000, 1, 0]])
    assert np.isinf(magnitude_std(w)).all()
    outlier, bound = sigma_mask(w, 3)
    assert not outlier.any()
    assert np.isinf(bound).all()


def test_constant_group_shows_its_division_by_zero() -> None:
    made = quantize_groups(np.full((1, 32), 2, F32), 4, symmetric=False)
    assert made.scale == 0
    assert np.isnan(made.q).all()


def test_bounded_search_finds_the_minimum_of_smooth_functions() -> None:
    for best in (0.1, 0.25, 0.5, 0.77, 0.9):
        found, value = minimize_bounded(lambda x, best=best: (x - best) ** 2, 0.1, 0.9, 1e-5)
        assert abs(found - best) <= 2e-5
        assert value == (found - best) ** 2
    assert abs(minimize_bounded(np.cos, 2, 5, 1e-5)[0] - np.pi) <= 2e-5


@pytest.mark.parametrize("best", [0.1, 0.2, 0.55, 0.7, 0.9])
def test_repeated_search_starts_where_told_and_gets_finer(best: float) -> None:
    places = []

    def f(x: float) -> float:
        places.append(x)
        return (x - best) ** 2 + 1e-3

    found = minimize_powell(f, 0.7, 0.1, 0.9)
    assert places[:3] == pytest.approx([0.7, 0.1 + 0.8 * 0.381966, 0.9 - 0.8 * 0.381966])
    assert found in places
    assert abs(found - best) <= 1e-4
    assert 0.1 <= min(places) <= max(places) <= 0.9


def test_search_that_gains_nothing_is_the_last_and_its_place_counts() -> None:
    places = []

    def flat(x: float) -> float:
        places.append(x)
        return 1.0

    found = minimize_powell(flat, 0.7, 0.1, 0.9)
    first, value = minimize_bounded(lambda x: 1.0, -0.6, 0.2)
    assert found == 0.7 + first
    assert value == 1.0
    assert places[0] == 0.7


def test_bulk_of_zeros_has_the_exponent_of_a_flat_error() -> None:
    assert best_exponent(np.zeros((2, 8), F32)) == minimize_powell(lambda x: 0.0, 0.7, 0.1, 0.9)


def test_searched_exponent_has_the_least_squared_error_near_it() -> None:
    w = weight(5)

    def error(a: float) -> float:
        size = np.abs(w).astype(np.float64) ** a
        q = np.rint(size * (7 / size.max()))
        back = np.sign(w) * (q * size.max() / 7) ** (1 / a)
        return float(((w - back) ** 2).sum())

    found = best_exponent(w)
    assert error(found) <= min(error(found - 1e-3), error(found + 1e-3), error(0.7)) * (1 + 1e-6)


def test_power_grid_beats_the_uniform_grid_on_its_own_measure() -> None:
    w = weight(11)
    bulk = ~fraction_mask(w, 0.01, per_row=False)[0]
    power, uniform = quantize_power(w), quantize_cosparse(w)
    exponent = best_exponent(np.where(bulk, w, F32(0)))
    assert 0.1 < exponent < 0.9
    errors = [((made.approximate - w)[bulk] ** 2).sum() for made in (power, uniform)]
    assert errors[0] < errors[1]


def test_hqq_of_groups_takes_ten_rounds_at_most_and_solves_blocks_of_columns_alone() -> None:
    w = np.random.default_rng(2).standard_t(3, (5, 64)).astype(F32)
    made = quantize_groups_hqq(w, 4, 32, symmetric=True)
    for i, block in enumerate((w[:, :32], w[:, 32:])):
        start = quantize_groups(block, 4, symmetric=True)
        after = {
            rounds: optimize_hqq(
                block, start.scale, start.offset, bits=4, options=HqqOptions(rounds=rounds)
            )[0]
            for rounds in (9, 10, 20)
        }
        assert np.array_equal(made.scale[:, [i]], after[10])
        assert not np.array_equal(after[9], after[10])
        assert not np.array_equal(after[10], after[20])
