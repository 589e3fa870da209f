"""Decode attention over an int8 cache: dequantize keys and values, then float attention.

    k̂ = T((k_q − k_offset)·k_scale),  v̂ likewise,  out = attention_float(q, k̂, v̂)

Source: integer_semantics.md B.10.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimspec.matmul.profiles import Numerics

from .floating import attention_float
from .kv_cache import Rule, dequantize_kv


@dataclass(frozen=True)
class Int8Cache:
    """Cached keys or values: q (s, kv_dim) int8, scale and offset (kv_dim,) float."""

    q: NDArray[np.int8]
    scale: NDArray
    offset: NDArray | float = 0.0


def decode_attention(
    q: NDArray,
    keys: Int8Cache,
    values: Int8Cache,
    kv_heads: int,
    softmax_scale: float | None = None,
    rule: Rule = "canonical",
    numerics: str | Numerics = "canonical",
) -> NDArray:
    """Attention of one new token over s cached ones.

    Args:
        q: (h, d) float16, bfloat16 or float32 (T).
        keys, values: caches of the same s; kv_dim = kv_heads·d.
        kv_heads: number of key/value heads.
        softmax_scale: default 1/√d.
        rule: how the cache is dequantized.
        numerics: profile name.

    Returns:
        (h, d) of T.

    Raises:
        TypeError, ValueError: dtype or shape is not the above.
    """
    k, v = (_heads(c, kv_heads, q.dtype, rule, numerics) for c in (keys, values))
    return attention_float(q[:, None, :], k, v, softmax_scale, numerics=numerics)[:, 0]


def _heads(
    cache: Int8Cache, kv_heads: int, dtype: np.dtype, rule: Rule, numerics: str | Numerics
) -> NDArray:
    """Dequantize and split the channels into heads: (s, kv_dim) -> (kv, s, d)."""
    x = dequantize_kv(cache.q, cache.scale, cache.offset, dtype, rule, numerics)
    if kv_heads < 1 or x.shape[1] % kv_heads:
        raise ValueError(f"kv_heads: {kv_heads} does not divide kv_dim={x.shape[1]}")
    return x.reshape(x.shape[0], kv_heads, x.shape[1] // kv_heads).transpose(1, 0, 2)  # (kv, s, d)
