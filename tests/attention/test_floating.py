"""Float attention and the pieces of softmax."""

import math

import numpy as np
import pytest

from slimspec.attention import attention_float
from slimspec.attention.floating import kv_head_of
from slimspec.attention.softmax import exponentials, normalized, row_max, row_sum

F16, F32 = np.float16, np.float32


def python_attention(q, k, v, scale):
    """Python floats (float64), head by head."""
    out = np.zeros((*q.shape[:2], v.shape[2]))
    for h in range(q.shape[0]):
        g = h // (q.shape[0] // k.shape[0])
        for t in range(q.shape[1]):
            dots = [scale * sum(map(float, q[h, t] * row)) for row in k[g]]
            p = [math.exp(d - max(dots)) for d in dots]
            for d in range(v.shape[2]):
                out[h, t, d] = sum(a * float(v[g, s, d]) for s, a in enumerate(p)) / sum(p)
    return out


@pytest.mark.parametrize(("h", "kv", "t", "s", "d"), [(1, 1, 1, 1, 1), (4, 2, 3, 7, 5)])
def test_agrees_with_python_floats(h, kv, t, s, d):
    rng = np.random.default_rng(1)
    q, k, v = (rng.normal(size=z).astype(F32) for z in ((h, t, d), (kv, s, d), (kv, s, d)))
    got = attention_float(q, k, v)
    assert got.dtype == F32
    # scores, exponentials, weighted sum, quotient: a handful of float32 roundings
    assert np.abs(got - python_attention(q, k, v, d**-0.5)).max() < 32 * 2.0**-24 * 4


def test_equal_keys_average_the_values():
    q, k = np.ones((1, 1, 2), F16), np.ones((1, 4, 2), F16)
    v = np.arange(8).reshape(1, 4, 2).astype(F16)
    assert attention_float(q, k, v).tolist() == [[[3, 4]]]


def test_masked_keys_have_no_weight_and_masked_rows_give_zero():
    q, k = np.ones((1, 2, 2), F32), np.ones((1, 3, 2), F32)
    v = np.arange(6).reshape(1, 3, 2).astype(F32)
    mask = F32([[0, -np.inf, -np.inf], [-np.inf] * 3])
    assert attention_float(q, k, v, mask=mask).tolist() == [[[0, 1], [0, 0]]]


def test_empty_cache_gives_zero():
    assert not attention_float(np.ones((1, 1, 2), F32), np.ones((1, 0, 2), F32),
                               np.ones((1, 0, 2), F32)).any()  # fmt: skip


def test_heads_are_grouped_in_order():
    assert kv_head_of(6, 2) == [0, 0, 0, 1, 1, 1]
    assert kv_head_of(0, 0) == []
    with pytest.raises(ValueError, match="divide"):
        kv_head_of(5, 2)


def test_dtype_of_every_step():
    scores = F32([[0, 1]])
    p = exponentials(scores, row_max(scores))
    assert {row_max(scores).dtype, p.dtype, row_sum(p).dtype} == {np.dtype(F32)}
    assert normalized(p, row_sum(p)).dtype == F32
    assert p.tolist() == [[float(F32(math.exp(-1))), 1.0]]
