"""The exponentials of torch's vectors and its sums over rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from slimspec.model import Numerics
from slimspec.model.exponential import (
    LANES,
    exp_degree3,
    exp_degree5,
    exp_sleef,
    exp_vectors,
    lane_sum,
)

X = -np.geomspace(1e-6, 87, 4000, dtype=np.float32)
EXACT = np.exp(X.astype(np.float64))


def test_polynomials_are_as_good_as_they_claim() -> None:
    """One unit in the last place; 20 units of 2^-24; the published bound of about 1e-4."""
    assert (np.abs(exp_sleef(X) - EXACT) <= np.spacing(EXACT.astype(np.float32))).all()
    assert np.abs(exp_degree5(X) / EXACT - 1).max() < 20 * 2.0**-24
    assert np.abs(exp_degree3(X) / EXACT - 1).max() < 1.1e-4


@pytest.mark.parametrize("exp", [exp_sleef, exp_degree3, exp_degree5])
def test_hidden_places_have_no_weight(exp: Callable[[np.ndarray], np.ndarray]) -> None:
    assert exp(np.float32([-np.inf, -1e4, -105])).tolist() == [0, 0, 0]
    assert exp(np.zeros((0, 16), np.float32)).shape == (0, 16)
    assert exp(np.zeros(1, np.float32))[0] == pytest.approx(1, rel=2.0**-12)


@pytest.mark.parametrize("x", [0.0, -103.0])
def test_sleef_is_exact_at_zero_and_reaches_the_subnormals(x: float) -> None:
    expected = np.exp(np.float64(x))
    found = float(exp_sleef(np.array([x], np.float32))[0])
    assert found == pytest.approx(expected, abs=float(np.spacing(np.float32(expected))))


@pytest.mark.parametrize("tail_in_lanes", [False, True])
@pytest.mark.parametrize("columns", [0, 1, LANES - 1, LANES, LANES + 3, 5 * LANES])
def test_lane_sum_is_exact_on_integers(columns: int, tail_in_lanes: bool) -> None:
    p = np.random.default_rng(columns).integers(0, 100, (4, columns)).astype(np.float32)
    assert lane_sum(p, tail_in_lanes=tail_in_lanes).tolist() == p.sum(axis=1).tolist()


def test_where_the_tail_of_a_row_is_added_shows() -> None:
    """2^24 swallows a one: in its own lane the one survives until the lanes are folded."""
    p = np.zeros((1, LANES + 2), np.float32)
    p[0, 0], p[0, LANES:] = 2.0**24, 1
    assert lane_sum(p, tail_in_lanes=False)[0] == 2.0**24
    p[0, 0], p[0, 1] = 0, 2.0**24
    assert lane_sum(p, tail_in_lanes=True)[0] == 2.0**24
    p[0, :2] = 0, 1
    assert lane_sum(p, tail_in_lanes=True)[0] == 3


def test_sleef_ends_where_float32_does() -> None:
    assert exp_sleef(np.float32([88, 89, 101, np.inf])).tolist()[1:] == [np.inf] * 3
    assert exp_sleef(np.float32([88]))[0] == pytest.approx(np.exp(88), rel=2.0**-22)


def test_what_is_left_of_two_vectors_is_exact() -> None:
    x = np.linspace(-5, 5, 70, dtype=np.float32).reshape(7, 10)
    found = exp_vectors(x, 16).reshape(-1)
    exact = np.exp(x.astype(np.float64)).astype(np.float32).reshape(-1)
    assert found[64:].tolist() == exact[64:].tolist()
    assert found[:64].tolist() == exp_sleef(x.reshape(-1)[:64]).tolist() != exact[:64].tolist()


def test_silu_and_sigmoid_have_the_bits_of_torch() -> None:
    """Recorded from torch 2.13 on a CPU with AVX-512: 36 values, the last 4 of them one by one."""
    bits = lambda *values: np.array(values, np.uint32).view(np.float32)  # noqa: E731
    four = bits(0xBEC0B858, 0xBF95D4EE, 0x3DB89460, 0xC08D126E)
    x = np.tile(four, 9)
    silu, sigmoid = Numerics(np.float32).silu(x), Numerics().sigmoid(x)
    vector = bits(0xBE1CDF2F, 0xBE8DE494, 0x3D40E449, 0xBD592CA8)
    assert silu[:32].tolist() == [*vector] * 8
    assert silu[32:].tolist() == [*bits(0xBE1CDF2E, 0xBE8DE493, 0x3D40E44A, 0xBD592CA9)]
    vector = bits(0x3ED06182, 0x3E726F8E, 0x3F05C3A3, 0x3C450CF8)
    assert sigmoid[:32].tolist() == [*vector] * 8
    assert sigmoid[32:].tolist() == [*bits(0x3ED06181, 0x3E726F8D, 0x3F05C3A4, 0x3C450CF9)]


def test_softmax_has_the_bits_of_torch() -> None:
    """Recorded from torch 2.13 on a CPU with AVX-512: one row of five scores."""
    scores = np.float32([[0.0, -3.1113281, -0.5, -7.245117, -4.4472656]])
    found = Numerics(np.float32).softmax(scores).view(np.uint32)[0]
    assert list(map(hex, found)) == [
        "0x3f19e489", "0x3cdb5950", "0x3ebaae6a", "0x39e0ec40", "0x3be6ad6d",
    ]  # fmt: skip
