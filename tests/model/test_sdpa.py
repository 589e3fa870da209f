"""Attention in the fused kernel's steps: near the exact one, exact where vectors are not full."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from slimspec.attention import attention_float
from slimspec.model import Numerics
from slimspec.model.attention import causal
from slimspec.model.sdpa import (
    LANES,
    attend_fused,
    exp_degree3,
    exp_degree5,
    exponentials,
    lane_sum,
)

F32 = np.dtype(np.float32)
X = -np.geomspace(1e-6, 87, 4000, dtype=np.float32)


def test_polynomials_are_as_good_as_they_claim() -> None:
    """Degree 5: 20 units of 2^-24; degree 3: the published bound of about 1e-4."""
    exact = np.exp(X.astype(np.float64))
    assert np.abs(exp_degree5(X) / exact - 1).max() < 20 * 2.0**-24
    assert np.abs(exp_degree3(X) / exact - 1).max() < 1.1e-4


@pytest.mark.parametrize("exp", [exp_degree3, exp_degree5])
def test_hidden_places_have_no_weight(exp) -> None:
    assert exp(np.float32([-np.inf, -100, -88])).tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_only_whole_vectors_take_the_polynomial(dtype: type) -> None:
    x = -np.random.default_rng(0).random((3, LANES + 5), np.float32) * 9
    found = exponentials(x, np.dtype(dtype))
    assert found.dtype == np.float32
    tail = np.exp(x[:, LANES:].astype(np.float64)).astype(np.float32)
    assert found[:, LANES:].tobytes() == tail.tobytes()
    short = exponentials(x[:, : LANES - 1], np.dtype(dtype))
    assert short.tobytes() == np.exp(x[:, : LANES - 1].astype(np.float64)).astype("f4").tobytes()


@pytest.mark.parametrize("columns", [0, 1, LANES - 1, LANES, LANES + 3, 5 * LANES])
def test_lane_sum_is_exact_on_integers(columns: int) -> None:
    p = np.random.default_rng(columns).integers(0, 100, (4, columns)).astype(np.float32)
    assert lane_sum(p).tolist() == p.sum(axis=1).tolist()


@pytest.mark.parametrize(
    ("dtype", "bound"), [(np.float32, 1e-5), (np.float16, 4e-3), (ml_dtypes.bfloat16, 3e-2)]
)
@pytest.mark.parametrize("tokens", [1, 7, 16, 40])
def test_attention_is_near_the_definition(dtype: type, bound: float, tokens: int) -> None:
    """A few units of T for the rounded weights and the result, 1e-4 for the polynomial."""
    rng = np.random.default_rng(tokens)
    q, k, v = (rng.standard_normal((h, tokens, 8)).astype(dtype) for h in (4, 2, 2))
    places = np.arange(tokens)
    found = attend_fused(q, k, v, 8**-0.5, causal(places, places), Numerics(dtype))
    assert found.dtype == dtype
    assert found.shape == (tokens, 32)
    last = found[-1].astype(np.float32).reshape(4, 8)
    exact = attention_float(*(x.astype(np.float32) for x in (q, k, v)))[:, -1]
    assert np.abs(last - exact).max() <= bound * max(1, np.abs(exact).max())
