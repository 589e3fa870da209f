"""Int8 attention per head, decode over an int8 cache, MLA; compared with float attention."""

import ml_dtypes
import numpy as np
import pytest

from slimspec.attention import (
    Int8Cache,
    ProbabilityQuant,
    attend,
    attention_float,
    attention_int8,
    decode_attention,
    dequantize_kv,
    mla_attention_int8,
    mla_attention_latent,
    quantize_heads,
    quantize_kv,
    quantize_probabilities,
)
from slimspec.attention.fa3 import int_scores, softmax_input

F16, F32, BF16 = np.float16, np.float32, ml_dtypes.bfloat16


def sqnr(reference, other):
    a, b = reference.astype(np.float64), other.astype(np.float64)
    return 10 * np.log10((a**2).sum() / max(((a - b) ** 2).sum(), 1e-300))


def tensors(h=4, kv=2, t=3, s=50, d=16, kind=F16):
    rng = np.random.default_rng(2)
    return (rng.normal(size=z).astype(kind) for z in ((h, t, d), (kv, s, d), (kv, s, d)))


def per_head(x):
    return np.abs(x.astype(F32)).max(axis=(1, 2)) / F32(127)


def quantized(*arrays):
    scales = tuple(per_head(x) for x in arrays)
    return [quantize_heads(x, s) for x, s in zip(arrays, scales, strict=True)], scales


def test_codes_of_heads_are_rounded_quotients():
    x = np.float32([[[127, -254, 3]], [[1, 0.5, -2]]])
    assert quantize_heads(x, F32([2, 1])).tolist() == [[[64, -127, 2]], [[1, 0, -2]]]
    assert quantize_heads(x, F32([[2], [1]]), np.int8([[1], [0]])).tolist()[0] == [[65, -126, 3]]
    assert quantize_heads(x * 1e9, F32([1, 1])).dtype == np.int8


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"block": 16},
        {"block": 1},
        {"p_scale": np.full(4, 1 / 127, F32)},
        {"p_scale": np.full(4, 1 / 127, F32), "p_dtype": F16},
        {"score_dtype": F32, "out_dtype": F32},
        {"numerics": "sat"},
    ],
)
def test_int8_attention_is_close_to_float(how):
    q, k, v = tensors()
    codes, scales = quantized(q, k, v)
    got = attention_int8(*codes, scales, **how)
    assert got.dtype == how.get("out_dtype", F16)
    assert sqnr(attention_float(q, k, v), got) > 30


def test_int8_attention_by_hand():
    # one head, two keys: S = acc·qk/√1, P = exp(S − max), both halves from the definition
    q, k, v = np.int8([[[10]]]), np.int8([[[3], [1]]]), np.int8([[[100], [-50]]])
    scales = F32([0.5]), F32([0.25]), F32([0.125])
    s = F32([30, 10]) * F32(0.125)
    p = np.exp((s - s.max()).astype(np.float64)).astype(F32)
    p_scale = F32(1) / F32(127)
    p8 = np.rint(p / p_scale).astype(int)
    acc = F32(p8 @ np.array([100, -50]))
    expected = acc * (F32(0.125) * p_scale) / F32(np.float64(p[0]) + np.float64(p[1]))
    got = attention_int8(q, k, v, scales, score_dtype=F32, out_dtype=F32)
    assert got[0, 0, 0] == expected


def test_offline_and_online_scales_agree_when_the_row_maximum_is_one():
    q, k, v = tensors(s=33)
    codes, scales = quantized(q, k, v)
    offline = np.full(4, F32(1) / F32(127), F32)
    assert np.array_equal(
        attention_int8(*codes, scales), attention_int8(*codes, scales, p_scale=offline)
    )


def test_a_block_as_long_as_the_keys_changes_nothing():
    q, k, v = tensors(s=20)
    codes, scales = quantized(q, k, v)
    whole = attention_int8(*codes, scales)
    for block in (20, 21, 1000):
        assert np.array_equal(whole, attention_int8(*codes, scales, block=block))


def test_probabilities_past_the_offline_range_saturate():
    p8, scale = quantize_probabilities(F32([[1.0, 0.5]]), ProbabilityQuant(F32(0.005)))
    assert p8.tolist() == [[127, 100]]
    assert (p8.dtype, scale.dtype) == (np.int8, F32)
    p8, scale = quantize_probabilities(F32([[0.0, 0.0]]), ProbabilityQuant())
    assert (p8.tolist(), scale.tolist()) == ([[0, 0]], [[0]])


def test_paged_kernel_rounds_the_quotient_to_fp16_first():
    # 100.49 is 100.5 in fp16, a tie that goes to 100; 101.47 becomes 101.5 -> 102
    p = F32([[101.47]]) * F32(2.0**-7)
    assert quantize_probabilities(p, ProbabilityQuant(F32(2.0**-7)))[0][0, 0] == 101
    assert quantize_probabilities(p, ProbabilityQuant(F32(2.0**-7), None, F16))[0][0, 0] == 102


def test_masked_rows_and_empty_keys_give_zero():
    scores = np.full((2, 3), -np.inf, F32)
    assert not attend(scores, np.ones((3, 2), np.int8), F32(1), ProbabilityQuant(block=2)).any()
    empty = attend(scores[:, :0], np.ones((0, 2), np.int8), F32(1), ProbabilityQuant())
    assert (empty.shape, empty.any()) == ((2, 2), False)


def test_dtype_of_every_step():
    scores = int_scores(np.int8([[1]]), np.int8([[1]]), F32(1))
    assert scores.dtype == F32
    assert softmax_input(scores.astype(F16), F32(1), None).dtype == F32
    assert attend(scores, np.int8([[1]]), F32(1), ProbabilityQuant()).dtype == F32
    with pytest.raises(TypeError, match="int8"):
        attention_int8(np.zeros((1, 1, 1)), np.int8([[[1]]]), np.int8([[[1]]]), (F32([1]),) * 3)


@pytest.mark.parametrize("kind", [F16, BF16, F32])
def test_decode_equals_float_attention_over_the_dequantized_cache(kind):
    q, k, v = tensors(t=1, kind=kind)
    flat = [x.transpose(1, 0, 2).reshape(50, -1) for x in (k, v)]
    scales = [np.abs(x.astype(F32)).max(axis=0) / F32(127) for x in flat]
    caches = [Int8Cache(quantize_kv(x, s), s) for x, s in zip(flat, scales, strict=True)]
    got = decode_attention(q[:, 0], *caches, kv_heads=2)
    back = [
        dequantize_kv(c.q, c.scale, dtype=kind).reshape(50, 2, 16).transpose(1, 0, 2)
        for c in caches
    ]
    assert got.dtype == kind
    assert np.array_equal(got, attention_float(q, *back)[:, 0])
    assert sqnr(attention_float(q, k, v)[:, 0], got) > 35
    with pytest.raises(ValueError, match="kv_heads"):
        decode_attention(q[:, 0], *caches, kv_heads=3)


def test_decode_with_an_offset_needs_the_canonical_rule():
    q, k, v = tensors(t=1)
    flat = [x.transpose(1, 0, 2).reshape(50, -1).astype(F32) + F32(1.5) for x in (k, v)]
    caches = []
    for x in flat:
        lo, hi = x.min(axis=0), x.max(axis=0)
        scale = ((hi - lo) / F32(255)).astype(F32)
        offset = np.rint(-lo / scale - 128).astype(F32)
        caches.append(Int8Cache(quantize_kv(x, scale, offset), scale, offset))
    shifted = [(x + F32(1.5)).astype(F32) for x in (k.astype(F32), v.astype(F32))]
    exact = attention_float(q, *shifted)[:, 0]
    assert sqnr(exact, decode_attention(q[:, 0], *caches, kv_heads=2)) > 35
    for rule in ("scale_only", "plus_offset"):
        assert sqnr(exact, decode_attention(q[:, 0], *caches, kv_heads=2, rule=rule)) < 20


def test_mla_keeps_the_rope_part_in_float():
    rng = np.random.default_rng(3)
    h, t, s, c, r = 3, 2, 40, 64, 16
    qn, qr = (rng.normal(size=(h, t, z)).astype(F16) for z in (c, r))
    kn, kr = (rng.normal(size=(s, z)).astype(F16) for z in (c, r))
    exact = attention_float(
        np.concatenate([qn, qr], axis=2), np.concatenate([kn, kr], axis=1)[None], kn[None], 0.1
    )
    q_scale, k_scale = per_head(qn), per_head(kn[None])
    qn8, kn8 = quantize_heads(qn, q_scale), quantize_heads(kn[None], k_scale)[0]
    args = kn8, kr
    for block in (None, 8):
        got = mla_attention_int8(qn8, qr, *args, (q_scale, k_scale), 0.1, block=block)
        assert got.shape == (h, t, c)
        assert sqnr(exact, got) > 30
    latent = mla_attention_latent(qn, qr, *args, k_scale, 0.1)
    assert sqnr(exact, latent) > 35


def test_mla_rope_scores_survive_an_outlier_that_int8_would_not():
    # Column 0 of k_rope is huge and unused; int8 with one scale would flatten the others to 0.
    k_rope = np.float16([[1000, 0.5], [-1000, -0.5], [1000, 1.5]])
    q_rope, q_nope = np.float16([[[0, 2]]]), np.zeros((1, 1, 2), np.int8)
    latent, one = np.int8([[100, 0], [0, 100], [-100, 50]]), F32([1])
    weights = np.exp(np.array([1.0, -1.0, 3.0]))
    expected = weights @ latent / weights.sum()
    got = mla_attention_int8(q_nope, q_rope, latent, k_rope, (one, one), 1.0, out_dtype=F32)
    # each of three probabilities is off by at most p_scale/2 = 1/254 of a value up to 100
    assert np.abs(got[0, 0] - expected).max() < 3 * 100 / 254


def test_offline_probabilities_in_mla():
    qn8, kn8 = np.int8([[[10, 5]]]), np.int8([[3, 1], [1, 2]])
    rope = np.zeros((1, 1, 1), F16), np.zeros((2, 1), F16)
    args = qn8, rope[0], kn8, rope[1], (F32([0.1]), F32([0.1])), 1.0
    online = mla_attention_int8(*args)
    offline = mla_attention_int8(*args, p_scale=F32([1 / 127]))
    assert np.array_equal(online, offline)
