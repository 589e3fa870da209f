"""W4A16: int4 weights, float activations."""

from __future__ import annotations

from numpy.typing import NDArray

from .base import register
from .forward import antiquantized_product
from .int4 import Int4Scheme
from .records import QuantizedLinear


@register
class W4A16(Int4Scheme):
    """Weight-only, symmetric or asymmetric, per row or per group.

        q = clip(rint(w / weight_scale + weight_offset), -8, 7)
        ŵ = (q - weight_offset) · weight_scale

    L0 stores one code per byte; A0 pairs columns where weight_scale is [n, 1], rows otherwise.
    Source: math.md 6.2, 13.3; formats.md 3.0 (6), 3.2 W4A16.
    """

    label = "W4A16"
    takes = frozenset({"group_size", "symmetric", "per_tensor"})

    def forward(self, q: QuantizedLinear, x: NDArray) -> NDArray:
        """Return y [m, n] for x [m, k], in the dtype of x."""
        scale, offset = q.need("weight_scale"), q.need("weight_offset")
        return antiquantized_product(x, q.weight, scale, offset, q.bias)
