"""W8A8_DYNAMIC: int8 weights, activations quantized per token at run time."""

from __future__ import annotations

from numpy.typing import NDArray

from .base import Scheme, register
from .forward import float_product, per_token_product
from .records import QuantizedLinear


@register
class W8A8Dynamic(Scheme):
    """Symmetric weights; nothing of the activation is stored.

        weight_scale = max|w| / 127 per row (or group, or tensor), weight_offset = 0
        y = T((Σ q_x q_w · weight_scale) · s_x + bias),  s_x = max|x| / 127 per token

    Groups have no integer kernel: their forward is the float product of the dequantized weight.
    Source: math.md 1, 13.2; formats.md 3.2 W8A8_DYNAMIC.
    """

    label = "W8A8_DYNAMIC"
    takes = frozenset({"group_size", "per_tensor", "method"})
    from_inputs = ("gptq",)

    def forward(self, q: QuantizedLinear, x: NDArray) -> NDArray:
        """Return y [m, n] for x [m, k], in the dtype of x."""
        scale = q.need("weight_scale")
        if scale.shape[-1] == 1:
            return per_token_product(x, q.weight, scale, q.bias)
        return float_product(x, self.dequantize(q), q.bias)
