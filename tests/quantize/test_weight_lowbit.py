"""Groups without eps, and the two levels of W4A8."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.quantize.weight_lowbit import quantize_lowbit_groups, quantize_two_level

quick = settings(derandomize=True, deadline=None, max_examples=30)
EXAMPLE = np.float32([[1.19, -0.5, 0.33, 0.07, 0.02, -0.1, 0.6, 0.9]])


def test_two_level_example() -> None:
    made = quantize_two_level(EXAMPLE, group_size=4)
    assert made.scale.tolist() == [[np.float32(np.float32(1.19) / np.float32(119))]]
    np.testing.assert_array_equal(made.second, [[17, 13]])
    np.testing.assert_array_equal(made.q, [[7, -3, 2, 0, 0, -1, 5, 7]])


@quick
@given(seed=st.integers(0, 10_000), g=st.sampled_from([1, 4, 16]))
def test_two_level_product_stays_within_119_and_its_bound(seed: int, g: int) -> None:
    rng = np.random.default_rng(seed)
    w = (rng.standard_normal((3, 16)) * np.exp(rng.standard_normal((3, 16)))).astype(np.float32)
    made = quantize_two_level(w, group_size=g)
    second = np.repeat(made.second, g, axis=1).astype(np.int64)
    product = second * made.q
    assert np.abs(product).max() <= 119
    level_one = np.clip(np.rint(w / made.scale), -119, 119)
    # |q8 - s2·q4| <= max(s2 / 2, 3): half a step, or what clipping at 7 costs where s2 rounds down
    assert (np.abs(level_one - product) <= np.maximum(second / 2, 3)).all()
    assert (made.second == np.rint(made.second)).all()
    assert (made.second >= 1).all()


def test_zero_rows_and_groups_give_zeros() -> None:
    w = np.zeros((2, 8), np.float32)
    w[1, 0] = 3
    made = quantize_two_level(w, group_size=4)
    assert made.scale[0] == 0
    assert (made.q[0] == 0).all()
    assert (made.second == [[1, 1], [17, 1]]).all()
    grouped = quantize_lowbit_groups(w, bits=4, group_size=4)
    np.testing.assert_array_equal(grouped.scale != 0, [[False, False], [True, False]])
    assert grouped.q[1, 0] == 7
    assert np.count_nonzero(grouped.q) == 1


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_groups_are_float32_and_within_half_a_step(bits: int, symmetric: bool, dtype: type) -> None:
    w = np.random.default_rng(5).standard_normal((6, 24)).astype(dtype)
    made = quantize_lowbit_groups(w, bits=bits, group_size=8, symmetric=symmetric)
    assert made.scale.dtype == made.offset.dtype == np.float32
    assert made.scale.shape == (6, 3)
    scale, offset = (np.repeat(p, 8, axis=1) for p in (made.scale, made.offset))
    error = np.abs((made.q - offset) * scale - w.astype(np.float32))
    # An asymmetric offset is rounded, so one end of the range may clip by up to half a step more.
    assert (error <= scale * (0.5 if symmetric else 1.0) * 1.0001).all()


@pytest.mark.parametrize("route", [quantize_two_level, quantize_lowbit_groups])
def test_bad_weights_are_refused(route) -> None:  # type: ignore[no-untyped-def]
    options = {"bits": 4} if route is quantize_lowbit_groups else {}
    w = np.ones((2, 6), np.float32)
    with pytest.raises(ValueError, match="group size 4 does not divide the 6 columns"):
        route(w, group_size=4, **options)
    w[1, 3] = np.nan
    with pytest.raises(ValueError, match=r"up_proj: nan at index \(1, 3\)"):
        route(w, group_size=3, name="up_proj", **options)
