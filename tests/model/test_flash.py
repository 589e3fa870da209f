"""Fused attention and its exponentials."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from slimspec.attention.floating import attention_float
from slimspec.model import Decoder
from slimspec.model.attention import causal
from slimspec.model.exponential import exp_fast, exp_u20
from slimspec.model.flash import flash_head
from slimspec.numeric import as_float32, to_dtype

X = np.linspace(-86, 0, 20001).astype(np.float32)


def test_exp_u20_keeps_its_name() -> None:
    exact = np.exp(X.astype(np.float64))
    assert (np.abs(exp_u20(X) - exact) <= 20 * np.spacing(exact.astype(np.float32))).all()


def test_exp_fast_is_within_a_sixteen_bit_rounding() -> None:
    exact = np.exp(X.astype(np.float64))
    assert (np.abs(exp_fast(X) / exact - 1) <= 2.0**-12).all()


@pytest.mark.parametrize("function", [exp_u20, exp_fast])
def test_what_is_hidden_counts_nothing(function: Callable[[np.ndarray], np.ndarray]) -> None:
    y = function(np.array([-np.inf, -1e4, -88, 0], np.float32))
    assert not y[:3].any()
    assert y[3] == pytest.approx(1, rel=2.0**-12)
    assert function(np.zeros((0, 16), np.float32)).shape == (0, 16)


@pytest.mark.parametrize("t", [1, 7, 16, 17, 40])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_a_head_is_attention_to_a_few_roundings(t: int, dtype: np.dtype) -> None:
    """float32: 20 units of the exponential and t of the sums; 16 bits: one rounding of P (u), the
    fast exponential (2^-12), one of the result (u), relative to Σ P·|v|."""
    rng = np.random.default_rng(t)
    q, k, v = (to_dtype(rng.standard_normal((t, 12)).astype(np.float32), dtype) for _ in range(3))
    hidden = causal(np.arange(t), np.arange(t))
    ours = as_float32(flash_head(q, k, v, 12**-0.5, hidden))
    mask = np.where(hidden, np.float32(-np.inf), np.float32(0))
    wide = [as_float32(x)[None] for x in (q, k, v)]
    exact = attention_float(*wide, 12**-0.5, mask)[0]
    size = attention_float(*wide[:2], np.abs(wide[2]), 12**-0.5, mask)[0]
    unit = 2.0**-24 if dtype == np.float32 else (2.0**-11 if dtype == np.float16 else 2.0**-8)
    relative = (60 + t) * unit if dtype == np.float32 else 2 * unit + 2.0**-11
    assert (np.abs(ours - exact) <= relative * size).all()


def test_fused_logits_stay_near_eager_ones(build: Callable[..., Path], family: str) -> None:
    """Float32 leaves only the exponential and the order of sums: 20 units twice, times 2^5."""
    folder, tokens = build(family), np.arange(9)
    eager = Decoder.open(folder).forward(tokens)
    fused = Decoder.open(folder, fused_attention=True).forward(tokens)
    assert not np.array_equal(eager, fused)
    assert np.abs(eager - fused).max() <= 40 * 2.0**-24 * 2**5
