"""Multi-head latent attention of DeepSeek-V2 and -V3, keys and values expanded from the latent.

    q = W_qb·norm(W_qa·x),  [c, k_rope] = W_kva·x,  [k_nope, v] = W_kvb·norm(c)

Each head's key is its k_nope beside the one k_rope that all heads share.

Source: arXiv 2405.04434 section 2.1; DeepSeek-V3 repository, modeling_deepseek.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import add, as_float32, mul, to_dtype

from .attention import attend_and_project, causal, split_heads
from .cache import KVCache
from .rope import cos_sin, halves_of_pairs, rotate
from .scope import Scope

LATENT_EPS = 1e-6  # of q_a_layernorm and kv_a_layernorm, whatever rms_norm_eps says


def latent_attention(
    scope: Scope,
    layer: int,
    prefix: str,
    x: NDArray,
    positions: NDArray[np.int64],
    cache: KVCache | None,
) -> NDArray:
    """Self-attention of a DeepSeek layer; arguments and result as grouped_query_attention."""
    a = scope.architecture
    assert a.latent is not None
    assert a.rope is not None
    sizes, bias = a.latent, a.attention_bias
    cos, sin = cos_sin(a.rope, positions, scope.turns or x.dtype)
    q = split_heads(_queries(scope, prefix, x), a.heads)  # (h, t, nope + rope)
    down = scope.linear(f"{prefix}.kv_a_proj_with_mqa", x, sizes.kv_rank + sizes.rope, bias)
    latent, k_rope = np.split(down, [sizes.kv_rank], axis=1)
    latent = scope.rms_norm(f"{prefix}.kv_a_layernorm", latent, LATENT_EPS)
    if scope.absorb is not None and scope.absorb(prefix):
        turn = cos_sin(a.rope, positions, q.dtype)
        return _absorbed(scope, prefix, q, latent, halves_of_pairs(k_rope[None]), turn)
    up = scope.linear(f"{prefix}.kv_b_proj", latent, a.heads * (sizes.nope + sizes.value))
    k_nope, v = np.split(split_heads(up, a.heads), [sizes.nope], axis=2)  # (h, t, ·)
    k_rope = rotate(halves_of_pairs(k_rope[None]), cos, sin)  # (1, t, rope)
    q_nope, q_rope = np.split(q, [sizes.nope], axis=2)
    q = np.concatenate([q_nope, rotate(halves_of_pairs(q_rope), cos, sin)], axis=2)
    q, k_rope = to_dtype(q, v.dtype), to_dtype(k_rope, v.dtype)  # kv_b_proj may stay 16-bit
    shared = np.broadcast_to(k_rope, (a.heads, *k_rope.shape[1:]))
    k = np.concatenate([k_nope, shared], axis=2)  # (h, t, nope + rope)
    return attend_and_project(scope, layer, prefix, (q, k, v), cache)


def _absorbed(
    scope: Scope,
    prefix: str,
    q: NDArray,
    latent: NDArray,
    k_rope: NDArray,
    turn: tuple[NDArray, NDArray],
) -> NDArray:
    """Attention in the latent: (q_nope·W_k)·cᵀ beside q_rope·k_ropeᵀ, and values W_v·(p·c).

    The eager steps, each rounded to T, over a whole text. The states are the absorbed queries and
    the one latent that is both key and value of all heads.

    Args: q (h, t, nope + rope); latent (t, rank); k_rope (1, t, rope) before rotation; turn: its
        cosines and sines. Returns: (t, hidden) of T.
    Source: arXiv 2405.04434 section 2.1.2; msmodelslim model/deepseek_v3/model_adapter.py
    (inject_fa3_placeholders).
    """
    a, numerics = scope.architecture, scope.numerics_of(q)
    assert a.latent is not None
    sizes, dtype = a.latent, q.dtype
    weight = scope.parameter(f"{prefix}.kv_b_proj.weight", (-1, sizes.kv_rank))
    keys, values = np.split(
        weight.reshape(a.heads, sizes.nope + sizes.value, -1), [sizes.nope], axis=1
    )  # (h, nope, rank), (h, value, rank)
    q_nope, q_rope = np.split(q, [sizes.nope], axis=2)
    q_rope = rotate(halves_of_pairs(q_rope), *turn)
    k_rope = rotate(k_rope, *turn)[0]
    absorbed = np.stack(
        [
            numerics.product(part, numerics.prepared(np.ascontiguousarray(w.T)))
            for part, w in zip(q_nope, keys, strict=True)
        ]
    )  # (h, t, rank)
    shared = latent[None]
    if scope.states is not None:
        absorbed, shared, _ = scope.states(prefix, absorbed, shared, shared)
    c, hidden = shared[0], causal(np.arange(len(latent)), np.arange(len(latent)))
    out = []
    for turned, inner, w in zip(q_rope, absorbed, values, strict=True):
        scores = add(
            numerics.product(turned, numerics.prepared(k_rope)),
            numerics.product(inner, numerics.prepared(c)),
            dtype,
        )
        scores = mul(scores, a.softmax_scale, dtype)
        scores = np.where(hidden, np.finfo(np.float32).min, as_float32(scores))
        by_rank = numerics.prepared(np.ascontiguousarray(c.T))
        mixed = numerics.product(numerics.softmax(scores), by_rank)  # (t, rank)
        out.append(numerics.product(mixed, numerics.prepared(w)))
    joined = np.concatenate(out, axis=1)  # (t, h·value)
    return scope.linear(f"{prefix}.o_proj", joined, a.hidden)


def _queries(scope: Scope, prefix: str, x: NDArray) -> NDArray:
    """Queries of all heads, through the latent of the queries where there is one."""
    a = scope.architecture
    assert a.latent is not None
    if not a.latent.q_rank:
        return scope.linear(f"{prefix}.q_proj", x, a.heads * a.head_dim)
    down = scope.linear(f"{prefix}.q_a_proj", x, a.latent.q_rank, a.attention_bias)
    down = scope.rms_norm(f"{prefix}.q_a_layernorm", down, LATENT_EPS)
    return scope.linear(f"{prefix}.q_b_proj", down, a.heads * a.head_dim)
