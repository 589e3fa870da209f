"""The looks at whole W4A8 scales, held against whole numbers and fractions."""

from fractions import Fraction
from math import lcm

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimcheck.values.level_kernels import biases_are_near, levels_fit

ERROR = 2.0**-12


@st.composite
def linears(draw):
    """sums [n, c], second [n, g], step [n], and the scale_bias [n, b] that they make."""
    n, biases, groups = (draw(st.integers(1, most)) for most in (3, 4, 4))
    c = lcm(biases, groups) * draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sums = rng.integers(-30_000, 30_000, (n, c), dtype=np.int32)
    second = rng.integers(1, 120, (n, groups)).astype(np.float32)
    step = rng.integers(1, 1 << 20, n) / 2.0**24
    rows = sums.tolist(), second.astype(int).tolist()
    per, wide = c // biases, c // groups
    stored = [
        [
            float(8 * Fraction(step[r]) * sum(
                sums[i] * levels[i // wide] for i in range(b * per, (b + 1) * per)
            ))
            for b in range(biases)
        ]
        for r, (sums, levels) in enumerate(zip(*rows, strict=True))
    ]  # fmt: skip
    return np.array(stored, np.float32), sums, second, step


@settings(derandomize=True, deadline=None, max_examples=60)
@given(linears(), st.data())
def test_biases_are_near_what_whole_numbers_make(linear, data):
    stored, sums, second, step = linear
    assert biases_are_near(stored, sums, second, step, ERROR)
    r, b = data.draw(st.integers(0, len(stored) - 1)), data.draw(st.integers(0, len(stored[0]) - 1))
    for other in (stored[r, b] + 3 * step[r] + abs(stored[r, b]) / 1000, np.nan, np.inf):
        wrong = stored.copy()
        wrong[r, b] = other
        assert not biases_are_near(wrong, sums, second, step, ERROR)


@pytest.mark.parametrize("level", [0, -1, 1.5, 17, np.nan, np.inf])
def test_a_level_that_is_none_does_not_fit(level):
    second = np.full((3, 5), 16, np.float32)
    least, most = np.full((3, 5), -7, np.int8), np.full((3, 5), 7, np.int8)
    assert levels_fit(second, least, most, 16, 119)
    second[2, 4] = level
    assert not levels_fit(second, least, most, 16, 119)


@pytest.mark.parametrize("codes", [(-8, 0), (0, 8)])
def test_a_level_that_lifts_a_code_too_far_does_not_fit(codes):
    second = np.full((3, 5), 16, np.float32)
    least, most = np.zeros((3, 5), np.int8), np.zeros((3, 5), np.int8)
    least[1, 3], most[1, 3] = codes
    assert not levels_fit(second, least, most, 16, 119)
