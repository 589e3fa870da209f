"""FAQuant: queries, keys and values of attention quantized per head with static scales."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slimspec.attention import attention_float, attention_int8, quantize_heads
from slimspec.numeric import as_float32, div, mul, to_dtype
from slimspec.numeric.fp8 import E4M3_MAX
from slimspec.observe.per_head import PerHeadObserver, per_head_qparams
from slimspec.quantize.affine import Variant
from slimspec.quantize.fp8 import fp8_scale, to_e4m3

from .attention_base import AttentionScheme, Batches, QuantizedAttention, register_attention

RATIOS = MappingProxyType({"fa_q": 0.9999, "fa_k": 0.9999, "fa_v": 1.0})  # of the samples kept

Element = Literal["int8", "fp8_e4m3"]


@register_attention
class FAQuant(AttentionScheme):
    """scale [heads, 1] and offset 0 for each of fa_q, fa_k, fa_v.

        int8      scale = max(|lo|, |hi|) / 127, offset int8
        fp8_e4m3  scale = max(|lo|, |hi|, 1e-12) / 448, offset float32 ("v1" only)

    lo, hi are the ends of the shortest window that holds a share of a head's samples. A role that
    is quantized at run time (per token) has no tensors. MLA has one head for keys and values.
    Source: math.md 9.2, 2.6; formats.md 3.2 FA.
    """

    label = "FAQuant"
    roles = ("fa_q", "fa_k", "fa_v")

    def quantize(
        self,
        batches: Batches,
        *,
        variant: Variant,
        name: str = "attention",
        element: Element = "int8",
        ratios: Mapping[str, float] = RATIOS,
    ) -> QuantizedAttention:
        """Return scale and offset of each role in `batches`.

        Args: batches: fa_q, fa_k, fa_v -> [b, h, s, d]; fa_k must be there.
        Raises: ValueError for a missing or unknown role, an element the variant does not have,
            NaN or infinity.
        """
        if variant == "v0" and element != "int8":
            raise ValueError(f"{name}: {self.label} of v0 is int8, not {element}")
        self._check_roles(batches, ("fa_k", *batches), name)
        ranges = {}
        for role, seen in batches.items():
            observer = PerHeadObserver(ratios.get(role, RATIOS[role]))
            for batch in seen:
                observer.update(batch)
            ranges[role] = observer.range()
        return self.from_ranges(ranges, element=element, name=name)

    def from_ranges(
        self,
        ranges: Mapping[str, tuple[NDArray, NDArray]],
        *,
        element: Element = "int8",
        name: str = "attention",
    ) -> QuantizedAttention:
        """Return the parameters of given lo, hi [h] or [h, 1] by role."""
        values: dict[str, NDArray] = {}
        offset_dtype = np.int8 if element == "int8" else np.float32
        for role, (lo, hi) in ranges.items():
            scale = per_head_qparams(lo, hi, element)[0][:, None]  # (h, 1)
            values[f"{role}.scale"] = scale
            values[f"{role}.offset"] = np.zeros(scale.shape, offset_dtype)
        return QuantizedAttention(self.label, values, name)

    def forward(self, a: QuantizedAttention, q: NDArray, k: NDArray, v: NDArray) -> NDArray:
        """Return the attention of int8 codes, or of values rounded to E4M3.

        Raises: ValueError for an int8 type without fa_q or fa_v.
        """
        if a.need("fa_k.offset").dtype == np.int8:
            q_scale, k_scale, v_scale = (a.need(f"{role}.scale") for role in self.roles)
            return attention_int8(
                quantize_heads(q, q_scale),
                quantize_heads(k, k_scale),
                quantize_heads(v, v_scale),
                (q_scale, k_scale, v_scale),
                out_dtype=q.dtype,
            )
        scale = a.values.get
        return attention_float(
            e4m3_heads(q, scale("fa_q.scale")),
            e4m3_heads(k, scale("fa_k.scale")),
            e4m3_heads(v, scale("fa_v.scale")),
        )


def e4m3_heads(x: NDArray, scale: NDArray | None) -> NDArray:
    """Round x [h, t, d] to E4M3 with one scale per head, or per token without one. Returns: T."""
    wide = as_float32(x)
    if scale is None:
        each = fp8_scale(np.abs(wide).max(axis=-1, keepdims=True))  # (h, t, 1)
    else:
        each = as_float32(scale)[:, None]  # (h, 1, 1)
        each = np.where(each == 0, np.float32(1), each)  # a float16 head of zeros
    ratio = np.clip(div(wide, each, np.float32), -E4M3_MAX, E4M3_MAX)
    return to_dtype(mul(to_e4m3(ratio).astype(np.float32), each, np.float32), x.dtype)


def quant_type(roles: Mapping[str, tuple[str, bool]]) -> str:
    """Return the value of `{attention}.quant_type`: roles of one kind joined, QKV left out.

    >>> quant_type({"Q": ("FP8", True), "K": ("FP8", False), "V": ("FP8", False)})
    'Q_FP8_DYNAMIC_KV_FP8'

    Args: roles: Q, K, V or P -> (element as INT8, FP8, MXFP4, MXFP8; quantized at run time).
    Raises: ValueError for another role.
    Source: formats.md 2.2; msmodelslim save/ascendv1.py:576-625.
    """
    if set(roles) - set("QKVP"):
        raise ValueError(f"roles {sorted(roles)}: expected some of Q, K, V, P")
    kinds: dict[tuple[str, bool], str] = {}
    for role in "QKVP":
        if role in roles:
            kinds[roles[role]] = kinds.get(roles[role], "") + role
    parts = []
    for (element, dynamic), joined in kinds.items():
        kind = f"{element}_DYNAMIC" if dynamic else element
        parts.append(kind if joined == "QKV" else f"{joined}_{kind}")
    return "_".join(parts)
