"""Grouped-query attention with rotary positions, step by step as eager torch computes it.

    S = T(T(q·kᵀ)·scale) + mask,  P = T(softmax(S)),  out = T(P·v)

Query head i reads key/value head i // (heads / kv_heads). `slimspec.attention.attention_float` is
the float32 definition without these intermediate roundings.

Source: transformers models/llama/modeling_llama.py (eager_attention_forward),
models/qwen3/modeling_qwen3.py (q_norm, k_norm per head).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, mul

from .cache import KVCache
from .numerics import Numerics
from .rope import cos_sin, rotate
from .scope import Scope


def causal(
    rows: NDArray[np.int64], columns: NDArray[np.int64], window: int = 0
) -> NDArray[np.bool_]:
    """Which columns a row must not see: later ones, and with a window those too far back.

    Args: places of queries (t,) and keys (s,) in the sequence. Returns: (t, s), True is hidden.
    """
    back = rows[:, None] - columns
    return (back < 0) | (back >= window) if window else back < 0


def attend(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    scale: float,
    hidden: NDArray[np.bool_] | None,
    numerics: Numerics,
) -> NDArray:
    """Attention of every head, rounded after each step.

    Args:
        q: (h, t, d) of T.
        k: (kv, s, d) of T.
        v: (kv, s, dv) of T.
        scale: factor on the scores.
        hidden: (t, s), True where a key must not be seen; None for all seen.
        numerics: T and the inner sums.

    Returns:
        (t, h·dv) of T.
    """
    h, t, _ = q.shape
    out = np.empty((t, h, v.shape[2]), q.dtype)
    for i in range(h):
        g = i // (h // len(k))
        scores = mul(numerics.batched(q[i], k[g].T), scale, numerics.dtype)
        if hidden is not None:
            scores = np.where(hidden, np.finfo(np.float32).min, as_float32(scores))
        out[:, i] = numerics.batched(numerics.softmax(scores), v[g])
    return out.reshape(t, h * v.shape[2])


def split_heads(x: NDArray, heads: int) -> NDArray:
    """(t, heads·d) to (heads, t, d)."""
    return x.reshape(x.shape[0], heads, x.shape[1] // heads).transpose(1, 0, 2)


def grouped_query_attention(
    scope: Scope,
    layer: int,
    prefix: str,
    x: NDArray,
    positions: NDArray[np.int64],
    cache: KVCache | None,
) -> NDArray:
    """Self-attention of a Llama, Qwen2 or Qwen3 layer.

    Args:
        scope: the layer in use.
        layer: its index.
        prefix: name of the attention module.
        x: (t, hidden) of T.
        positions: (t,) rotary positions.
        cache: earlier keys and values, extended here; None for none.

    Returns:
        (t, hidden) of T.
    """
    a = scope.architecture
    assert a.rope is not None
    parts = (("q", a.heads), ("k", a.kv_heads), ("v", a.kv_heads))
    q, k, v = (
        split_heads(scope.linear(f"{prefix}.{p}_proj", x, n * a.head_dim, a.attention_bias), n)
        for p, n in parts
    )
    if a.qk_norm:
        q, k = scope.rms_norm(f"{prefix}.q_norm", q), scope.rms_norm(f"{prefix}.k_norm", k)
    cos, sin = cos_sin(a.rope, positions, scope.turns or x.dtype)
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    return attend_and_project(scope, layer, prefix, (q, k, v), cache)


def attend_and_project(
    scope: Scope,
    layer: int,
    prefix: str,
    states: tuple[NDArray, NDArray, NDArray],
    cache: KVCache | None,
) -> NDArray:
    """Attention over cached and new keys, then o_proj. Args: states q, k, v. Returns: as above."""
    a = scope.architecture
    q, k, v = states if scope.states is None else scope.states(prefix, *states)
    if cache is not None:
        k, v = cache.extend(layer, k, v)
    t, s = q.shape[1], k.shape[1]
    window = a.window[layer] if layer < len(a.window) else 0
    hidden = causal(np.arange(s - t, s), np.arange(s), window)
    out = (scope.attend or attend)(q, k, v, a.softmax_scale, hidden, scope.numerics_of(q))
    return scope.linear(f"{prefix}.o_proj", out, a.hidden)
