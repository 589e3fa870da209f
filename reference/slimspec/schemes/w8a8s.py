"""W8A8S: static int8 whose weights were made sparse; stored dense, without a weight scale."""

from __future__ import annotations

from dataclasses import replace

from slimspec.quantize.minmax import IntegerWeight

from .base import register
from .records import Linear, Options, QuantizedLinear
from .w8a8 import W8A8


@register
class W8A8S(W8A8):
    """The arithmetic of W8A8 on weights whose bulk lies within ±7.

        q_x = clip(rint(x / input_scale + input_offset)),  acc = Σ q_x q_w
        y   = T((acc + quant_bias) · deq_scale)

    `quantize` makes the plain form, s = max|w| / 7 without outliers (open_outlier=False); integers
    with outliers up to ±127, from the low-bit or the co-sparse solver, go to `assemble`.
    Source: formats.md 3.2 W8A8S, 5.12 SP; math.md 7.1, 7.2.
    """

    label = "W8A8S"
    bits = 4

    def assemble(self, linear: Linear, weight: IntegerWeight, options: Options) -> QuantizedLinear:
        """Return the record without the weight scale, which no writer stores."""
        found = super().assemble(linear, weight, options)
        return replace(found, weight_scale=None, weight_offset=None)
