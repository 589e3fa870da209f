"""Every single-rounded step against a second formula, over at least 100 000 cases each.

The oracle computes in float64 and casts once with numpy or ml_dtypes. Sums, differences and
products of two float32 integers-or-fractions below 2^53 are exact in float64; a float64 quotient
rounded again to float32 or fp16 is the correctly rounded one, since 53 >= 2·24 + 2.
"""

import ml_dtypes
import numpy as np
import pytest

from slimspec.matmul import (
    antiquant,
    dequantize,
    dequantize_per_token,
    matmul_int8,
    quantize_dynamic,
    quantize_static,
    requantize,
    trans_quant_param,
)

F16, F32, F64, BF16 = np.float16, np.float32, np.float64, ml_dtypes.bfloat16
CASES = 1 << 17
pytestmark = pytest.mark.slow


def once(y, kind):
    """Round float64 to float32, then to the output: the two roundings of the contract."""
    with np.errstate(over="ignore"):
        return y.astype(F32).astype(kind)


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(20240607)


@pytest.fixture(scope="module")
def acc(rng):
    full = rng.integers(-(2**31), 2**31, CASES).astype(np.int32)
    return np.where(rng.random(CASES) < 0.5, full, full >> 12).astype(np.int32)


def positive(rng, low=2.0**-18, high=2.0**-2):
    return np.exp2(rng.uniform(np.log2(low), np.log2(high), CASES)).astype(F32)


@pytest.mark.parametrize("kind", [F32, F16, BF16])
def test_dequantize(rng, acc, kind):
    scale, bias = positive(rng), rng.integers(-(2**31), 2**31, CASES).astype(np.int32)
    total = ((acc.astype(np.int64) + bias + 2**31) % 2**32 - 2**31).astype(F64)
    y = total.astype(F32).astype(F64) * scale
    assert dequantize(acc, scale, bias, kind).tobytes() == once(y, kind).tobytes()
    words = trans_quant_param(scale)
    low = (scale.view(np.uint32) >> 13 << 13).view(F32)
    y = total.astype(F32).astype(F64) * low
    assert dequantize(acc, words, bias, kind).tobytes() == once(y, kind).tobytes()


@pytest.mark.parametrize("kind", [F32, F16, BF16])
@pytest.mark.parametrize("order", ["scale_first", "token_first"])
def test_per_token(rng, acc, kind, order):
    side = 1 << 8
    tokens = CASES // side
    scale, token = positive(rng)[:side], positive(rng)[:tokens, None]
    a = acc.reshape(tokens, side)
    f = a.astype(F64).astype(F32).astype(F64)
    if order == "scale_first":
        y = (f * scale).astype(F32).astype(F64) * token
    else:
        y = f * (token.astype(F64) * scale).astype(F32).astype(F64)
    got = dequantize_per_token(a, scale, token[:, 0], None, kind, order)
    assert got.tobytes() == once(y, kind).tobytes()


def test_requantize(rng, acc):
    scale, offset = positive(rng), rng.integers(-300, 300, CASES)
    y = np.rint((acc.astype(F32).astype(F64) * scale).astype(F32).astype(F64))
    q = np.clip(np.clip(y, -256, 255) + np.clip(offset, -256, 255), -128, 127).astype(np.int8)
    assert np.array_equal(requantize(acc, scale, offset.astype(F32)), q)


def test_quantize_static(rng):
    x = rng.normal(size=CASES).astype(F16)
    x[: CASES // 2] = (rng.integers(-256, 256, CASES // 2) / 2).astype(F16)  # many exact ties
    scale = np.where(rng.random(CASES) < 0.5, F16(1), positive(rng)).astype(F16)
    offset = rng.integers(-128, 128, CASES).astype(F64)
    wide, s = x.astype(F64), scale.astype(F64)
    r = (1 / s).astype(F32).astype(F64)

    def codes(y):
        return np.clip(np.rint(y.astype(F64)), -128, 127).astype(np.int8)

    def run(form, by=scale):
        return quantize_static(x, by, offset.astype(F32), form)

    assert np.array_equal(run("div"), codes(((wide / s).astype(F32) + offset).astype(F32)))
    product = ((wide * r).astype(F32) + offset).astype(F32)
    assert np.array_equal(run("mul", r.astype(F32)), codes(product))
    assert np.array_equal(run("atb"), codes(np.rint((wide / s).astype(F32)) + offset))
    with np.errstate(over="ignore"):
        half = ((wide / s).astype(F16).astype(F64) + offset).astype(F16)
    assert np.array_equal(run("atb_kernel"), codes(np.clip(half, F16(-128), F16(127))))


def test_quantize_dynamic(rng):
    x = rng.normal(size=(CASES // 64, 64)).astype(F16)
    wide = x.astype(F64)
    peak = np.abs(wide).max(axis=1, keepdims=True)
    scale = (peak * F64(F32(1 / 127))).astype(F32)
    codes = np.rint((wide / scale).astype(F32)).astype(np.int8)
    got = quantize_dynamic(x)
    assert np.array_equal(got.q, codes)
    assert got.scale.tobytes() == scale.tobytes()
    s = (127 / peak).astype(F32)
    got = quantize_dynamic(x, variant="k910b")
    assert np.array_equal(got.q, np.rint((wide * s).astype(F32)).astype(np.int8))
    assert got.scale.tobytes() == (1 / s.astype(F64)).astype(F32).tobytes()
    half = (wide * (127 / peak).astype(F16)).astype(F16).astype(F64)
    away = (np.sign(half) * np.floor(np.abs(half) + 0.5)).astype(np.int8)
    assert np.array_equal(quantize_dynamic(x, variant="k310p").q, away)


@pytest.mark.parametrize("kind", [F16, BF16])
def test_antiquant(rng, kind):
    w = rng.integers(-128, 128, (CASES, 1), dtype=np.int8)
    scale = positive(rng)[:, None].astype(kind)
    offset = rng.normal(scale=20, size=(CASES, 1)).astype(kind)
    total = w.astype(F64) + offset.astype(F64)
    # float32 first: numpy and ml_dtypes narrow float64 through it without harm here, since the
    # sum has at most 24 significant bits
    step = total.astype(F32).astype(kind).astype(F64) * scale.astype(F64)
    got = antiquant(w, scale, offset, kind, "stepwise")
    assert got.tobytes() == step.astype(F32).astype(kind).tobytes()
    whole = total.astype(F32).astype(F64) * scale.astype(F64)
    got = antiquant(w, scale, offset, kind, "once")
    assert got.tobytes() == whole.astype(F32).astype(kind).tobytes()


def test_accumulation(rng):
    for k in (1, 7, 64, 1000, 4097):
        x, w = (rng.integers(-128, 128, s, dtype=np.int8) for s in ((70, k), (400, k)))
        x[0], w[0] = -128, -128
        assert np.array_equal(matmul_int8(x, w), x.astype(np.int64) @ w.astype(np.int64).T)
