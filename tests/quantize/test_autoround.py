"""AutoRound's apply step: what shifts and range factors do to codes."""

from __future__ import annotations

import numpy as np
import pytest

from slimspec.quantize.autoround import apply_asymmetric, apply_symmetric, rounded_values


def _weight() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, 24)).astype(np.float32)


def test_untrained_symmetric_step_is_min_max_with_a_float16_scale() -> None:
    w = _weight()
    made = apply_symmetric(w, bits=4)
    scale = (np.abs(w).max(axis=1, keepdims=True) / np.float32(7)).astype(np.float16)
    assert (made.scale == scale.astype(np.float32)).all()
    assert (made.q == np.clip(np.rint(w / made.scale), -8, 7)).all()


def test_shift_moves_a_code_by_at_most_one_and_is_limited_to_half_at_4_bits() -> None:
    w = _weight()
    plain = apply_symmetric(w, bits=4)
    up, far = (apply_symmetric(w, np.full_like(w, s), bits=4) for s in (0.5, 9.0))
    assert (up.q == far.q).all()
    assert set(np.unique(up.q - plain.q)) <= {0.0, 1.0}


def test_asymmetric_scale_takes_the_sign_of_the_smaller_side() -> None:
    w = np.float32([[-3, 1], [-1, 3]])
    made = apply_asymmetric(w, bits=4)
    assert (made.scale[:, 0] > 0).tolist() == [True, False]
    assert made.zero == 8
    assert made.q.min() >= 0
    assert made.q.max() <= 15
    error = np.abs(rounded_values(made, np.dtype(np.float32)) - w)
    assert (error <= np.abs(made.scale) / 2 * (1 + 2.0**-10)).all()


@pytest.mark.parametrize("group_size", [0, 5, 8, 24, 100])
def test_groups_are_padded_and_cut_back(group_size: int) -> None:
    w = _weight()
    made = apply_symmetric(w, bits=8, group_size=group_size)
    assert made.q.shape == w.shape
    error = np.abs(rounded_values(made, np.dtype(np.float32)) - w)
    scale = np.repeat(made.scale, made.group_size, axis=1)[:, :24]
    # Half a step, and the float16 rounding of the scale on at most 127 steps.
    assert (error <= scale * (0.5 + 127 * 2.0**-11) * (1 + 2.0**-20)).all()


def test_range_factors_shrink_the_scale() -> None:
    w = _weight()
    half = apply_symmetric(w, bits=4, min_scale=0.5, max_scale=0.5)
    full = apply_symmetric(w, bits=4)
    assert np.abs(half.scale / full.scale - 0.5).max() < 2.0**-9


def test_row_of_zeros_has_the_smallest_scale() -> None:
    assert apply_symmetric(np.zeros((1, 4), np.float32)).scale[0, 0] == 2.0**-23
    made = apply_asymmetric(np.zeros((1, 4), np.float32))
    assert made.scale[0, 0] == np.float32(np.float16(1e-5))
    assert (rounded_values(made, np.dtype(np.float32)) == 0).all()
