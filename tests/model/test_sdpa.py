"""Attention in the fused kernel's steps: near the exact one, exact where vectors are not full."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from slimspec.attention import attention_float
from slimspec.model import Decoder, Numerics
from slimspec.model.attention import causal
from slimspec.model.exponential import LANES
from slimspec.model.sdpa import attend_fused, exponentials


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_only_whole_vectors_take_the_polynomial(dtype: type) -> None:
    x = -np.random.default_rng(0).random((3, LANES + 5), np.float32) * 9
    found = exponentials(x, np.dtype(dtype))
    assert found.dtype == np.float32
    tail = np.exp(x[:, LANES:].astype(np.float64)).astype(np.float32)
    assert found[:, LANES:].tobytes() == tail.tobytes()
    short = exponentials(x[:, : LANES - 1], np.dtype(dtype))
    assert short.tobytes() == np.exp(x[:, : LANES - 1].astype(np.float64)).astype("f4").tobytes()


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


def test_fused_logits_stay_near_eager_ones(build: Callable[..., Path], family: str) -> None:
    """Float32 leaves only the exponential and the order of sums: 20 units twice, times 2^5."""
    folder, tokens = build(family), np.arange(9)
    eager = Decoder.open(folder).forward(tokens)
    fused = Decoder.open(folder, fused_attention=True).forward(tokens)
    assert not np.array_equal(eager, fused)
    assert np.abs(eager - fused).max() <= 40 * 2.0**-24 * 2**5
