"""m2, m3 (AWQ), m5 and do_smooth: each search against what defines it."""

from __future__ import annotations

import numpy as np
import pytest

from slimspec.model import Numerics
from slimspec.quantize.awq import awq_scale, fake_scaled, linear_loss, mean_magnitude, search_awq
from slimspec.smooth.flex import product
from slimspec.smooth.fold import Affine
from slimspec.smooth.lowbit import (
    fold_lowbit,
    lowbit_scale,
    search_lowbit_alpha,
    smoothing_loss,
)
from slimspec.smooth.outlier_mask import mask_scale, otsu_above, otsu_below
from slimspec.smooth.outlier_suppression import collect, search_scale, threshold_scale
from slimspec.smooth.scales import smooth_scale, weight_scale
from slimspec.smooth.suppression_loss import OutputLoss


def _data(outlier: float = 60.0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    batches = [rng.standard_normal((2, 10, 32)).astype(np.float32) for _ in range(3)]
    for x in batches:
        x[..., 5] *= np.float32(outlier)
    return batches, [rng.standard_normal((n, 32)).astype(np.float32) for n in (12, 6)]


def test_statistics_run_over_the_batches_and_keep_the_first() -> None:
    batches, _ = _data()
    seen = collect(batches)
    everything = np.concatenate([x.reshape(-1, 32) for x in batches])
    assert (seen.absmax == np.abs(everything).max(axis=0)).all()
    middle = (everything.max(axis=0) + everything.min(axis=0)) / np.float32(2)
    assert (seen.shift == middle).all()
    assert (seen.first == batches[0]).all()
    first_shift = (batches[0].max(axis=(0, 1)) + batches[0].min(axis=(0, 1))) / np.float32(2)
    assert seen.peak >= (batches[0] - first_shift).max()
    with pytest.raises(ValueError, match="at least one"):
        collect([])


def test_threshold_grid_runs_from_one_deviation_to_the_peak() -> None:
    batches, weights = _data()
    seen, w = collect(batches), weight_scale(weights)
    low, high = (threshold_scale(seen, w, step) for step in (0, 99))
    assert (high == 1).sum() >= 31  # no channel but the peak's own reaches the last threshold
    scaled = seen.channel_peak > seen.std
    assert ((low != 1) == scaled).all()
    expected = np.sqrt(seen.channel_peak[scaled]) / np.sqrt(w[scaled])
    # Four float32 steps: a quotient, a product, a root and a quotient.
    assert (np.abs(low[scaled] - expected) <= expected * 4 * 2.0**-23).all()


def test_m2_is_smoothquant_while_deviations_reach_the_peak() -> None:
    batches, weights = _data(outlier=1.0)
    batches = [np.clip(x, -1, 1) for x in batches]
    seen = collect(batches)
    assert 3 * seen.std >= seen.peak
    expected = smooth_scale(seen.absmax, weight_scale(weights), 0.5)
    assert (search_scale(seen, weights, lambda _: 0.0) == expected).all()


def test_m2_scales_the_outlier_channel_down() -> None:
    batches, weights = _data()
    seen = collect(batches)
    linears = [Affine(w, None) for w in weights]
    scale = search_scale(seen, weights, OutputLoss(seen, linears, Numerics(np.float32)))
    assert scale[5] > 1
    assert scale.shape == (32,)


def test_m2_takes_the_first_of_the_smallest_losses() -> None:
    batches, weights = _data()
    seen, w = collect(batches), weight_scale(weights)
    losses = iter([5.0, 3.0, 4.0, 3.0, *[9.0] * 96])
    found = search_scale(seen, weights, lambda _: next(losses))
    assert (found == threshold_scale(seen, w, 1)).all()


def test_awq_grid_starts_at_one_and_normalizes_every_candidate() -> None:
    mean = np.random.default_rng(0).uniform(0.1, 9, 32).astype(np.float32)
    assert (awq_scale(mean, 0.0) == 1).all()
    s = awq_scale(mean, 0.55)
    assert abs(float(s.max()) * float(s.min()) - 1) < 2.0**-20
    assert (np.argsort(s, kind="stable") == np.argsort(mean, kind="stable")).all()
    dead = awq_scale(np.zeros(4, np.float32), 0.5)
    assert np.isfinite(dead).all()


def test_awq_search_takes_the_first_of_the_smallest_losses() -> None:
    mean = np.float32([1, 2, 4, 8])
    best, loss = search_awq(mean, lambda s: float(abs(s[3] - 2) > 0.3))
    assert loss == 0
    first = next(i for i in range(20) if abs(awq_scale(mean, i / 20)[3] - 2) <= 0.3)
    assert (best == awq_scale(mean, first / 20)).all()
    with pytest.raises(ValueError, match="finite loss"):
        search_awq(mean, lambda s: float("nan"))


def test_awq_lowers_the_loss_where_one_channel_dominates() -> None:
    batches, weights = _data()
    x = batches[0].reshape(-1, 32)
    loss = linear_loss(x, weights, bits=4)
    best, smallest = search_awq(mean_magnitude(x), loss)
    assert smallest < loss(np.ones(32, np.float32))
    exact = 0.0
    for w in weights:
        error = product(x, w) - product(x, fake_scaled(w, best, bits=4, variant="v0"))
        exact += float((error.astype(np.float64) ** 2).mean())
    assert abs(smallest - exact) < exact * 2.0**-18  # float32 means of 240 squares


@pytest.mark.parametrize("sign", [1, -1])
def test_otsu_splits_off_the_far_values(sign: int) -> None:
    values = np.float32([1, 1.1, 1.2, 9, 9.5]) * np.float32(sign)
    found = otsu_above(values) if sign == 1 else otsu_below(values)
    assert found == np.float32(1.2) * sign


def test_mask_leaves_normal_channels_alone_and_scales_outliers_by_their_excess() -> None:
    rng = np.random.default_rng(0)
    high = rng.uniform(1, 1.2, 100).astype(np.float32)
    low = -rng.uniform(1, 1.2, 100).astype(np.float32)
    high[3], low[7] = 40, -80
    scale = mask_scale(low, high)
    normal_high, normal_low = np.delete(high, 3).max(), np.delete(low, 7).min()
    assert (np.delete(scale, [3, 7]) == 1).all()
    assert abs(scale[3] - (40 / normal_high) ** 0.7) < 1e-5
    assert abs(scale[7] - (-80 / normal_low) ** 0.7) < 1e-5
    assert scale.dtype == np.float32


def test_lowbit_alpha_search_refines_around_the_coarse_best() -> None:
    found = search_lowbit_alpha(lambda alpha: (alpha - 0.437) ** 2)
    # Coarse grid 0.1, fine grid 2/11 wide in 10 steps: within half a fine step.
    assert abs(found - 0.437) <= 1 / 110 + 1e-9
    assert search_lowbit_alpha(lambda alpha: 1.0) == 0.0


def test_lowbit_scale_is_bounded_below_and_its_folding_keeps_the_output() -> None:
    rng = np.random.default_rng(2)
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((9, 16), (5, 16), (16,)))
    shift = (x.max(axis=0) + x.min(axis=0)) / np.float32(2)
    scale = lowbit_scale(np.abs(x - shift).max(axis=0), np.abs(w).max(axis=0), 0.5)
    assert lowbit_scale(np.zeros(1, np.float32), np.ones(1, np.float32), 0.5)[0] == np.float32(1e-5)
    gain = np.ones(16, np.float32)
    norm, (linear,) = fold_lowbit(Affine(gain, b), [Affine(w, None)], scale, shift)
    before = (x.astype(np.float64) + b) @ w.T.astype(np.float64)
    after = (x.astype(np.float64) * norm.weight + norm.bias) @ linear.weight.T.astype(
        np.float64
    ) + linear.bias
    reach = (np.abs(x) + np.abs(b) + 2 * np.abs(shift)) @ np.abs(w).T
    # One rounding per folded number and a float32 sum of 16 products in the bias.
    assert (np.abs(after - before) <= reach * (4 + 16) * 2.0**-24).all()


def test_lowbit_loss_of_exact_quantizers_is_the_rounding_of_activations_only() -> None:
    rng = np.random.default_rng(3)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((9, 16), (5, 16)))
    one = np.ones(16, np.float32)
    loss = smoothing_loss(x, w, one, lambda v: v)
    step = np.abs(x).max() / 127
    assert 0 < loss <= (step / 2) ** 2 * 9 * (np.abs(w).sum(axis=1) ** 2).sum()
    assert smoothing_loss(np.zeros_like(x), w, one, lambda v: v) == 0
