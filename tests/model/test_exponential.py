"""The exponentials of torch's vectors and its sums over rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from slimspec.model import Numerics
from slimspec.model.exponential import LANES, exp_degree3, exp_degree5, exp_sleef, lane_sum

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


def test_softmax_has_the_bits_of_torch() -> None:
    """Recorded from torch 2.13 on a CPU with AVX-512: one row of five scores."""
    scores = np.float32([[0.0, -3.1113281, -0.5, -7.245117, -4.4472656]])
    found = Numerics(np.float32).softmax(scores).view(np.uint32)[0]
    assert list(map(hex, found)) == [
        "0x3f19e489", "0x3cdb5950", "0x3ebaae6a", "0x39e0ec40", "0x3be6ad6d",
    ]  # fmt: skip
