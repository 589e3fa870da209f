"""Fused SwiGLU and quantization."""

import numpy as np
import pytest

from slimspec.matmul import (
    grouped_matmul_swiglu_quant,
    matmul_int8,
    silu,
    swiglu,
    swiglu_quant,
)
from slimspec.matmul.per_token import scale_per_token

F32 = np.float32
ACC = np.int32([[1000, -2000, 300, 4000, 500, 600, -700, 800]])
SCALE = F32([0.001, 0.002, 0.003, 0.001, 0.004, 0.005, 0.006, 0.007])
TOKEN = F32([0.5])


def test_worked_values():
    v = scale_per_token(ACC, SCALE, TOKEN)
    nominal = F32([0.5, -2, 0.45, 2, 1, 1.5, -2.1, 2.8])
    assert np.abs(v - nominal).max() <= np.spacing(F32(2.8))
    # The published numbers come from a float32 exponential: e^2 there is 1 unit low, which is the
    # second value's last bit. The others agree exactly.
    published = F32([0.31122968, -0.3576088, -0.57705414, 4.9324636])
    got = swiglu(v)[0]
    assert got[[0, 2, 3]].tolist() == published[[0, 2, 3]].tolist()
    assert abs(got[1] - published[1]) == np.spacing(published[1]) * -1
    result = swiglu_quant(ACC, SCALE, TOKEN)
    assert result.q.tolist() == [[8, -9, -15, 127]]
    assert result.scale[0] == F32(0.038838297)


def test_silu_is_within_four_roundings_of_the_float64_value():
    v = np.linspace(-30, 30, 5001).astype(F32)
    true = v.astype(np.float64) / (1 + np.exp(-v.astype(np.float64)))
    # exponential, sum, quotient, product: each at most 2^-24 relative
    assert (np.abs(silu(v) - true) <= 4.001 * 2.0**-24 * np.abs(true)).all()
    assert silu(F32([-200.0, 0.0])).tolist() == [0.0, 0.0]


def test_halves_can_be_exchanged():
    v = F32([[1, 2, 3, 4]])
    assert np.array_equal(swiglu(v, False), swiglu(v[:, [2, 3, 0, 1]]))
    with pytest.raises(ValueError, match="even"):
        swiglu(F32([[1, 2, 3]]))


def test_experts_use_their_own_weights_and_scales():
    rng = np.random.default_rng(5)
    x, w = (rng.integers(-128, 128, s, dtype=np.int8) for s in ((5, 7), (3, 4, 7)))
    scale, token = rng.uniform(1e-3, 1e-2, (3, 4)).astype(F32), np.ones(5, F32)
    got = grouped_matmul_swiglu_quant(x, w, scale, token, [2, 0, 3])
    for rows, e in ((slice(0, 2), 0), (slice(2, 5), 2)):
        one = swiglu_quant(matmul_int8(x[rows], w[e]), scale[e], token[rows])
        assert np.array_equal(got.q[rows], one.q)
        assert np.array_equal(got.scale[rows], one.scale)
    by_sum = grouped_matmul_swiglu_quant(x, w, scale, token, [2, 2, 5], "cumsum")
    assert np.array_equal(by_sum.q, got.q)


def test_dtypes():
    assert swiglu(F32([[1, 2]])).dtype == F32
    result = swiglu_quant(ACC, SCALE, TOKEN)
    assert (result.q.dtype, result.scale.dtype) == (np.int8, F32)
