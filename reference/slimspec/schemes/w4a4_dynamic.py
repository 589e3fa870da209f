"""W4A4_DYNAMIC: int4 weights, activations quantized to int4 per token at run time."""

from __future__ import annotations

from numpy.typing import NDArray

from .base import register
from .forward import float_product, per_token_product
from .int4 import Int4Scheme
from .records import QuantizedLinear


@register
class W4A4Dynamic(Int4Scheme):
    """Symmetric weights, one code per byte; engines pack them when they load.

        weight_scale = max|w| / 7, weight_offset = 0
        y = T((Σ q_x q_w · weight_scale) · s_x + bias),  s_x = max|x| / 7 per token

    Source: math.md 6.4; formats.md 3.2 W4A4_DYNAMIC.
    """

    label = "W4A4_DYNAMIC"
    takes = frozenset({"group_size", "method"})

    def forward(self, q: QuantizedLinear, x: NDArray) -> NDArray:
        """Return y [m, n] for x [m, k], in the dtype of x."""
        scale = q.need("weight_scale")
        if scale.shape[-1] == 1:
            return per_token_product(x, q.weight, scale, q.bias, bits=self.bits)
        return float_product(x, self.dequantize(q), q.bias)
