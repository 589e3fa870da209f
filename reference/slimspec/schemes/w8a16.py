"""W8A16: int8 weights, float activations."""

from __future__ import annotations

from numpy.typing import NDArray

from .base import Scheme, register
from .forward import antiquantized_product
from .records import QuantizedLinear


@register
class W8A16(Scheme):
    """Weight-only, symmetric or asymmetric, per row, per group or per tensor; no data needed.

        q = clip(rint(w / weight_scale + weight_offset)),  ŵ = (q - weight_offset) · weight_scale

    The kernels add an antiquant offset instead: engines negate `weight_offset` when they load it.
    Source: math.md 6.1, 13.3; formats.md 3.2 W8A16.
    """

    label = "W8A16"
    takes = frozenset({"group_size", "symmetric", "per_tensor", "method"})
    from_inputs = ("gptq",)

    def forward(self, q: QuantizedLinear, x: NDArray) -> NDArray:
        """Return y [m, n] for x [m, k], in the dtype of x."""
        scale, offset = q.need("weight_scale"), q.need("weight_offset")
        return antiquantized_product(x, q.weight, scale, offset, q.bias)
