"""C8: keys and values cached as int8, one scale and offset per channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from slimspec.attention import attention_float, dequantize_kv, quantize_kv
from slimspec.numeric import as_float32, model_dtype, to_dtype
from slimspec.quantize.affine import Variant, qparams

from .attention_base import AttentionScheme, Batches, QuantizedAttention, register_attention


def channel_range(batches: Sequence[NDArray]) -> tuple[NDArray, NDArray]:
    """Return lo and hi of every channel over all batches.

    Args: batches [..., kv_dim], one float dtype. Returns: [kv_dim] each, of that dtype.
    """
    dtype = model_dtype(batches[0].dtype)
    rows = [as_float32(b).reshape(-1, b.shape[-1]) for b in batches]  # (tokens, kv_dim)
    lo = np.min([r.min(axis=0) for r in rows], axis=0)
    hi = np.max([r.max(axis=0) for r in rows], axis=0)
    return to_dtype(lo, dtype), to_dtype(hi, dtype)


def cache_rows(states: NDArray) -> NDArray:
    """Return what a cache holds as rows of channels: [b, kv, s, d] -> [b·s, kv·d]."""
    if states.ndim != 4:
        raise ValueError(f"cached states {states.shape}: expected [batch, heads, tokens, head_dim]")
    rows = states.transpose(0, 2, 1, 3)  # (b, s, kv, d)
    return np.ascontiguousarray(rows).reshape(-1, states.shape[1] * states.shape[3])


@register_attention
class C8(AttentionScheme):
    """scale = max(|lo|, |hi|) / 127 and offset 0; asymmetric with an offset. In the dtype D.

    "v0" observes the projections' outputs, before rotary embedding, over a run of the float model,
    and keeps running extremes; "v1" observes what goes into the cache, after it, and starts anew
    with every batch, so that only the last one counts (defects D-28 and D-8, in the files).
    Engines agree on an offset of 0 only.
    Source: math.md 9.1; formats.md 3.2 KV cache.
    """

    label = "C8"
    roles = ("k_proj", "v_proj")

    def quantize(
        self,
        batches: Batches,
        *,
        variant: Variant,
        name: str = "attention",
        symmetric: bool = True,
    ) -> QuantizedAttention:
        """Return scale and offset of keys and values.

        Args: batches: k_proj and v_proj -> "v0" outputs [..., kv_dim]; "v1" states [b, kv, s, d].
        Raises: ValueError for a missing role, NaN or infinity.
        """
        self._check_roles(batches, self.roles, name)
        values = {}
        for role in self.roles:
            seen = batches[role] if variant == "v0" else [cache_rows(batches[role][-1])]
            lo, hi = channel_range(seen)
            scale, offset = qparams(
                lo, hi, symmetric=symmetric, variant=variant, name=f"{name}.{role} output"
            )
            values[f"{role}.kv_cache_scale"], values[f"{role}.kv_cache_offset"] = scale, offset
        return QuantizedAttention(self.label, values, name)

    def round_trip(self, a: QuantizedAttention, role: str, states: NDArray) -> NDArray:
        """Return what is read back from the cache. Args: states [kv, s, d] of T. Returns: T."""
        heads, _, d = states.shape
        scale, offset = (a.need(f"{role}.kv_cache_{what}") for what in ("scale", "offset"))
        codes = quantize_kv(cache_rows(states[None]), scale, offset)
        rows = dequantize_kv(codes, scale, offset, states.dtype)
        return rows.reshape(-1, heads, d).transpose(1, 0, 2)  # (kv, s, d)

    def forward(self, a: QuantizedAttention, q: NDArray, k: NDArray, v: NDArray) -> NDArray:
        """Return attention over the cached keys and values, float otherwise."""
        keys, values = self.round_trip(a, "k_proj", k), self.round_trip(a, "v_proj", v)
        return attention_float(q, keys, values)
